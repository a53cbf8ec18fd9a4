"""Findings of a report: files that could not be read, and results that need an explanation."""

import math
from collections.abc import Hashable

import numpy as np

from system.corpora import copies, health_check, health_table
from system.evaluation import available, challenge_csv, coinciding
from system.evaluation.challenge_csv import SCORE
from system.experiment import STAGES
from system.files import read_json
from system.manifest import Clip
from system.report.load_run import RunData, SectionResults, read_curve, read_scores
from system.report.results import measures_of

FEW_REFERENCES = 5
SURE = 0.01  # significance level of the test for too many false alarms


def collect_findings(run: RunData) -> list[str]:
    """The findings, one sentence each, most serious first."""
    found = [*run.problems]
    done = {record["name"] for record in run.stages}
    missing = [name for name in STAGES[:-1] if name not in done]
    if missing and done:
        found.append(f"These stages have not finished: {', '.join(missing)}.")
    found += [f"{text[0].upper()}{text[1:]}." for text in available.sentences(run.metrics.get("left_out") or {})]
    found += _coinciding(run)
    found += _below_chance(run)
    asked = run.config.false_positive_rate if run.config else 0.1
    alike: dict[str, list[str]] = {}
    for unit in run.units:
        for text in _of_unit(unit, asked):
            alike.setdefault(text, []).append(unit.name)
    found += [f"{', '.join(names)}: {text}" for text, names in alike.items()]
    found += _sensors(run)
    found += [f"{note}." for note in copies.notes(run.clips, run.copies)]
    found += _collapse(run)
    found += _idle_training(run)
    return list(dict.fromkeys(found))


def _coinciding(run: RunData) -> list[str]:
    """Systems that are one and the same on these recordings."""
    scores: dict[str, dict[Hashable, float]] = {}
    for label in run.paths.labels if run.config else ():
        tables = run.attempt(run.paths.system(label), challenge_csv.list_folder) or {}
        found = {key: run.attempt(path, read_scores) or {} for key, path in tables.items() if key[0] == SCORE}
        scores[label] = {(*key, file): score for key, values in found.items() for file, score in values.items()}
    mono = all(clip.channels == 1 for clip in run.clips)
    return [f"{coinciding.sentence(group, mono)}." for group in coinciding.groups(scores)]


def _below_chance(run: RunData) -> list[str]:
    if not run.systems:
        return []
    machines = run.systems[run.best]["per_machine"]
    found = []
    for machine, values in machines.items():
        low = [f"{name} {100 * values[name]:.1f} %" for name in measures_of(machines) if values.get(name, 1) < 0.5]
        if low:
            found.append(f"{machine}: {', '.join(low)}: below guessing, which is 50 %.")
    return found


def _of_unit(unit: SectionResults, asked: float) -> list[str]:
    """Findings for one machine, without its name."""
    found = []
    healthy = ~unit.anomalous
    if unit.development and unit.decided is not None and healthy.any():
        alarms, count = int(unit.decided[healthy].sum()), int(healthy.sum())
        if _binomial_tail(alarms, count, asked) < SURE:
            found.append(
                f"{alarms} of {count} healthy clips raise an alarm ({100 * alarms / count:.0f} %) where "
                f"{100 * asked:g} % were asked: the test clips sound less like the references than these do among "
                "themselves."
            )
    if not unit.development and unit.decided is not None and (unit.decided.all() or not unit.decided.any()):
        found.append(f"{'all' if unit.decided.all() else 'no'} test clips raise an alarm.")
    if len(np.unique(unit.scores)) == 1 < len(unit.scores):
        found.append("all test clips have the same score.")
    if unit.expected.get("remark"):
        found.append(f"{unit.expected['remark']}.")
    for domain in ("source", "target"):
        count = int((unit.reference_domains == domain).sum())
        if 0 < count < FEW_REFERENCES:
            found.append(f"only {count} normal references of the {domain} domain.")
    return found


def _sensors(run: RunData) -> list[str]:
    """Recordings whose samples look like those of a broken or another sensor."""
    found = [f"{note}." for note in health_table.training_notes(run.clips, run.healths)]
    groups: dict[tuple[str, str], list[Clip]] = {}
    for clip in run.clips:
        if clip.key in run.healths:
            groups.setdefault((clip.machine, clip.section), []).append(clip)
    rate = run.config.data.rate if run.config else 0
    for (machine, section), clips in groups.items():
        test = [clip for clip in clips if clip.split == "test"]
        references = [clip for clip in clips if clip.split == "train"]
        kinds: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
        known = health_check.usual(references, run.healths, rate) if references else health_check.Usual()
        for clip in test:
            for problem in health_check.check(clip, run.healths[clip.key], known):
                kinds[problem.unusable].setdefault(problem.kind, []).append(clip.file)
        for unusable, own in kinds.items():
            meaning = "their scores say nothing about the machine" if unusable else "their scores may mean little"
            if own:
                listed = health_table.listing(own, len(test))
                found.append(f"{machine} section {section}: test recordings: {listed}: {meaning}.")
    return found


def _binomial_tail(hits: int, count: int, share: float) -> float:
    """P(X >= hits) for ``count`` clips that each raise an alarm with probability ``share``."""
    logs = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(share)
        + (count - k) * math.log1p(-share)
        for k in range(hits, count + 1)
    ]
    return sum(math.exp(value) for value in logs)


def _collapse(run: RunData) -> list[str]:
    if run.config is None:
        return []
    curve = read_curve(run, run.paths.encoder.parent / "curve.csv")
    found = []
    for name, floor in (
        ("target_std", run.config.pretrain.min_target_std),
        ("prediction_std", run.config.pretrain.min_prediction_std),
    ):
        if name in curve and curve[name][-1] < 2 * floor:
            found.append(f"Pre-training: {name} ends at {curve[name][-1]:.2g}, near the {floor:g} that means collapse.")
    return found


def _idle_training(run: RunData) -> list[str]:
    """Diagnoses on which pre-training gave no improvement."""
    found = run.attempt(run.paths.benchmark, read_json)
    notes = []
    for name, task in (found.get("tasks") or {}).items() if isinstance(found, dict) else ():
        trained, untrained = (task.get(key, {}).get("macro_accuracy") for key in ("pre-trained", "untrained"))
        if trained is not None and untrained is not None and trained <= untrained:
            notes.append(
                f"Fault diagnosis ({name}): the pre-trained encoder reaches {trained:.1f} %, an untrained one "
                f"{untrained:.1f} %: the pre-training did not help here."
            )
    return notes
