"""RMIS anomaly detection: the DCASE Task 2 sets of 2020 to 2025 by the nearest training clip (FISHER paper, section 4).

A clip's score is its cosine distance to the nearest normal training clip of its machine and section, the smaller one
where source and target clips have banks of their own. Each year is measured as its challenge was, means within means:
sections, machines, development and evaluation set.
"""

from dataclasses import dataclass

import numpy as np

from system.benchmarks.anomaly import ONE_BANK, TWO_BANKS, Section, areas, bank_distances, check_year, sections
from system.benchmarks.embedding_tables import SUBSETS, Machines
from system.benchmarks.protocols import CLEAN, check_mode
from system.evaluation import metrics

DIGITS = 2
Columns = dict[str, float]


@dataclass(frozen=True)
class Subset:
    """Areas and their mean in percent by machine; of several sections each, and their mean. ``mean``: over machines."""

    machines: dict[str, Columns]
    sections: dict[str, dict[str, Columns]]
    mean: Columns
    score: float


@dataclass(frozen=True)
class Detection:
    """``subsets`` by dev and eval, those that the clips have. ``total``: their mean, None where one is missing.

    ``bank_scores`` (banks, N) and ``scores`` (N,): of the test clips, NaN elsewhere.
    """

    subsets: dict[str, Subset]
    total: float | None
    bank_scores: np.ndarray
    scores: np.ndarray


def changes(mode: str, year: int) -> list[str]:
    """In words, what ``clean`` does differently in a year."""
    if check_mode(mode):
        return []
    found = [f"figures are rounded to {DIGITS} decimals for display only (as coded: subsets before the total)"]
    if year == 2021:
        found.append(
            "source and target training clips have a bank each, as the paper says (as coded: one bank); the nearest of "
            "both being the nearest of all, no figure changes"
        )
    if year >= 2022:
        found.append(
            "the banks' distances are compared as they are (as coded: each bank's are normalised by mean and deviation "
            "over the section's test clips, which a detector does not have)"
        )
    return found


def detect(clips: Machines, year: int, mode: str = CLEAN) -> Detection:
    """Scores the test clips of every section and measures them by the year's rule.

    Args:
        year: 2020 to 2025. mode: ``clean``, or ``as-coded``; see ``changes``.

    Raises WheeltapperError for a section without the training or test clips that the rule needs.
    """
    rule, as_coded = check_year(year), check_mode(mode)
    banks = ONE_BANK if year == 2020 or (year == 2021 and as_coded) else TWO_BANKS
    bank_scores = np.full((len(banks), len(clips.files)), np.nan)
    measured: dict[Section, Columns] = {}
    for section in sections(clips):
        distances = bank_distances(clips, section, banks)
        if as_coded and year >= 2022:
            spread = np.maximum(distances.std(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            distances = (distances - distances.mean(axis=1, keepdims=True)) / spread
        bank_scores[:, section.test] = distances
        measures = {name: rule.measures[name] for name in rule.official}
        columns = areas(clips, section, distances.min(axis=0), measures)
        columns["hmean" if rule.harmonic else "mean"] = _mean(list(columns.values()), rule)
        measured[section] = columns
    subsets = {
        name: _subset({key: columns for key, columns in measured.items() if key.subset == name}, rule, as_coded)
        for name in SUBSETS
        if name in clips.subset
    }
    total = None
    if len(subsets) == len(SUBSETS):
        total = _round(_mean([subset.score for subset in subsets.values()], rule), as_coded)
    return Detection(subsets, total, bank_scores, bank_scores.min(axis=0))


def _subset(measured: dict[Section, Columns], rule: metrics.ScoreRule, rounded: bool) -> Subset:
    by_machine: dict[str, dict[str, Columns]] = {}
    for section, columns in measured.items():
        by_machine.setdefault(section.machine, {})[section.name] = columns
    machines = {machine: _column_means(list(found.values()), rule) for machine, found in by_machine.items()}
    mean = _rounded(_column_means(list(machines.values()), rule), rounded)
    return Subset(
        {machine: _rounded(columns, rounded) for machine, columns in machines.items()},
        {
            machine: {name: _rounded(each, rounded) for name, each in found.items()}
            for machine, found in by_machine.items()
        },
        mean,
        mean["hmean" if rule.harmonic else "mean"],
    )


def _column_means(rows: list[Columns], rule: metrics.ScoreRule) -> Columns:
    return {name: _mean([row[name] for row in rows], rule) for name in rows[0]}


def _mean(values: list[float], rule: metrics.ScoreRule) -> float:
    return float(metrics.harmonic_mean(values) if rule.harmonic else np.mean(values))


def _rounded(columns: Columns, rounded: bool) -> Columns:
    return {name: _round(value, rounded) for name, value in columns.items()}


def _round(value: float, rounded: bool) -> float:
    return round(value, DIGITS) if rounded else value
