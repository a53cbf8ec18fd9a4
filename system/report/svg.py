"""Charts as inline SVG at the width of a phone; colours are CSS classes of the page.

SVG is written here, because a page must work without scripts and without a plotting library.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup, escape

WIDTH = 360  # px: one chart fills a phone; three fit side by side on a desktop
TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between low and high, at most about ``count``."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    rough = span / max(count, 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(s * size for s in TICK_STEPS if s * size >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def padded(values: Iterable[float], share: float = 0.05) -> tuple[float, float]:
    """Range of finite values with a margin on both sides; never empty."""
    finite = [float(value) for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    margin = share * (high - low) or 0.5 * max(abs(high), 1e-6)
    return low - margin, high + margin


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


Numbers = Sequence[float] | np.ndarray


class Plot:
    """One pair of axes in a figure. Takes data coordinates and collects SVG elements.

    Args:
        x: range of the data (low, high).
        y: range of the data (low, high).
        box: left, top, width and height of the frame in px.
        x_label: label of the axis.
        y_label: label of the axis.
        x_ticks: values to label; None chooses round numbers.
        y_ticks: values to label; None chooses round numbers.
        x_format: format of the tick labels, as in ``format``.
    """

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        box: tuple[float, float, float, float] = (44, 10, 304, 160),
        x_label: str = "",
        y_label: str = "",
        x_ticks: Sequence[float] | None = None,
        y_ticks: Sequence[float] | None = None,
        x_format: str = "g",
    ):
        self.x, self.y, self.box = x, y, box
        self.parts: list[str] = []
        self._axes(x_label, y_label, x_ticks, y_ticks, x_format)

    def px(self, value: float) -> float:
        """Horizontal position of a data value."""
        return self.box[0] + (value - self.x[0]) / (self.x[1] - self.x[0]) * self.box[2]

    def py(self, value: float) -> float:
        """Vertical position of a data value."""
        return self.box[1] + self.box[3] - (value - self.y[0]) / (self.y[1] - self.y[0]) * self.box[3]

    def _axes(self, x_label, y_label, x_ticks, y_ticks, x_format) -> None:
        left, top, width, height = self.box
        for value in ticks(*self.y, 4) if y_ticks is None else y_ticks:
            height_of = self.py(value)
            self.parts.append(f'<path class="gridline" d="M{_number(left)} {_number(height_of)}h{_number(width)}"/>')
            self.text(left - 5, height_of + 4, f"{value:g}", "tick end")
        for value in ticks(*self.x) if x_ticks is None else x_ticks:
            self.text(self.px(value), top + height + 14, format(value, x_format), "tick mid")
        self.parts.append(f'<path class="axis" d="M{_number(left)} {_number(top + height)}h{_number(width)}"/>')
        if x_label:
            self.text(left + width / 2, top + height + 29, x_label, "label mid")
        if y_label:
            x, y = _number(left - 32), _number(top + height / 2)
            self.parts.append(
                f'<text class="label mid" transform="translate({x} {y}) rotate(-90)">{escape(y_label)}</text>'
            )

    def text(self, x: float, y: float, text: str, css: str = "tick") -> None:
        """Text at a position in px."""
        self.parts.append(f'<text class="{css}" x="{_number(x)}" y="{_number(y)}">{escape(text)}</text>')

    def _points(self, xs: Numbers, ys: Numbers) -> list[str]:
        return [
            f"{_number(self.px(x))} {_number(self.py(y))}"
            for x, y in zip(xs, ys, strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]

    def line(self, xs: Numbers, ys: Numbers, css: str) -> None:
        """A line through the finite points."""
        points = self._points(xs, ys)
        if points:
            self.parts.append(f'<path class="line {css}" d="M{"L".join(points)}"/>')

    def area(self, xs: Numbers, low: Numbers, high: Numbers, css: str) -> None:
        """The space between two curves."""
        points = self._points(xs, high) + self._points(xs, low)[::-1]
        if points:
            self.parts.append(f'<path class="area {css}" d="M{"L".join(points)}z"/>')

    def steps(self, edges: Numbers, counts: Numbers, css: str) -> None:
        """A histogram: filled bars with an outline. edges: (n + 1,), counts: (n,)."""
        path = [f"M{_number(self.px(edges[0]))} {_number(self.py(0))}"]
        for right, count in zip(edges[1:], counts, strict=True):
            path.append(f"V{_number(self.py(count))}H{_number(self.px(right))}")
        self.parts.append(f'<path class="steps {css}" d="{"".join(path)}V{_number(self.py(0))}z"/>')

    def dots(self, xs: Numbers, ys: Numbers, css: str, shape: str = "circle") -> None:
        """Points as circles, triangles or crosses."""
        mark = {"circle": "h0", "triangle": "m0-3.6l3.6 6.2h-7.2z", "cross": "m-3-3l6 6m0-6l-6 6"}[shape]
        path = "".join(f"M{point}{mark}" for point in self._points(xs, ys))
        if path:
            self.parts.append(f'<path class="{shape} {css}" d="{path}"/>')

    def rule(self, value: float, css: str) -> None:
        """A vertical line across the frame at a value."""
        _, top, _, height = self.box
        self.parts.append(f'<path class="rule {css}" d="M{_number(self.px(value))} {_number(top)}v{_number(height)}"/>')


def figure(description: str, size: tuple[float, float], parts: Iterable[Plot | str]) -> Markup:
    """Plots (and SVG strings) as one picture with a description for screen readers."""
    body = "".join("".join(part.parts) if isinstance(part, Plot) else part for part in parts)
    width, height = (_number(side) for side in size)
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
        f"<title>{escape(description)}</title>{body}</svg>"
    )


def histogram_edges(values: np.ndarray) -> tuple[np.ndarray, bool, bool]:
    """Bin edges for the bulk of the values, and whether lower and higher values are collected in the outermost bins.

    Otherwise a few outliers would compress all other values into one bar.
    """
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = (float(q) for q in np.quantile(values, [0.02, 0.98]))
    reach = 0.75 * (inner_high - inner_low) or max(abs(inner_high), 1.0)
    cut_low, cut_high = low < inner_low - reach, high > inner_high + reach
    low, high = (inner_low - reach if cut_low else low), (inner_high + reach if cut_high else high)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    bins = int(np.clip(1.6 * np.sqrt(len(values)), 10, 28))
    return np.linspace(low, high, bins + 1), cut_low, cut_high


def histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts per bin; values outside the edges count in the outermost bins."""
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]


def thin(count: int, most: int = 400) -> np.ndarray:
    """Indices of at most ``most`` of ``count`` items, evenly spaced, including first and last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) if count else np.array([], int)
