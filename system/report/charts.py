"""Charts of scores: histograms, ROC curves, comparison of systems, published results, false alarms."""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from system.evaluation import roc
from system.report.svg import WIDTH, Plot, figure, histogram, histogram_edges, padded, thin

LEFT, INNER = 44, 304  # left edge and width of a chart's frame in px
PAPER_DOMAINS = ("source", "target", "")


def score_histogram(
    name: str, scores: np.ndarray, anomalous: np.ndarray, domains: np.ndarray, threshold: float | None
) -> Markup:
    """Histogram of the scores of a machine's healthy and anomalous test clips, one row per domain. Arrays (N,)."""
    edges, cut_low, cut_high = histogram_edges(scores)
    rows = [domain for domain in PAPER_DOMAINS if np.any(domains == domain)]
    plots: list[Plot] = []
    for number, domain in enumerate(rows):
        inside = domains == domain
        healthy = histogram(scores[inside & ~anomalous], edges)
        faulty = histogram(scores[inside & anomalous], edges)
        top, last = 16 + 94 * number, number == len(rows) - 1
        plot = Plot(
            (edges[0], edges[-1]),
            (0, 1.1 * max(1, healthy.max(), faulty.max())),
            (LEFT, top, INNER, 72),
            x_label="anomaly score" if last else "",
            y_label="clips",
            x_ticks=None if last else [],
            y_ticks=[0, int(max(1, healthy.max(), faulty.max()))],
        )
        plot.steps(edges, healthy, "normal")
        plot.steps(edges, faulty, "anomaly")
        if domain:
            plot.text(LEFT + 2, top - 4, f"{domain} domain", "label")
        _alarm_line(plot, threshold)
        plots.append(plot)
    height = 16 + 94 * len(rows) + 22
    parts: list[Plot | str] = [*plots, _outliers(cut_low, cut_high, height + 10)]
    return figure(f"{name}: histogram of anomaly scores by domain and label", (WIDTH, height + 16), parts)


def anonymous_histogram(
    name: str, scores: np.ndarray, references: np.ndarray, threshold: float | None, cap: float = 1.15
) -> Markup:
    """Histogram of unlabelled test clips (N,) and normal references (M,), as shares of their numbers."""
    edges, cut_low, cut_high = histogram_edges(np.concatenate([scores, references]))
    tested = 100 * histogram(scores, edges) / max(1, len(scores))
    known = 100 * histogram(references, edges) / max(1, len(references))
    plot = Plot(
        (edges[0], edges[-1]),
        (0, cap * max(1.0, tested.max(), known.max())),
        (LEFT, 16, INNER, 130),
        x_label="anomaly score",
        y_label="% of clips",
    )
    plot.steps(edges, known, "reference")
    plot.steps(edges, tested, "normal")
    _alarm_line(plot, threshold)
    parts: list[Plot | str] = [plot, _outliers(cut_low, cut_high, 188)]
    return figure(f"{name}: histogram of anomaly scores of references and test clips", (WIDTH, 194), parts)


def _alarm_line(plot: Plot, threshold: float | None) -> None:
    if threshold is None:
        return
    plot.rule(min(max(threshold, plot.x[0]), plot.x[1]), "alarm")
    if plot.box[1] < 20:  # once per figure
        plot.text(LEFT + INNER - 2, plot.box[1] - 4, f"alarm above {threshold:.2f}", "tick end")


def _outliers(cut_low: bool, cut_high: bool, y: float) -> str:
    ends = [text for text, cut in (("first", cut_low), ("last", cut_high)) if cut]
    if not ends:
        return ""
    return f'<text class="tick mid" x="{LEFT + INNER / 2}" y="{y}">{" and ".join(ends)} bar: all beyond</text>'


