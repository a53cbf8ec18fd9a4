"""The charts of how the networks learned: training curves, and which microphone the gate listens to."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from system.report.reading import Curve
from system.report.svg import WIDTH, Plot, figure, padded, thin

COLOURS = ("both", "source", "target")


def curve_chart(title: str, curve: Curve, columns: Sequence[tuple[str, str]], y_label: str) -> Markup | None:
    """Columns (name in the file, text) of a training curve over the steps; None where none is there."""
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


def gate_chart(name: str, profiles: Sequence[tuple[str, np.ndarray]], seconds: float) -> Markup:
    """Mean weight of the near microphone over time, (T,) for each branch; what is left goes to the far one."""
    slots = len(profiles[0][1])
    times = (np.arange(slots) + 0.5) * seconds / slots
    plot = Plot((0, seconds), (0, 1), (44, 10, 304, 120), "time (s)", "weight", None, [0, 0.5, 1])
    first = profiles[0][1]
    plot.area(times, np.zeros(slots), first, "near")
    plot.area(times, first, np.ones(slots), "far")
    for number, (_, profile) in enumerate(profiles):
        plot.line(times, profile, "both" if number == 0 else "both dashed")
    plot.text(52, 124, "near", "tick onband")
    plot.text(52, 22, "far", "tick onband")
    return figure(f"{name}: weight of the near and the far microphone over time", (WIDTH, 172), [plot])
