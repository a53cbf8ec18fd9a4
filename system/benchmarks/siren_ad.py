"""Anomaly detection of SIREN: DCASE Task 2 of 2020 to 2025 with the nearest training clip (ECHO paper, section 4).

Scores are those of RMIS without normalisation. The score of a year is one mean over all AUCs of all sections of the
development and evaluation sets: arithmetic for 2020, harmonic from 2021 on.
"""

from dataclasses import dataclass

import numpy as np

from system.benchmarks.anomaly import ONE_BANK, TWO_BANKS, areas, bank_distances, check_year, sections
from system.benchmarks.embedding_tables import Machines
from system.benchmarks.protocols import CLEAN, check_mode
from system.evaluation import metrics
from system.evaluation.metrics import BOTH, SOURCE, TARGET, Measure

# Measures of the published code from 2022 on.
DOMAIN_WISE = {
    "AUC (source)": Measure(SOURCE, SOURCE),
    "AUC (target)": Measure(TARGET, TARGET),
    "pAUC": Measure(BOTH, BOTH, partial=True),
}


@dataclass(frozen=True)
class SirenDetection:
    """Result of a year, in percent.

    Attributes:
        score: of the year.
        sections: AUCs by subset, machine and section.
        means: mean over the AUCs of each machine, by subset and machine.
        scores: scores of the test clips, (N,), NaN elsewhere.
    """

    score: float
    sections: dict[str, dict[str, dict[str, dict[str, float]]]]
    means: dict[str, dict[str, float]]
    scores: np.ndarray


def changes(mode: str, year: int) -> list[str]:
    """Sentences on the differences of ``clean`` in a year."""
    if check_mode(mode) or year < 2022:
        return []
    return [
        "the anomalous clips of both domains stand against the normal clips of either, the challenge's rule since 2022 "
        "(as coded: those of that domain only)"
    ]


def detect(clips: Machines, year: int, mode: str = CLEAN) -> SirenDetection:
    """Scores the test clips of every section and computes the metrics.

    Args:
        clips: embeddings and labels.
        year: 2020 to 2025.
        mode: ``clean`` or ``as-coded``; see ``changes``.

    Raises:
        WheeltapperError: a section lacks training or test clips that the metrics need.
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
    return SirenDetection(
        _mean([value for machines in values.values() for own in machines.values() for value in own], rule),
        found,
        {subset: {m: _mean(own, rule) for m, own in machines.items()} for subset, machines in values.items()},
        scores,
    )


def _mean(values: list[float], rule: metrics.ScoreRule) -> float:
    return float(metrics.harmonic_mean(values) if rule.harmonic else np.mean(values))
