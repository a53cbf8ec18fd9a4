"""Metrics of DCASE Task 2: AUC, partial AUC, and the official score under the rule of each year.

Scores are joined with the ground truth by file name, never by position. The rules of the years are data (RULES).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from system.errors import WheeltapperError
from system.evaluation import intervals, roc
from system.evaluation.truth import DOMAINS, LABELS, JoinedSection, SectionKey, Table, Truth, join

SOURCE, TARGET, BOTH = (0,), (1,), (0, 1)
BLOCK = 250  # bootstrap resamples computed at once


@dataclass(frozen=True)
class Measure:
    """An area under the ROC curve, by the domains of the normal and of the anomalous clips."""

    normals: tuple[int, ...]
    anomalies: tuple[int, ...]
    partial: bool = False  # whether it is the partial AUC


@dataclass(frozen=True)
class ScoreRule:
    """Definition of the official score in some years.

    Args:
        measures: name to measure, computed for each section.
        official: names of the measures in the official score.
        harmonic: whether the official score is a harmonic mean (otherwise arithmetic).
        domains: whether the rule distinguishes source and target clips.
    """

    measures: Mapping[str, Measure]
    official: tuple[str, ...]
    harmonic: bool = True
    domains: bool = True


# First year of a rule to the rule.
RULES = {
    # AUC of the normal clips of each domain against all anomalous clips; partial AUC over both domains.
    2022: ScoreRule(
        {
            "AUC (all)": Measure(BOTH, BOTH),
            "AUC (source)": Measure(SOURCE, BOTH),
            "AUC (target)": Measure(TARGET, BOTH),
            "pAUC": Measure(BOTH, BOTH, partial=True),
        },
        official=("AUC (source)", "AUC (target)", "pAUC"),
    ),
    # AUC and partial AUC of each domain separately.
    2021: ScoreRule(
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
    # types, which needs the results of all teams; the mean of AUC and pAUC over machine types replaces it.
    2020: ScoreRule(
        {"AUC (all)": Measure(BOTH, BOTH), "pAUC": Measure(BOTH, BOTH, partial=True)},
        official=("AUC (all)", "pAUC"),
        harmonic=False,
        domains=False,
    ),
}


def harmonic_mean(values: Any, axis: int | None = None) -> np.ndarray:
    """Harmonic mean; values are at least the float epsilon, as in the official evaluator, so that 0 is allowed."""
    return 1.0 / np.mean(1.0 / np.maximum(values, np.finfo(np.float64).eps), axis=axis)


def official_score(sections: Mapping[SectionKey, Mapping[str, Any]], rule: int = 2022) -> Any:
    """Official score.

    Under harmonic rules, this is the harmonic mean of all official measures of all sections (21 values in the
    development set of 2026). Under the arithmetic rule, it is the mean over the ids of a machine, then over machines.

    Args:
        sections: (machine, section) to measures as fractions, each a number or an array (R,).
        rule: key of RULES.

    Returns:
        A number or an array (R,).
    """
    how = RULES[rule]
    if how.harmonic:
        return harmonic_mean([section[name] for section in sections.values() for name in how.official], axis=0)
    machines = dict.fromkeys(machine for machine, _ in sections)
    return np.mean([_of_machine(sections, machine, how) for machine in machines], axis=0)


def _of_machine(sections: Mapping[SectionKey, Mapping[str, Any]], machine: str, rule: ScoreRule) -> Any:
    values = [section[name] for key, section in sections.items() if key[0] == machine for name in rule.official]
    return np.mean(values, axis=0)


def precision_recall_f1(decided: np.ndarray, anomalous: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 score of decisions (N,) bool for ground truth (N,) bool; 0 / 0 counts as 0."""
    hits = float(np.sum(decided & anomalous))
    positives, anomalies = float(np.sum(decided)), float(np.sum(anomalous))
    return (
        hits / positives if positives else 0.0,
        hits / anomalies if anomalies else 0.0,
        2 * hits / (positives + anomalies) if positives + anomalies else 0.0,
    )


def measure(counts: np.ndarray, measures: Mapping[str, Measure]) -> dict[str, np.ndarray]:
    """Computes measures from counts of clips.

    Args:
        counts: (..., 4, groups), number of clips in each stratum (see ``JoinedSection.strata``) and tie group.
        measures: name to measure.

    Returns:
        Name to values (...).
    """
    cells = counts.reshape(*counts.shape[:-2], len(DOMAINS), len(LABELS), counts.shape[-1])
    values = {}
    for name, measure in measures.items():
        area = roc.partial_auc_from_counts if measure.partial else roc.auc_from_counts
        normal = cells[..., list(measure.normals), 0, :].sum(axis=-2)
        values[name] = area(normal, cells[..., list(measure.anomalies), 1, :].sum(axis=-2))
    return values


