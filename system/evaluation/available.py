"""Metrics over the test clips that there are: what the official score needs, and what can be said without it.

A machine without test clips of one domain, or whose domains are unknown, has no official score. Its AUC and partial AUC
over all clips are measured all the same; they and their harmonic mean are not called official.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from system.errors import WheeltapperError
from system.evaluation import intervals, metrics
from system.evaluation.metrics import BOTH, RULES, Measure, ScoreRule
from system.evaluation.truth import DOMAINS, JoinedSection, SectionKey, Table, Truth, join

OVERALL = ("AUC (all)", "pAUC")  # measures over both domains
SCORE = "hmean_auc_pauc"  # of a machine: the harmonic mean of both
SHOWN = 5  # sections in a sentence
WITHOUT = "without_domains"  # of a system: the same over all machines


def gaps(truth: Iterable[Truth], rule: int) -> dict[str, str]:
    """The sections that have no official score, as ``fan section 00``, and what they lack."""
    found = {}
    for (machine, section), clips in _sections(truth).items():
        if missing := _missing(clips, RULES[rule]):
            found[name_of(machine, section)] = ", ".join(missing)
    return found


def name_of(machine: str, section: str) -> str:
    """How messages and metrics.json name a section."""
    return f"{machine} section {section}"


def sentences(left_out: Mapping[str, str]) -> list[str]:
    """What ``gaps`` found, once for each reason."""
    by_reason: dict[str, list[str]] = {}
    for where, reason in left_out.items():
        by_reason.setdefault(reason, []).append(where)
    return [f"no official score of {_few(names)}: {reason}" for reason, names in by_reason.items()]


def complete(truth: Iterable[Truth], rule: int) -> list[Truth]:
    """The clips of the sections that have an official score."""
    return [clip for clips in _sections(truth).values() if not _missing(clips, RULES[rule]) for clip in clips]


def evaluate(
    scores: Table,
    decisions: Table | None,
    truth: Iterable[Truth],
    rule: int = 2022,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """``metrics.evaluate`` of the sections that have an official score, and the measures that others have.

    Args:
        scores, decisions, truth, rule, replicates, seed: of ``metrics.evaluate``.

    Returns:
        Its result, whose ``official_score`` and intervals are None if no section has all that they need. If some
        section lacks it, ``per_machine`` also has machines with the measures that they have and ``hmean_auc_pauc``, and
        ``without_domains`` holds for all sections with normal and anomalous clips ``auc``, ``pauc`` (harmonic means
        over the sections), ``score`` (of both) and ``ci95``, its bootstrap interval.

    Raises:
        WheeltapperError: as ``metrics.evaluate``; or no section has normal and anomalous clips.
    """
    how, sections = RULES[rule], _sections(truth)
    whole = [clip for clips in sections.values() if not _missing(clips, how) for clip in clips]
    lacking = {key: clips for key, clips in sections.items() if _missing(clips, how)}
    rest = {key: clips for key, clips in lacking.items() if len({clip.label for clip in clips}) > 1}
    if not lacking:
        return metrics.evaluate(scores, decisions, whole, rule, replicates, seed)
    if not whole and not rest:
        said = "; ".join(sentences(gaps(truth_of(sections), rule)))
        raise WheeltapperError(f"expected normal and anomalous test clips of some machine, found none ({said})")
    if whole:
        result = metrics.evaluate(scores, decisions, whole, rule, replicates, seed)
    else:
        result = {
            "rule": rule,
            **dict.fromkeys(("official_score", "ci95", "legacy_ci95")),
            "bootstrap": {"replicates": replicates, "seed": seed, "level": intervals.LEVEL},
            "arithmetic_mean": {},
            "harmonic_mean": {},
            "per_machine": {},
        }
    joined = [_join(scores, decisions, clips, how) for clips in rest.values()]
    own = join(scores, decisions, whole, how.domains) if whole else []
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for section, domains in joined:
        rows.setdefault(section.key[0], {})[section.key[1]] = _values(section, domains, how)
    for machine, values in rows.items():
        if machine not in result["per_machine"]:
            result["per_machine"][machine] = metrics.combine(values, how)
    result["per_machine"] = dict(sorted(result["per_machine"].items()))
    result[WITHOUT] = _overall([*own, *(section for section, _ in joined)], how, replicates, seed)
    return result


def main_score(result: Mapping[str, Any]) -> tuple[float, list[float] | None] | None:
    """Score and interval of a system by which runs are shown: the official ones, or those without domains; or None."""
    if result.get("official_score") is not None:
        return result["official_score"], result.get("ci95")
    other = result.get(WITHOUT)
    return (other["score"], other.get("ci95")) if other else None


def truth_of(sections: Mapping[SectionKey, Sequence[Truth]]) -> list[Truth]:
    """All clips of some sections."""
    return [clip for clips in sections.values() for clip in clips]


def _few(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _sections(truth: Iterable[Truth]) -> dict[SectionKey, list[Truth]]:
    found: dict[SectionKey, list[Truth]] = {}
    for clip in truth:
        found.setdefault((clip.machine, clip.section), []).append(clip)
    return dict(sorted(found.items()))


def _missing(clips: Sequence[Truth], rule: ScoreRule) -> list[str]:
    """The kinds of clips that the official measures of a section lack."""
    found = {(clip.domain if rule.domains else DOMAINS[0], clip.label) for clip in clips}
    if rule.domains and any(not clip.domain for clip in clips):
        return ["no domains of the test clips", *(_missing(clips, RULES[2020]))]
    missing: dict[str, None] = {}
    for name in rule.official:
        measure = rule.measures[name]
        for kind, label, domains in (
            ("normal", "normal", measure.normals),
            ("anomalous", "anomaly", measure.anomalies),
        ):
            if not any((DOMAINS[domain], label) in found for domain in domains):
                named = "" if domains == BOTH else f" {DOMAINS[domains[0]]}"
                missing[f"no {kind}{named} test clip"] = None
    whole = [text for text in ("no normal test clip", "no anomalous test clip") if text in missing]
    kinds = [text.split()[1] for text in whole]
    return whole + [text for text in missing if text not in whole and text.split()[1] not in kinds]


def _join(
    scores: Table, decisions: Table | None, clips: Sequence[Truth], rule: ScoreRule
) -> tuple[JoinedSection, bool]:
    """One section, and whether its domains are known."""
    domains = rule.domains and all(clip.domain for clip in clips)
    return join(scores, decisions, clips, domains)[0], domains


def _values(section: JoinedSection, domains: bool, rule: ScoreRule) -> dict[str, float]:
    """The measures that a section has the clips for, ``SCORE``, and those of its decisions."""
    present = {(int(d), bool(a)) for d, a in zip(section.domain, section.anomalous, strict=True)}

    def possible(measure: Measure) -> bool:
        if not domains and (measure.normals, measure.anomalies) != (BOTH, BOTH):
            return False
        sides = ((measure.normals, False), (measure.anomalies, True))
        return all(any((domain, side) in present for domain in of) for of, side in sides)

    measures = {name: measure for name, measure in rule.measures.items() if possible(measure)}
    strata, size = section.strata()
    exact = np.array([np.bincount(members, minlength=size) for members in strata], dtype=np.float64)
    values = {name: float(value) for name, value in metrics.measure(exact, measures).items()}
    values[SCORE] = float(metrics.harmonic_mean([values[name] for name in OVERALL]))
    if section.decided is not None:
        kinds = [name for index, name in enumerate(DOMAINS) if (section.domain == index).any()] if domains else ["all"]
        values |= metrics.decision_metrics(section, section.decided, kinds)
    return values


def _overall(joined: Sequence[JoinedSection], rule: ScoreRule, replicates: int, seed: int) -> dict[str, Any]:
    """AUC and partial AUC over both domains of all sections, their harmonic mean, and its interval."""
    plain = ScoreRule({name: rule.measures[name] for name in OVERALL}, OVERALL)
    rng, measures, resampled = np.random.default_rng(seed), {}, {}
    for section in sorted(joined, key=lambda section: section.key):
        strata, size = section.strata()
        exact = np.array([np.bincount(members, minlength=size) for members in strata], dtype=np.float64)
        measures[section.key] = metrics.measure(exact, plain.measures)
        resampled[section.key] = metrics.resample(strata, size, plain, replicates, rng)
    auc, pauc = ([float(values[name]) for values in measures.values()] for name in OVERALL)
    drawn = [values[name] for values in resampled.values() for name in OVERALL] if replicates else []
    return {
        "auc": float(metrics.harmonic_mean(auc)),
        "pauc": float(metrics.harmonic_mean(pauc)),
        "score": float(metrics.harmonic_mean([*auc, *pauc])),
        "ci95": intervals.percentile_interval(metrics.harmonic_mean(drawn, axis=0)) if replicates else None,
    }
