"""Charts of attention distances and t-SNE maps."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from system.report.svg import WIDTH, Plot, figure, thin

FEW_POINTS = 250  # with fewer points, each is drawn larger
MOST_LABELS = 12  # maximum number of labelled layers


def distance_chart(name: str, distance: np.ndarray, even: float, high: float = 0.0) -> Markup:
    """Chart of mean attention distances: a dot per head, layers side by side, a dashed line at uniform attention.

    Args:
        name: of the network.
        distance: (L, H) in pixels.
        even: distance of uniform attention.
        high: lower limit for the top of the axis, to give several charts the same axis.
    """
    layers, heads = distance.shape
    labels = thin(layers, MOST_LABELS) + 1
    plot = Plot(
        (0.4, layers + 0.6),
        (0.0, 1.08 * max(high, even, float(distance.max()), 1.0)),
        (44, 10, 304, 190),
        "layer",
        "mean attention distance (pixels)",
        [int(label) for label in labels],
    )
    plot.line([0.4, layers + 0.6], [even, even], "reference dashed")
    plot.line(np.arange(1, layers + 1), distance.mean(1), "both faded")
    across = np.linspace(-0.24, 0.24, heads) if heads > 1 else np.zeros(1)
    plot.dots(np.add.outer(np.arange(1, layers + 1), across).ravel(), distance.ravel(), "normal")
    return figure(
        f"{name}: mean attention distance of the {heads} heads of each of {layers} layers, from "
        f"{distance.min():.0f} to {distance.max():.0f} pixels; even attention would give {even:.0f}",
        (WIDTH, 242),
        [plot],
    )


def tsne_chart(name: str, points: np.ndarray, groups: Sequence[tuple[np.ndarray, str, str]]) -> Markup:
    """Chart of a t-SNE map, without numbers on the axes, with the same scale on both.

    Args:
        name: for the description.
        points: (N, 2).
        groups: (mask (N,), colour, shape), in drawing order.
    """
    centre = (points.max(0) + points.min(0)) / 2
    reach = 0.54 * max(float(np.ptp(points, axis=0).max()), 1e-9)
    x, y = ((middle - reach, middle + reach) for middle in centre)
    plot = Plot(x, y, (8, 8, 344, 300), "", "", [], [])
    left, top, width, height = plot.box
    plot.parts = [f'<rect class="frame" x="{left}" y="{top}" width="{width}" height="{height}"/>']
    size = " small" if len(points) > FEW_POINTS else ""
    for mask, colour, shape in groups:
        plot.dots(points[mask, 0], points[mask, 1], colour + size, shape)
    return figure(f"{name}: t-SNE map of {len(points)} clips", (WIDTH, 316), [plot])
