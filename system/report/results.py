"""Report sections on results: official score, results by machine, requested and actual alarms."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from system.evaluation import roc
from system.evaluation.available import SCORE, main_score
from system.evaluation.metrics import harmonic_mean
from system.false_alarms import range_text
from system.leaderboard import comparison as beside
from system.leaderboard import published
from system.report import charts, reference_systems
from system.report.load_run import RunData, SectionResults, score_of
from system.report.summary import VERDICTS, Judgement, count

PageSection = dict[str, Any] | str  # values for the template, or a sentence why there are none

MEASURES = ("AUC (source)", "AUC (target)", "AUC (all)", "pAUC", "pAUC (source)", "pAUC (target)")
PUBLISHED = dict(zip(published.BASELINES, ("official autoencoder", "official Mahalanobis"), strict=True))
UNLABELLED = "There are no labelled test clips in this run, so nothing can be said about how good the scores are."


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent, empty for None."""
    return "" if value is None else f"{100 * value:.{digits}f}"


def measures_of(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The AUCs of the machines; AUC (all) only if one has no AUC by domain."""
    known = [name for name in MEASURES if any(name in machine for machine in values.values())]
    by_domain = all({"AUC (source)", "AUC (target)"} <= set(machine) for machine in values.values())
    return [name for name in known if name != "AUC (all)" or not by_domain]


def unmeasured(run: RunData) -> str:
    """Why nothing is measured."""
    if any(clip.split == "test" and clip.label for clip in run.clips) and run.metrics.get("left_out"):
        return "No machine of this run has both normal and anomalous labelled test clips, so nothing can be measured."
    return UNLABELLED


def published_baselines(run: RunData) -> dict[str, dict[str, list[float]]]:
    """Published results of the official baselines (fractions) by name and machine, for exactly the machines of the run.

    Empty unless all development machines of the run are official ones with all their test clips, because results on
    other recordings are not comparable.
    """
    table = published.find(f"dcase{run.metrics.get('year')}", published.DEVELOPMENT)
    units = run.development
    if not table or not units or any(u.machine not in table.groups or len(u.clips) != beside.CLIPS for u in units):
        return {}
    return {
        text: {
            machine: [value / 100 for value in table.entry(name).values(machine).values()]
            for machine in table.groups
            if any(unit.machine == machine for unit in units)
        }
        for name, text in PUBLISHED.items()
    }


def comparison(run: RunData, baselines: Mapping[str, Any]) -> str:
    """One sentence on which results the run can be compared with."""
    if baselines:
        return (
            "The recordings are official development machines; the official baselines' published figures on the same "
            "machines are shown beside ours."
        )
    if {clip.corpus for clip in run.clips} == {"synthetic"}:
        return (
            "The recordings are simulated: the figures show that everything works, and must not be compared with "
            "results on the challenge's recordings."
        )
    return "The recordings are not the complete official set: the figures do not compare with published ones."


def headline(run: RunData) -> PageSection:
    """The official score of the best system, its meaning, and its comparison."""
    if not run.systems:
        if not run.clips:
            return "There is no official score: the run has not got that far."
        return f"There is no official score: {unmeasured(run)[0].lower()}{unmeasured(run)[1:]}"
    best = run.systems[run.best]
    score, interval = score_of(best)
    baselines = published_baselines(run)
    marks = {name: harmonic_mean(list(table.values())) for name, table in baselines.items()}
    if interval and interval[0] > 0.5:
        verdict = "better than guessing, beyond what chance explains"
    elif score > 0.5:
        verdict = "above guessing, but within what chance explains"
    else:
        verdict = "no better than guessing"
    return {
        "score": percent(score),
        "official": best.get("official_score") is not None,
        "interval": [percent(value) for value in interval] if interval else None,
        "verdict": verdict,
        "label": run.best,
        "name": getattr(run.system_config(run.best), "name", ""),
        "count": len(run.systems),
        "gauge": charts.gauge(
            100 * score,
            [100 * value for value in interval] if interval else None,
            {name: 100 * float(value) for name, value in marks.items()},
        ),
        "marks": {name: percent(float(value)) for name, value in marks.items()},
        "comparison": comparison(run, baselines),
        "references": reference_systems.compare(run),
        "alarms": _alarms(run),
    }


def _alarms(run: RunData) -> dict[str, Any] | None:
    """Anomalies found and false alarms of all development machines together."""
    units = [unit for unit in run.development if unit.decided is not None]
    anomalous = np.concatenate([unit.anomalous for unit in units]) if units else np.array([], bool)
    decided = np.concatenate([unit.decided for unit in units]) if units else np.array([], bool)
    if not anomalous.any() or anomalous.all():
        return None
    return {
        "found": int(decided[anomalous].sum()),
        "anomalies": int(anomalous.sum()),
        "false": int(decided[~anomalous].sum()),
        "healthy": int((~anomalous).sum()),
    }


def systems(run: RunData) -> PageSection:
    """Comparison of all systems."""
    scored = run.systems
    if not scored:
        return unmeasured(run)
    measures = measures_of(scored[run.best]["per_machine"])
    rows = []
    for label, values in scored.items():
        config = run.system_config(label)
        rows.append(
            {
                "label": label,
                "best": label == run.best,
                "name": config.name if config else "",
                "remark": config.remark if config else "",
                "view": {"near_only": "near channel", "two_channel": "both channels"}[config.view] if config else "",
                "weights": ", ".join(f"{k} {v:g}" for k, v in config.weights.items()) if config else "",
                **_figures(values, measures),
            }
        )
    references = reference_systems.measured(run)
    rows += [
        {
            "label": name,
            "best": False,
            "name": f"reference: {reference_systems.describe(name)}",
            "remark": "",
            "view": "",
            "weights": "",
            **_figures(values, measures),
        }
        for name, values in references.items()
    ]
    chart = [
        (label.rpartition("_task2_")[2].join(("system ", "")), 100 * score_of(v)[0], _hundredfold(score_of(v)[1]))
        for label, v in scored.items()
    ]
    marks = {name: 100 * float(harmonic_mean(list(table.values()))) for name, table in published_baselines(run).items()}
    return {"measures": measures, "rows": rows, "chart": charts.systems_chart(chart, marks)}


def _figures(values: Mapping[str, Any], measures: list[str]) -> dict[str, Any]:
    """Score, interval and means over machines of one system, in percent."""
    machines = values["per_machine"].values()
    means = values.get("harmonic_mean") or {
        name: float(harmonic_mean([machine[name] for machine in machines]))
        for name in measures
        if all(name in machine for machine in machines)
    }
    score, interval = score_of(dict(values))
    return {
        "means": [percent(means.get(name)) for name in measures],
        "score": percent(score),
        "interval": [percent(value) for value in interval or ()] or None,
    }


def _hundredfold(values: list[float] | None) -> list[float] | None:
    return [100 * value for value in values] if values else None


def machines(run: RunData, judged: Mapping[str, Judgement]) -> PageSection:
    """Results of the best system by machine, with the interval of each machine's score."""
    if not run.systems:
        return unmeasured(run)
    values = run.systems[run.best]["per_machine"]
    measures = measures_of(values)
    baselines = published_baselines(run) if tuple(measures) == beside.MEASURES else {}
    rows = []
    for machine, own in values.items():
        units = [unit for unit in run.development if unit.machine == machine]
        found = judged[machine]
        rows.append(
            {
                "machine": machine,
                "cells": [*(_cell(own.get(name)) for name in measures), _cell(own.get("hmean", own.get(SCORE)))],
                "published": [
                    percent(float(harmonic_mean(table[machine]))) if machine in table else ""
                    for table in baselines.values()
                ],
                "interval": " – ".join(percent(value, 1) for value in found.interval or ()),
                "verdict": found.verdict,
                "word": VERDICTS[found.verdict],
                "found": count(units, True),
                "false": count(units, False),
            }
        )
    chart = [
        (name, 100 * found.score, _hundredfold(found.interval))
        for name, found in judged.items()
        if found.score is not None
    ]
    return {
        "measures": [*measures, "harmonic mean"],
        "baselines": list(baselines),
        "rows": rows,
        "chart": charts.systems_chart(chart, {}, "Score of each machine with its interval", "score (%)"),
    }


def _cell(value: float | None) -> dict[str, Any]:
    if value is None:
        return {"text": "", "level": 0, "below": False}
    return {"text": percent(value), "level": round(200 * max(0.0, min(value, 1.0) - 0.5)), "below": value < 0.5}


def scores(run: RunData) -> PageSection:
    """Histograms and ROC curves of the development machines."""
    if not run.development:
        return UNLABELLED
    shown = []
    for unit in run.development:
        arguments = (unit.name, unit.scores, unit.anomalous, unit.domains)
        both = unit.anomalous.any() and not unit.anomalous.all()
        shown.append(
            {
                "name": unit.name,
                "histogram": charts.score_histogram(*arguments, unit.threshold),
                "roc": charts.roc_chart(*arguments, unit.decided) if both else None,
                "auc": percent(roc.auc(unit.scores, unit.anomalous), 1) if both else "",
                "pauc": percent(roc.partial_auc(unit.scores, unit.anomalous), 1) if both else "",
            }
        )
    return {"units": shown}


def decisions(run: RunData) -> PageSection:
    """Requested and actual rates of false alarms, on references and on healthy test clips."""
    units = [unit for unit in run.units if unit.threshold is not None]
    if not units:
        return "There are no decision thresholds in this run."
    asked = run.config.false_positive_rate if run.config else 0.1
    rows, points = [], []
    for unit in units:
        above = unit.references > unit.threshold
        by_domain = {d: above[unit.reference_domains == d] for d in ("source", "target")}
        known = [float(values.mean()) for values in by_domain.values() if len(values)]
        among_references = float(np.mean(known)) if known else None
        healthy = ~unit.anomalous & unit.development
        decided = unit.scores > unit.threshold if unit.decided is None else unit.decided
        among_tests = float(decided[healthy].mean()) if healthy.any() else None
        points.append((unit.name, among_references, among_tests))
        rows.append(
            {
                "name": unit.name,
                "threshold": f"{unit.threshold:.3f}",
                "expected": [_expected(unit, domain) for domain in by_domain],
                "references": [_share(values) for values in by_domain.values()],
                "healthy": [_share(decided[healthy & (unit.domains == d)]) for d in ("source", "target")],
                "anomalies": _share(decided[unit.anomalous]) if unit.development else "",
            }
        )
    return {"asked": f"{100 * asked:g}", "rows": rows, "chart": charts.false_alarm_chart(points, asked)}


def _expected(unit: SectionResults, domain: str) -> str:
    rates = unit.expected.get("domains", {}).get(domain)
    return range_text(rates) if rates else ""


def _share(values: np.ndarray) -> str:
    return f"{int(values.sum())} of {len(values)} ({100 * values.mean():.0f} %)" if len(values) else ""


def evaluation(run: RunData) -> PageSection:
    """The machines without labels: distribution of their scores, and number of clips that raise an alarm."""
    if not run.evaluation:
        return "There are no machines with anonymous test clips in this run."
    shown = [
        {
            "name": unit.name,
            "clips": len(unit.clips),
            "share": _share(unit.decided) if unit.decided is not None else "",
            "histogram": charts.anonymous_histogram(unit.name, unit.scores, unit.references, unit.threshold),
        }
        for unit in run.evaluation
    ]
    return {"units": shown, "revealed": _revealed(run)}


def _revealed(run: RunData) -> dict[str, Any] | None:
    """Metrics of the evaluation machines, if their labels are known."""
    found = (run.metrics.get("evaluation") or {}).get(run.best)
    if not found or not found.get("per_machine") or not main_score(found):
        return None
    values, (score, interval) = found["per_machine"], score_of(found)
    measures = measures_of(values)
    return {
        "score": percent(score),
        "interval": [percent(value) for value in interval] if interval else None,
        "measures": [*measures, "harmonic mean"],
        "rows": [
            {
                "machine": machine,
                "cells": [*(_cell(own.get(name)) for name in measures), _cell(own.get("hmean", own.get(SCORE)))],
            }
            for machine, own in values.items()
        ],
    }
