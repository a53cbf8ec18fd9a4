"""The page of a tuning: the choice, its cross-validated result, and the effect of each setting."""

import os
from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from system import __version__
from system.config import TuneConfig
from system.files import open_atomic
from system.report.svg import WIDTH, Plot, figure, padded, thin
from system.report.template import template
from system.tuning.objective import Objective
from system.tuning.results import Found, Tuned
from system.tuning.search import ALL, STARTUP, without
from system.tuning.space import Points

BINS = 10  # bins of a branch's share of the weights
COLOURS = 7  # unit0 to unit6 of the style sheet


def write_page(path: str | os.PathLike, objective: Objective, found: Found, tuned: Tuned, tune: TuneConfig) -> None:
    """Writes the page atomically; the same trials give the same page."""
    points, measures = found[ALL]
    scores = objective.score(measures)
    # Trials that are biased neither towards high scores nor towards the configured values.
    even = objective.space.spread(len(points) if tune.sampler == "sobol" else min(STARTUP, len(points)))
    text = template("tuning.html.j2").render(
        tuned=tuned,
        tune=tune,
        machines=objective.machines,
        trials=len(points),
        history=history_chart(objective, found),
        keys=[(name, f"unit{min(number, COLOURS - 1)}") for number, name in enumerate(objective.machines, 1)],
        folds=folds_chart(tuned),
        importance=importance_chart(importance(objective, points[even], scores[even])),
        slices=_slices(objective, points, scores),
        version=__version__,
    )
    with open_atomic(path) as file:
        file.write(text)


def history_chart(objective: Objective, found: Found) -> Markup:
    """Best official score so far against the number of trials, over all machines and over those of each fold."""
    lines = [(ALL, "both", np.maximum.accumulate(objective.score(found[ALL][1])))]
    for number, machine in enumerate(objective.machines, 1):
        others = [other for other in objective.machines if other != machine]
        scores = objective.score(found.get(without(machine), found[ALL])[1], others)
        lines.append((machine, f"unit{min(number, COLOURS - 1)}", np.maximum.accumulate(scores)))
    last = max(2, len(lines[0][2]))
    powers = [10**n for n in range(len(str(last)))]
    plot = Plot(
        (0.0, float(np.log10(last)) * 1.04),
        padded([100 * value for _, _, best in lines for value in (best[0], best[-1])]),
        x_label="trials",
        y_label="best official score so far (%)",
        x_ticks=[],
    )
    for power in powers:
        plot.text(plot.px(float(np.log10(power))), 184, f"{power:,}", "tick mid")
    for _, css, best in lines[::-1]:
        steps = np.unique(np.concatenate([np.flatnonzero(np.diff(best, prepend=-1.0)), [len(best) - 1]]))
        xs = np.repeat(np.log10(steps + 1.0), 2)[1:]
        plot.line(xs.tolist(), (100 * np.repeat(best[steps], 2)[:-1]).tolist(), css)
    return figure("Best official score so far against the number of trials", (WIDTH, 206), [plot])


def folds_chart(tuned: Tuned) -> Markup:
    """For each machine, the scores of the choice by the others, of the final choice and of the untuned
    configuration.
    """
    values = [100 * value for f in tuned.folds for value in (f.held_out, f.final, f.untuned)]
    height = 26 * len(tuned.folds)
    plot = Plot(
        padded([50.0, *values]), (0, len(tuned.folds)), (84, 8, 264, height), "official score (%)", "", None, []
    )
    plot.rule(50.0, "chance")
    for number, fold in enumerate(tuned.folds):
        y = len(tuned.folds) - number - 0.5
        plot.text(78, plot.py(y) + 4, fold.machine if len(fold.machine) <= 12 else fold.machine[:11] + "…", "tick end")
        plot.line([100 * fold.held_out, 100 * fold.final], [y, y], "faint")
        plot.dots([100 * fold.final], [y], "anomaly large")
        plot.dots([100 * fold.held_out], [y], "normal large")
        plot.dots([100 * fold.untuned], [y], "both", "cross")
    return figure("Official score of each machine, held out and in-sample", (WIDTH, height + 44), [plot])