def roc_points(scores: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the ROC curve, false-alarm rate and share of anomalies found, each (groups + 1,), from (0, 0)."""
    groups, size = roc.tie_groups(scores)
    normal = np.bincount(groups[~anomalous], minlength=size)
    hits = np.bincount(groups[anomalous], minlength=size)
    alarms = np.concatenate([[0.0], np.cumsum(normal) / max(1, normal.sum())])
    return alarms, np.concatenate([[0.0], np.cumsum(hits) / max(1, hits.sum())])


def roc_chart(
    name: str, scores: np.ndarray, anomalous: np.ndarray, domains: np.ndarray, decided: np.ndarray | None
) -> Markup:
    """ROC curve with the region of the partial AUC shaded; if domains are known, normal clips of each against all
    anomalies.
    """
    plot = Plot(
        (0, 1), (0, 1), (LEFT, 10, INNER, 190), "false alarms among healthy clips", "anomalies found", None, [0, 0.5, 1]
    )
    alarms, hits = roc_points(scores, anomalous)
    limit = roc.MAX_FPR
    inside = alarms < limit
    xs = np.append(alarms[inside], limit)
    ys = np.append(hits[inside], np.interp(limit, *_increasing(alarms, hits)))
    plot.area(xs, np.zeros(len(xs)), ys, "both")
    plot.rule(limit, "faint")
    plot.line([0, 1], [0, 1], "chance")
    plot.text(plot.px(limit) + 4, 196, f"pAUC: up to {limit:g}", "tick")
    for domain in ("source", "target"):
        chosen = anomalous | (domains == domain)
        if (chosen & ~anomalous).any() and not chosen.all():
            plot.line(*_thinned(*roc_points(scores[chosen], anomalous[chosen])), domain)
    plot.line(*_thinned(alarms, hits), "both")
    if decided is not None and (~anomalous).any() and anomalous.any():
        plot.dots([decided[~anomalous].mean()], [decided[anomalous].mean()], "both operating")
    return figure(f"{name}: anomalies found against false alarms", (WIDTH, 242), [plot])


def _increasing(alarms: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve with one point per false-alarm rate, the highest, for interpolation."""
    last = np.append(np.diff(alarms) > 0, True)
    return alarms[last], hits[last]


def _thinned(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = thin(len(xs))
    return xs[chosen], ys[chosen]


def systems_chart(
    rows: Sequence[tuple[str, float, Sequence[float] | None]],
    marks: Mapping[str, float],
    title: str = "Official score of each system with its interval",
    x_label: str = "official score (%)",
) -> Markup:
    """Chart of scores (name, score, interval or None) in percent as dots with whiskers; ``marks`` are other results."""
    values = [v for _, score, interval in rows for v in (score, *(interval or ()))] + [50.0, *marks.values()]
    low, high = padded(values, 0.08)
    height = 26 * len(rows) + 14 * len(marks) + 10
    plot = Plot((low, high), (0, len(rows)), (104, 8 + 14 * len(marks), 244, 26 * len(rows)), x_label, "", None, [])
    plot.rule(50.0, "chance")
    for number, (name, value) in enumerate(marks.items()):
        plot.rule(value, "published")
        right = plot.px(value) > 200
        plot.text(plot.px(value), 16 + 14 * number, f"{name} {value:.2f}", "tick end" if right else "tick")
    for number, (name, score, interval) in enumerate(rows):
        y = len(rows) - number - 0.5
        plot.text(98, plot.py(y) + 4, _short(name), "tick end")
        if interval:
            plot.line(list(interval), [y, y], "both thick")
        plot.dots([score], [y], "both large")
    return figure(title, (WIDTH, height + 38), [plot])


def false_alarm_chart(rows: Sequence[tuple[str, float | None, float | None]], asked: float) -> Markup:
    """Chart of requested and actual false-alarm rates: (machine, among references, among healthy test clips),
    fractions.
    """
    found = [100 * value for _, *values in rows for value in values if value is not None]
    high = max(20.0, *(1.1 * value for value in [100 * asked, *found]))
    high = min(high, 104.0)
    box = (110, 22, 238, 22 * len(rows))
    plot = Plot((-0.03 * high, high), (0, len(rows)), box, "false alarms (%)", "", None, [])
    plot.rule(100 * asked, "alarm")
    plot.text(plot.px(100 * asked), 16, f"asked {100 * asked:g} %", "tick mid")
    for number, (name, among_references, among_tests) in enumerate(rows):
        y = len(rows) - number - 0.5
        plot.text(104, plot.py(y) + 4, _short(name), "tick end")
        if among_references is not None:
            plot.dots([100 * among_references], [y], "reference", "triangle")
        if among_tests is not None:
            plot.dots([100 * among_tests], [y], "normal large")
    return figure("False alarms asked and found, by machine", (WIDTH, 22 * len(rows) + 60), [plot])


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def ranking_chart(title: str, rows: Sequence[tuple[str, float, bool]]) -> Markup:
    """Bars of systems by official score in percent (name, score, whether ours), best first; bars start at guessing."""
    rows = sorted(rows, key=lambda row: -row[1])
    low, high = padded([50.0, *(value for _, value, _ in rows)], 0.1)
    height = 22 * len(rows)
    plot = Plot((low, high), (0, len(rows)), (130, 8, 190, height), "official score (%)", "", None, [])
    plot.rule(50.0, "chance")
    for number, (name, value, own) in enumerate(rows):
        y = len(rows) - number - 0.5
        plot.text(124, plot.py(y) + 4, _short(name, 20), "tick end onband" if own else "tick end")
        plot.line([50.0, value], [y, y], "anomaly bar" if own else "reference bar")
        plot.text(plot.px(max(value, 50.0)) + 5, plot.py(y) + 4, f"{value:.2f}", "onband" if own else "tick")
    return figure(f"{title}: official scores, best first", (WIDTH, height + 44), [plot])


def gauge(score: float, interval: Sequence[float] | None, marks: Mapping[str, float]) -> Markup:
    """The official score (percent) on a bar from guessing to perfect; ``marks`` are published results."""
    low = (
        min(40.0, *(interval or [score]), score, *marks.values()) if marks else min(40.0, score, *(interval or [40.0]))
    )
    plot = Plot((5 * np.floor(low / 5), 100), (0, 1), (12, 30, 336, 16), "", "", [50, 60, 70, 80, 90, 100], [])
    left, top, width, height = plot.box
    plot.parts.insert(0, f'<rect class="track" x="{left}" y="{top}" width="{width}" height="{height}" rx="8"/>')
    if interval:
        x, right = plot.px(interval[0]), plot.px(interval[1])
        plot.parts.append(
            f'<rect class="band" x="{x:.1f}" y="{top}" width="{max(2.0, right - x):.1f}" height="{height}" rx="6"/>'
        )
    plot.rule(50, "chance")
    plot.text(plot.px(50), 24, "guessing", "tick mid")
    plot.text(plot.px(100), 24, "perfect", "tick end")
    for value in marks.values():
        plot.rule(value, "published")
    plot.dots([score], [0.5], "both huge")
    return figure(f"Official score {score:.2f} percent on a scale where 50 is guessing", (WIDTH, 64), [plot])


def small_gauge(name: str, score: float | None, interval: Sequence[float] | None) -> Markup:
    """A score (percent) on a bar from guessing to perfect, without numbers; an empty bar for None."""
    plot = Plot((40, 100), (0, 1), (2, 3, 196, 14), "", "", [], [])
    left, top, width, height = plot.box
    plot.parts = [f'<rect class="track" x="{left}" y="{top}" width="{width}" height="{height}" rx="7"/>']
    if score is None:
        return figure(f"{name}: no score", (200, 20), [plot])
    if interval:
        x, right = (plot.px(min(max(value, 40.0), 100.0)) for value in interval)
        plot.parts.append(
            f'<rect class="band" x="{x:.1f}" y="{top}" width="{max(2.0, right - x):.1f}" height="{height}" rx="6"/>'
        )
    plot.rule(50, "chance")
    plot.dots([min(max(score, 40.0), 100.0)], [0.5], "both large")
    return figure(f"{name}: {score:.0f} on a scale where 50 is guessing and 100 perfect", (200, 20), [plot])