def resample(
    strata: list[np.ndarray], size: int, rule: ScoreRule, replicates: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Official measures (replicates,) of bootstrap resamples of one section; in blocks, to limit memory."""
    official = {name: rule.measures[name] for name in rule.official}
    blocks = [
        measure(intervals.resample_counts(strata, size, min(BLOCK, replicates - start), rng), official)
        for start in range(0, replicates, BLOCK)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in official} if blocks else {}


def _check_classes(section: JoinedSection, rule: ScoreRule) -> None:
    for name, measure in rule.measures.items():
        for label, domains in zip(LABELS, (measure.normals, measure.anomalies), strict=True):
            if not np.any(np.isin(section.domain, domains) & (section.anomalous == (label == "anomaly"))):
                kind = "" if domains == BOTH else f" of the {DOMAINS[domains[0]]} domain"
                raise WheeltapperError(
                    f"{section.key[0]} section {section.key[1]}: {name}: "
                    f"expected at least one clip{kind} labelled {label}, found none"
                )


def decision_metrics(section: JoinedSection, decided: np.ndarray, domains: Sequence[str]) -> dict[str, float]:
    """Precision, recall and F1 score of decisions (N,) bool for each of some domains; ``all`` for all clips."""
    values: dict[str, float] = {}
    for domain in domains:
        inside = section.domain == (DOMAINS.index(domain) if domain in DOMAINS else 0)
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
    """Computes all metrics of a system, as fractions.

    Args:
        scores: (machine, section) -> {file: score}, higher is more anomalous.
        decisions: (machine, section) -> {file: 0 or 1}, or None; they do not enter the official score.
        truth: the labelled test clips; decides which machines and sections count.
        rule: a key of RULES, see ``challenge.rule_of_year``.
        replicates: bootstrap resamples for the interval of the official score; 0 for none.
        seed: of the bootstrap.

    Returns:
        A dict with

        * ``rule``, ``official_score``, ``bootstrap`` (its settings);
        * ``ci95``: [low, high], the percentile interval of a bootstrap stratified by machine, section, domain and
          label, or None;
        * ``legacy_ci95``: half-width printed by the official evaluator, or None;
        * ``arithmetic_mean``, ``harmonic_mean``: means of each measure over machines and sections;
        * ``per_machine``: machine to its measures, ``hmean`` of the official measures (and ``mean`` under the
          arithmetic rule), and ``precision (source)`` etc. For a machine with several sections these are means over
          them, and ``sections`` has the values of each.

    Raises:
        WheeltapperError: ``join`` fails, or a section has no clips of a class that a measure needs.

    Example:
        >>> truth = read_truth("truth.csv")
        >>> scores = {("fan", "00"): dict(challenge_csv.read("anomaly_score_fan_section_00_test.csv"))}
        >>> evaluate(scores, None, truth)["official_score"]
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
        resampled[section.key] = resample(strata, size, how, replicates, rng)
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
    joined: Iterable[JoinedSection], measures: Mapping[SectionKey, Mapping[str, float]], rule: ScoreRule
) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, dict[str, float]]] = {}
    for section in joined:
        values = dict(measures[section.key])
        official = [values[name] for name in rule.official]
        values["hmean"] = float(harmonic_mean(official))
        if not rule.harmonic:
            values["mean"] = float(np.mean(official))
        if section.decided is not None:
            values |= decision_metrics(section, section.decided, DOMAINS if rule.domains else ("all",))
        sections.setdefault(section.key[0], {})[section.key[1]] = values
    return {machine: combine(found, rule) for machine, found in sections.items()}


def combine(sections: Mapping[str, Mapping[str, float]], rule: ScoreRule) -> dict[str, Any]:
    """Values of a single section, or means over several sections with the values of each under ``sections``."""
    first, *others = sections.values()
    if not others:
        return dict(first)
    machine: dict[str, Any] = {}
    for name in (name for name in first if all(name in values for values in others)):
        # Precision and recall may be 0; a harmonic mean would then ignore the other sections.
        harmonic = rule.harmonic and (name in rule.measures or name == "hmean")
        column = [values[name] for values in sections.values()]
        machine[name] = float(harmonic_mean(column) if harmonic else np.mean(column))
    return machine | {"sections": sections}
