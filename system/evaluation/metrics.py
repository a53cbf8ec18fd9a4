"""The metrics of DCASE Task 2: AUC, partial AUC and the official score by every year's rule.

Scores are joined to the truth by file name, never by position. What a year counts is data (RULES), not code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from system.errors import WheeltapperError
from system.evaluation import intervals, roc
from system.evaluation.truth import DOMAINS, LABELS, Section, SectionKey, Table, Truth, join

SOURCE, TARGET, BOTH = (0,), (1,), (0, 1)
BLOCK = 250  # bootstrap resamples held at once


@dataclass(frozen=True)
class Measure:
    """An area under the ROC curve: normal clips of these domains against anomalous clips of these domains."""

    normals: tuple[int, ...]
    anomalies: tuple[int, ...]
    partial: bool = False


@dataclass(frozen=True)
class Rule:
    """How a year turns scores into its official score.

    Args:
        measures: what is worked out for each section.
        official: the measures that enter the official score.
        harmonic: whether sections and machines are averaged harmonically (else arithmetically).
        domains: whether the rule tells source from target clips.
    """

    measures: Mapping[str, Measure]
    official: tuple[str, ...]
    harmonic: bool = True
    domains: bool = True


# By the first year of each rule.
RULES = {
    # All anomalous clips stand against the normal clips of either domain; the partial AUC mixes the domains.
    2022: Rule(
        {
            "AUC (all)": Measure(BOTH, BOTH),
            "AUC (source)": Measure(SOURCE, BOTH),
            "AUC (target)": Measure(TARGET, BOTH),
            "pAUC": Measure(BOTH, BOTH, partial=True),
        },
        official=("AUC (source)", "AUC (target)", "pAUC"),
    ),
    # Each domain by itself, AUC and partial AUC.
    2021: Rule(
        {
            "AUC (all)": Measure(BOTH, BOTH),
            "AUC (source)": Measure(SOURCE, SOURCE),
            "AUC (target)": Measure(TARGET, TARGET),
            "pAUC": Measure(BOTH, BOTH, partial=True),
            "pAUC (source)": Measure(SOURCE, SOURCE, partial=True),
            "pAUC (target)": Measure(TARGET, TARGET, partial=True),
        },
        official=("AUC (source)", "AUC (target)", "pAUC (source)", "pAUC (target)"),
    ),
    # Machine ids without domains, arithmetic means. The challenge of 2020 ranked by the average rank over machine
    # types, which needs all the teams; the mean of AUC and pAUC over the machine types stands in for it.
    2020: Rule(
        {"AUC (all)": Measure(BOTH, BOTH), "pAUC": Measure(BOTH, BOTH, partial=True)},
        official=("AUC (all)", "pAUC"),
        harmonic=False,
        domains=False,
    ),
}
LATEST = 2026


def rule_of_year(year: int) -> int:
    """The rule (key of RULES) of a challenge year; WheeltapperError for a year whose rule is not known."""
    if not min(RULES) <= year <= LATEST:
        raise WheeltapperError(f"year: expected {min(RULES)} to {LATEST}, found {year}")
    return max(first for first in RULES if first <= year)


def harmonic_mean(values: Any, axis: int | None = None) -> np.ndarray:
    """Harmonic mean; values are clipped below at the float epsilon, as in the official score, so that 0 is allowed."""
    return 1.0 / np.mean(1.0 / np.maximum(values, np.finfo(np.float64).eps), axis=axis)


def official_score(sections: Mapping[SectionKey, Mapping[str, Any]], rule: int = 2022) -> Any:
    """Official score of the measures of each (machine, section), fractions; each measure a number or an array (R,).

    Harmonic rules: the harmonic mean of every official measure of every section (21 values in the development set of
    2026). Arithmetic rule: mean over the ids of a machine, then over machines.
    """
    how = RULES[rule]
    if how.harmonic:
        return harmonic_mean([section[name] for section in sections.values() for name in how.official], axis=0)
    machines = dict.fromkeys(machine for machine, _ in sections)
    return np.mean([_of_machine(sections, machine, how) for machine in machines], axis=0)


def _of_machine(sections: Mapping[SectionKey, Mapping[str, Any]], machine: str, rule: Rule) -> Any:
    values = [section[name] for key, section in sections.items() if key[0] == machine for name in rule.official]
    return np.mean(values, axis=0)


def precision_recall_f1(decided: np.ndarray, anomalous: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 of decisions (N,) bool against the truth (N,) bool; 0 where a quotient is 0 / 0."""
    hits = float(np.sum(decided & anomalous))
    positives, anomalies = float(np.sum(decided)), float(np.sum(anomalous))
    return (
        hits / positives if positives else 0.0,
        hits / anomalies if anomalies else 0.0,
        2 * hits / (positives + anomalies) if positives + anomalies else 0.0,
    )


def measure(counts: np.ndarray, measures: Mapping[str, Measure]) -> dict[str, np.ndarray]:
    """Measures of clips counted as (..., 4 strata, groups), the strata as Section.strata orders them; each (...)."""
    cells = counts.reshape(*counts.shape[:-2], len(DOMAINS), len(LABELS), counts.shape[-1])
    values = {}
    for name, measure in measures.items():
        area = roc.partial_auc_from_counts if measure.partial else roc.auc_from_counts
        normal = cells[..., list(measure.normals), 0, :].sum(axis=-2)
        values[name] = area(normal, cells[..., list(measure.anomalies), 1, :].sum(axis=-2))
    return values


