"""SIREN anomaly detection: the DCASE Task 2 sets of 2020 to 2025 by the nearest training clip (ECHO paper, section 4).

Scores as those of RMIS without normalisation. The year's score is one mean over all areas of all sections of both the
development and the evaluation set: arithmetic for 2020, harmonic from 2021 on.
"""

from dataclasses import dataclass

import numpy as np

from system.benchmarks.anomaly import ONE_BANK, TWO_BANKS, areas, bank_distances, check_year, sections
from system.benchmarks.embedding_tables import Machines
from system.benchmarks.protocols import CLEAN, check_mode
from system.evaluation import metrics
from system.evaluation.metrics import BOTH, SOURCE, TARGET, Measure

# As coded, for 2022 and later.
DOMAIN_WISE = {
    "AUC (source)": Measure(SOURCE, SOURCE),
    "AUC (target)": Measure(TARGET, TARGET),
    "pAUC": Measure(BOTH, BOTH, partial=True),
}


@dataclass(frozen=True)
class Detection:
    """In percent: ``score`` of the year; ``sections``: areas by subset, machine and section; ``means``: the year's mean
    over the areas of each machine, by subset and machine. ``scores`` (N,): of the test clips, NaN elsewhere."""

    score: float
    sections: dict[str, dict[str, dict[str, dict[str, float]]]]
    means: dict[str, dict[str, float]]
    scores: np.ndarray


def changes(mode: str, year: int) -> list[str]:
    """In words, what ``clean`` does differently in a year."""
    if check_mode(mode) or year < 2022:
        return []
    return [
        "the anomalous clips of both domains stand against the normal clips of either, the challenge's rule since 2022 "
        "(as coded: those of that domain only)"
    ]


def detect(clips: Machines, year: int, mode: str = CLEAN) -> Detection:
    """Scores the test clips of every section and measures them.

    Args:
        year: 2020 to 2025. mode: ``clean``, or ``as-coded``; see ``changes``.

    Raises WheeltapperError for a section without the training or test clips that the measures need.
    """
    rule, as_coded = check_year(year), check_mode(mode)
    measures = {name: rule.measures[name] for name in rule.official}
    if as_coded and year >= 2022:
        measures = DOMAIN_WISE
    scores = np.full(len(clips.files), np.nan)
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for section in sections(clips):
        scores[section.test] = bank_distances(clips, section, TWO_BANKS if rule.domains else ONE_BANK).min(axis=0)
        columns = areas(clips, section, scores[section.test], measures)
        found.setdefault(section.subset, {}).setdefault(section.machine, {})[section.name] = columns
    values = {
        subset: {machine: [v for each in own.values() for v in each.values()] for machine, own in machines.items()}
        for subset, machines in found.items()
    }
    return Detection(
        _mean([value for machines in values.values() for own in machines.values() for value in own], rule),
        found,
        {subset: {m: _mean(own, rule) for m, own in machines.items()} for subset, machines in values.items()},
        scores,
    )


def _mean(values: list[float], rule: metrics.ScoreRule) -> float:
    return float(metrics.harmonic_mean(values) if rule.harmonic else np.mean(values))