def importance(objective: Objective, points: Points, scores: np.ndarray) -> dict[str, float]:
    """Share of the variance of the official score that each setting explains alone, at least 0.

    The variance of the means over a setting's values (for weights: shares in ``BINS`` bins) divided by the total
    variance, minus the share that random groups of the same number would explain.
    """
    space = objective.space
    common = (("view", space.views, points.views), ("fusion", space.fusions, points.fusions))
    settings = {name: values for name, options, values in common if len(options) > 1}
    shares = points.weights / points.weights.sum(axis=1, keepdims=True)
    for number, (branch, labels) in enumerate(objective.space.scorers.items()):
        if len(labels) > 1:
            settings[f"{branch}: scorer"] = points.scorers[:, number]
        if len(objective.space.scorers) > 1:
            settings[f"{branch}: weight"] = np.minimum((shares[:, number] * BINS).astype(int), BINS - 1)
    return {name: _explained(values, scores) for name, values in settings.items()}


def _explained(values: np.ndarray, scores: np.ndarray) -> float:
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    total = float(((scores - scores.mean()) ** 2).sum())
    if not total or len(scores) <= len(counts):
        return 0.0
    means = np.bincount(groups, weights=scores) / counts
    between = float((counts * (means - scores.mean()) ** 2).sum())
    chance = (len(counts) - 1) * (total - between) / (len(scores) - len(counts))
    return max(0.0, (between - chance) / total)


def importance_chart(shares: Mapping[str, float]) -> Markup:
    """Bars of the shares, most important setting first."""
    rows = sorted(shares.items(), key=lambda item: -item[1])
    high = max([10.0, *(110 * share for _, share in rows)])
    height = 22 * max(1, len(rows))
    plot = Plot((0, high), (0, len(rows)), (104, 8, 244, height), "variance explained alone (%)", "", None, [])
    for number, (name, share) in enumerate(rows):
        y = len(rows) - number - 0.5
        plot.text(98, plot.py(y) + 4, name if len(name) <= 17 else name[:16] + "…", "tick end")
        plot.line([0, 100 * share], [y, y], "normal bar")
    return figure("Share of the variance that each setting explains", (WIDTH, height + 44), [plot])


def _slices(objective: Objective, points: Points, scores: np.ndarray) -> list[dict]:
    """Charts of each branch: score against its share of the weights, and the best score with each scorer."""
    shares = points.weights / points.weights.sum(axis=1, keepdims=True)
    limits = padded(100 * scores)
    found = []
    for number, (branch, labels) in enumerate(objective.space.scorers.items()):
        chosen = thin(len(scores), 1500)
        plot = Plot((-0.02, 1.02), limits, x_label=f"share of {branch}", y_label="official score (%)")
        plot.dots(shares[chosen, number].tolist(), (100 * scores[chosen]).tolist(), "normal small")
        used = points.weights[:, number] > 0
        best = [
            (label, 100 * float(scores[rows].max()), 100 * float(np.median(scores[rows])))
            for place, label in enumerate(labels)
            if (rows := used & (points.scorers[:, number] == place)).any()
        ]
        best.sort(key=lambda row: -row[1])
        found.append({"branch": branch, "share": figure(f"{branch}: score against weight", (WIDTH, 206), [plot])})
        found[-1]["scorers"] = _scorers_chart(branch, best)
    return found


def _scorers_chart(branch: str, rows: list[tuple[str, float, float]]) -> Markup:
    left, height = 176, 18 * len(rows)
    values = [value for _, *pair in rows for value in pair]
    plot = Plot(
        padded(values), (0, len(rows)), (left, 8, WIDTH - left - 12, height), "official score (%)", "", None, []
    )
    for number, (label, best, median) in enumerate(rows):
        y = len(rows) - number - 0.5
        text = label.replace("bank=", "").replace("standardize=True", "std").replace(" standardize=False", "")
        plot.text(left - 6, plot.py(y) + 4, text if len(text) <= 26 else text[:25] + "…", "tick end")
        plot.line([median, best], [y, y], "normal")
        plot.dots([best], [y], "normal large")
    return figure(f"{branch}: best and median score with each scorer", (WIDTH, height + 44), [plot])
