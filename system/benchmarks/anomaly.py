"""What the two benchmarks' anomaly detection shares: banks of training clips by section, and areas by domain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from system.benchmarks.embedding_tables import SUBSETS, Machines
from system.errors import WheeltapperError
from system.evaluation import metrics, roc
from system.evaluation.truth import DOMAINS

YEARS = range(2020, 2026)
ONE_BANK = (metrics.BOTH,)
TWO_BANKS = (metrics.SOURCE, metrics.TARGET)


@dataclass(frozen=True, eq=False)
class Section:
    """One machine's section of a subset: row numbers of its clips."""

    subset: str
    machine: str
    name: str
    train: np.ndarray
    test: np.ndarray

    def __str__(self) -> str:
        return f"{self.subset} {self.machine} section {self.name}"


def check_year(year: int) -> metrics.ScoreRule:
    """The challenge's rule of a year; WheeltapperError for one that the benchmarks do not cover."""
    if year not in YEARS:
        raise WheeltapperError(f"year: expected {YEARS[0]} to {YEARS[-1]}, found {year}")
    return metrics.RULES[metrics.rule_of_year(year)]


def sections(clips: Machines) -> Iterator[Section]:
    """In order of first appearance, the development machines first."""
    for subset in SUBSETS:
        rows = np.flatnonzero(clips.subset == subset)
        keys = dict.fromkeys(zip(clips.machine[rows], clips.section[rows], strict=True))
        for machine, name in keys:
            own = rows[(clips.machine[rows] == machine) & (clips.section[rows] == name)]
            test = clips.split[own] == "test"
            yield Section(subset, str(machine), str(name), own[~test], own[test])


def bank_distances(clips: Machines, section: Section, banks: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Cosine distance of each test clip of a section to the nearest training clip of each bank: (banks, test clips).

    Args:
        banks: the domains that each takes its training clips from.

    Raises WheeltapperError for a bank without clips.
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
    clips: Machines, section: Section, scores: np.ndarray, measures: Mapping[str, metrics.Measure]
) -> dict[str, float]:
    """Areas under the ROC curve of the scores (test clips of the section,), in percent.

    Raises WheeltapperError where the clips that a measure needs are missing.
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
