"""Anomaly detection of RMIS: DCASE Task 2 of 2020 to 2025 with the nearest training clip (FISHER paper, section 4).

The score of a clip is its cosine distance to the nearest normal training clip of its machine and section, or the
smaller one if source and target clips have separate banks. Each year has the metric of its challenge: means over
sections, machines, and development and evaluation set.
"""

from dataclasses import dataclass

import numpy as np

from system.benchmarks.anomaly import ONE_BANK, TWO_BANKS, MachineSection, areas, bank_distances, check_year, sections
from system.benchmarks.embedding_tables import SUBSETS, Machines
from system.benchmarks.protocols import CLEAN, check_mode
from system.evaluation import metrics

DIGITS = 2
Columns = dict[str, float]


@dataclass(frozen=True)
class Subset:
    """AUCs and their mean in percent.

    Attributes:
        machines: by machine.
        sections: by machine and section, for machines with several sections.
        mean: over the machines.
        score: of the subset.
    """

    machines: dict[str, Columns]
    sections: dict[str, dict[str, Columns]]
    mean: Columns
    score: float


@dataclass(frozen=True)
class RmisDetection:
    """Result of a year.

    Attributes:
        subsets: dev and eval, as far as the clips include them.
        total: mean over the subsets, None if one is missing.
        bank_scores: scores of the test clips in each bank, (banks, N), NaN elsewhere.
        scores: scores of the test clips, (N,), NaN elsewhere.
    """

    subsets: dict[str, Subset]
    total: float | None
    bank_scores: np.ndarray
    scores: np.ndarray


def changes(mode: str, year: int) -> list[str]:
    """Sentences on the differences of ``clean`` in a year."""
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


def detect(clips: Machines, year: int, mode: str = CLEAN) -> RmisDetection:
    """Scores the test clips of every section and computes the metrics of the year.

    Args:
        clips: embeddings and labels.
        year: 2020 to 2025.
        mode: ``clean`` or ``as-coded``; see ``changes``.

    Raises:
        WheeltapperError: a section lacks training or test clips that the metric needs.
    """
    rule, as_coded = check_year(year), check_mode(mode)
    banks = ONE_BANK if year == 2020 or (year == 2021 and as_coded) else TWO_BANKS
    bank_scores = np.full((len(banks), len(clips.files)), np.nan)
    measured: dict[MachineSection, Columns] = {}
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
    subsets: dict[str, Subset] = {
        name: _subset({key: columns for key, columns in measured.items() if key.subset == name}, rule, as_coded)
        for name in SUBSETS
        if name in clips.subset
    }
    total = None
    if len(subsets) == len(SUBSETS):
        total = _round(_mean([subset.score for subset in subsets.values()], rule), as_coded)
    return RmisDetection(subsets, total, bank_scores, bank_scores.min(axis=0))


def _subset(measured: dict[MachineSection, Columns], rule: metrics.ScoreRule, rounded: bool) -> Subset:
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