def _resample(
    strata: list[np.ndarray], size: int, rule: Rule, replicates: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Official measures of bootstrap resamples of one section, each (replicates,); in blocks, to bound the memory."""
    official = {name: rule.measures[name] for name in rule.official}
    blocks = [
        measure(intervals.resample_counts(strata, size, min(BLOCK, replicates - start), rng), official)
        for start in range(0, replicates, BLOCK)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in official} if blocks else {}


def _check_classes(section: Section, rule: Rule) -> None:
    for name, measure in rule.measures.items():
        for label, domains in zip(LABELS, (measure.normals, measure.anomalies), strict=True):
            if not np.any(np.isin(section.domain, domains) & (section.anomalous == (label == "anomaly"))):
                kind = "" if domains == BOTH else f" of the {DOMAINS[domains[0]]} domain"
                raise WheeltapperError(
                    f"{section.key[0]} section {section.key[1]}: {name}: "
                    f"expected at least one clip{kind} labelled {label}, found none"
                )


def _decision_metrics(section: Section, decided: np.ndarray, rule: Rule) -> dict[str, float]:
    values: dict[str, float] = {}
    for index, domain in enumerate(DOMAINS if rule.domains else ("all",)):
        inside = section.domain == index
        results = precision_recall_f1(decided[inside], section.anomalous[inside])
        values |= {
            f"{name} ({domain})": value
            for name, value in zip(("precision", "recall", "F1 score"), results, strict=True)
        }
    return values


def evaluate(
    scores: Table,
    decisions: Table | None,
    truth: Iterable[Truth],
    rule: int = 2022,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """All metrics of one system, as fractions.

    Args:
        scores: (machine, section) -> {file: score}, higher is more anomalous.
        decisions: (machine, section) -> {file: 0 or 1}, or None; they do not enter the official score.
        truth: the labelled test clips; decides which machines and sections count.
        rule: a key of RULES, see ``rule_of_year``.
        replicates: bootstrap resamples for the interval of the official score; 0 for none.
        seed: of the bootstrap.

    Returns:
        {"rule", "official_score", "ci95": [low, high] or None, "legacy_ci95": half-width or None, "bootstrap",
        "arithmetic_mean", "harmonic_mean" (of each measure over machines and sections, for information),
        "per_machine": {machine: {"AUC (all)", ..., "hmean" of the official measures (and "mean" where the rule
        averages arithmetically), "precision (source)", ...; where the machine has several sections the averages over
        them, and "sections": {section: {...}}}}}.
        ``ci95`` is the percentile interval of a bootstrap stratified by machine, section, domain and label.

    Raises:
        WheeltapperError: what ``join`` refuses, and a section without clips of a class that a measure needs.
    """
    how = RULES[rule]
    joined = join(scores, decisions, truth, how.domains)
    rng = np.random.default_rng(seed)
    measures: dict[SectionKey, dict[str, float]] = {}
    resampled: dict[SectionKey, dict[str, np.ndarray]] = {}
    for section in joined:
        _check_classes(section, how)
        strata, size = section.strata()
        exact = np.array([np.bincount(members, minlength=size) for members in strata], dtype=np.float64)
        measures[section.key] = {name: float(value) for name, value in measure(exact, how.measures).items()}
        resampled[section.key] = _resample(strata, size, how, replicates, rng)
    means = {name: [values[name] for values in measures.values()] for name in how.measures}
    return {
        "rule": rule,
        "official_score": float(official_score(measures, rule)),
        "ci95": intervals.percentile_interval(official_score(resampled, rule)) if replicates else None,
        "legacy_ci95": intervals.legacy_half_width(
            np.concatenate([section.scores for section in joined]),
            np.concatenate([section.anomalous for section in joined]),
        ),
        "bootstrap": {"replicates": replicates, "seed": seed, "level": intervals.LEVEL},
        "arithmetic_mean": {name: float(np.mean(values)) for name, values in means.items()},
        "harmonic_mean": {name: float(harmonic_mean(values)) for name, values in means.items()},
        "per_machine": _per_machine(joined, measures, how),
    }


def _per_machine(
    joined: Iterable[Section], measures: Mapping[SectionKey, Mapping[str, float]], rule: Rule
) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, dict[str, float]]] = {}
    for section in joined:
        values = dict(measures[section.key])
        official = [values[name] for name in rule.official]
        values["hmean"] = float(harmonic_mean(official))
        if not rule.harmonic:
            values["mean"] = float(np.mean(official))
        if section.decided is not None:
            values |= _decision_metrics(section, section.decided, rule)
        sections.setdefault(section.key[0], {})[section.key[1]] = values
    return {machine: _combine(found, rule) for machine, found in sections.items()}


def _combine(sections: Mapping[str, Mapping[str, float]], rule: Rule) -> dict[str, Any]:
    """One section's values as they are; of several their averages, and ``sections`` with each."""
    first, *others = sections.values()
    if not others:
        return dict(first)
    machine: dict[str, Any] = {}
    for name in (name for name in first if all(name in values for values in others)):
        # Precision and recall may well be 0, and a harmonic mean would then say nothing about the other sections.
        harmonic = rule.harmonic and (name in rule.measures or name == "hmean")
        column = [values[name] for values in sections.values()]
        machine[name] = float(harmonic_mean(column) if harmonic else np.mean(column))
    return machine | {"sections": sections}
