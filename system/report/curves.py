"""Charts of training curves and of the gate's weights over time."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from system.report.load_run import Curve
from system.report.svg import WIDTH, Plot, figure, padded, thin

COLOURS = ("both", "source", "target")
FEW_WINDOWS = 40  # fewer are drawn as points too


def curve_chart(title: str, curve: Curve, columns: Sequence[tuple[str, str]], y_label: str) -> Markup | None:
    """Chart of columns (name in the file, text) of a training curve; None if none of them exists."""
    steps = curve.get("step")
    known = [(curve[name], text) for name, text in columns if name in curve and np.isfinite(curve[name]).any()]
    if steps is None or not known:
        return None
    chosen = thin(len(steps))
    _, high = padded(np.concatenate([values for values, _ in known]))
    end = max(float(steps[-1]), 1.0)
    plot = Plot((0, end), (0, high), (44, 28, 304, 142), "step", y_label)
    for number, (values, text) in enumerate(known):
        colour = COLOURS[number % len(COLOURS)]
        plot.line(steps[chosen], values[chosen], colour)
        left = 46 + 100 * number
        plot.parts.append(f'<path class="line {colour}" d="M{left} 12h16"/>')
        plot.text(left + 21, 16, text)
    return figure(f"{title}: {y_label} over the training steps", (WIDTH, 210), [plot])


def course_chart(
    name: str, starts: np.ndarray, seconds: float, scores: np.ndarray, threshold: float | None, worst: float
) -> Markup:
    """Chart of the scores of a recording's windows over time, the alarm level and the worst window.

    Args:
        name: of the recording.
        starts: of the windows in seconds, (N,).
        seconds: length of a window.
        scores: of the windows, (N,).
        threshold: alarm level, or None.
        worst: start of the worst window in seconds.
    """
    levels = [] if threshold is None else [threshold]
    plot = Plot(
        (0, float(starts[-1]) + seconds), padded([*scores, *levels]), (44, 16, 304, 90), "time (s)", "anomaly score"
    )
    low, high = plot.y
    plot.area([worst, worst + seconds], [low, low], [high, high], "anomaly")
    chosen = thin(len(starts))
    chosen = np.union1d(chosen, np.flatnonzero(starts == worst))
    plot.line(starts[chosen] + seconds / 2, scores[chosen], "both")
    if len(starts) < FEW_WINDOWS:
        plot.dots(starts + seconds / 2, scores, "both")
    if threshold is not None:
        left, _, width, _ = plot.box
        plot.parts.append(f'<path class="rule alarm" d="M{left} {plot.py(threshold):.1f}h{width}"/>')
        plot.text(left + width - 2, 12, f"alarm above {threshold:.2f}", "tick end")
    return figure(f"{name}: score of each window over time, the worst from {worst:.1f} s", (WIDTH, 142), [plot])


def gate_chart(
    name: str,
    profiles: Sequence[tuple[str, np.ndarray]],
    seconds: float,
    inputs: Sequence[str] = ("near", "far"),
    spread: tuple[np.ndarray, np.ndarray] | None = None,
    height: float = 120,
) -> Markup:
    """Chart of the weight of the first input over time; the second input has the remaining weight.

    Args:
        name: of the machine.
        profiles: (branch, weights (T,)).
        seconds: length of the clips.
        inputs: names of the two inputs.
        spread: lower and upper limits (T,) of most clips, for the first branch.
        height: of the frame in px.
    """
    slots = len(profiles[0][1])
    times = np.clip((np.arange(-0.5, slots + 1) * seconds) / slots, 0, seconds)  # centres of the slots, and both ends
    profiles = [(branch, np.pad(profile, 1, "edge")) for branch, profile in profiles]
    plot = Plot((0, seconds), (0, 1), (44, 10, 304, height), "time (s)", "weight", None, [0, 0.5, 1])
    first = profiles[0][1]
    plot.area(times, np.zeros(len(times)), first, "near")
    plot.area(times, first, np.ones(len(times)), "far")
    if spread:
        low, high = (np.pad(edge, 1, "edge") for edge in spread)
        plot.area(times, low, high, "both")
    for number, (_, profile) in enumerate(profiles):
        plot.line(times, profile, "both" if number == 0 else "both dashed")
    plot.text(52, height + 4, inputs[0], "tick onband")
    plot.text(52, 22, inputs[1], "tick onband")
    described = f"{name}: weight of the {inputs[0]} and the {inputs[1]} microphone over time"
    return figure(described, (WIDTH, height + 52), [plot])
