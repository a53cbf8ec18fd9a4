"""Common parts of the anomaly detection of RMIS and SIREN: banks of training clips by section, and AUCs by domain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from system.benchmarks.embedding_tables import SUBSETS, Machines
from system.corpora.challenge import rule_of_year
from system.errors import WheeltapperError
from system.evaluation import metrics, roc
from system.evaluation.truth import DOMAINS

YEARS = range(2020, 2026)  # that RMIS and SIREN have, whatever years follow
ONE_BANK = (metrics.BOTH,)
TWO_BANKS = (metrics.SOURCE, metrics.TARGET)


@dataclass(frozen=True, eq=False)
class MachineSection:
    """One section of a machine in a subset, with the row indices of its training and test clips."""

    subset: str
    machine: str
    name: str
    train: np.ndarray
    test: np.ndarray

    def __str__(self) -> str:
        return f"{self.subset} {self.machine} section {self.name}"


def check_year(year: int) -> metrics.ScoreRule:
    """The challenge's rule of a year; WheeltapperError for a year that the benchmarks do not cover."""
    if year not in YEARS:
        raise WheeltapperError(f"year: expected {YEARS[0]} to {YEARS[-1]}, found {year}")
    return metrics.RULES[rule_of_year(year)]


def sections(clips: Machines) -> Iterator[MachineSection]:
    """The sections in order of first appearance, development machines first."""
    for subset in SUBSETS:
        rows = np.flatnonzero(clips.subset == subset)
        keys = dict.fromkeys(zip(clips.machine[rows], clips.section[rows], strict=True))
        for machine, name in keys:
            own = rows[(clips.machine[rows] == machine) & (clips.section[rows] == name)]
            test = clips.split[own] == "test"
            yield MachineSection(subset, str(machine), str(name), own[~test], own[test])


def bank_distances(clips: Machines, section: MachineSection, banks: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Cosine distance of each test clip of a section to the nearest training clip of each bank.

    Args:
        clips: all clips.
        section: section to score.
        banks: domains of the training clips of each bank.

    Returns:
        (banks, test clips).

    Raises:
        WheeltapperError: a bank has no clips.
    """
    test = _unit(clips.embeddings[section.test])
    found = []
    for domains in banks:
        own = section.train[np.isin(clips.domain[section.train], domains)]
        if not len(own):
            raise WheeltapperError(f"{section}: expected training clips{_of(domains)}, found none")
        found.append(1.0 - (test @ _unit(clips.embeddings[own]).T).max(axis=1))
    return np.array(found)


def areas(
    clips: Machines, section: MachineSection, scores: np.ndarray, measures: Mapping[str, metrics.Measure]
) -> dict[str, float]:
    """Areas under the ROC curve (AUC) of the scores, in percent, by measure.

    Args:
        clips: all clips.
        section: section that was scored.
        scores: of the section's test clips.
        measures: domains of the clips of each AUC.

    Raises:
        WheeltapperError: there are no clips for a measure.
    """
    domain, anomalous = clips.domain[section.test], clips.anomalous[section.test]
    found = {}
    for name, measure in measures.items():
        normal = ~anomalous & np.isin(domain, measure.normals)
        positive = anomalous & np.isin(domain, measure.anomalies)
        for kind, rows, domains in (
            ("normal", normal, measure.normals),
            ("anomalous", positive, measure.anomalies),
        ):
            if not rows.any():
                raise WheeltapperError(f"{section}: {name}: expected {kind} test clips{_of(domains)}, found none")
        kept = normal | positive
        area = roc.partial_auc if measure.partial else roc.auc
        found[name] = 100.0 * area(scores[kept], anomalous[kept])
    return found


def _of(domains: tuple[int, ...]) -> str:
    return "" if domains == metrics.BOTH else f" of the {DOMAINS[domains[0]]} domain"


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
