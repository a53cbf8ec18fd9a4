"""Stage 5: calibrated branches, weighted and with thresholds: the systems of the submission."""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from system.config import SystemConfig
from system.experiment import Experiment
from system.stage import Stage


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    config = run.config
    settings = {
        "systems": [_settings(system) for system in config.systems],
        "labels": run.labels,
        "false_positive_rate": config.false_positive_rate,
    }
    batches = [system for system in config.systems if system.threshold == "batches"]
    reads = [run.batches(name) for system in batches for name in system.branches]
    reads += [run.scores(branch, view) for branch, views in run.views.items() for view in views]
    return run.stage("fuse", settings, reads, owns=["systems"])


def _settings(system: SystemConfig) -> dict[str, Any]:
    found = {"view": system.view, "weights": dict(system.weights)}
    usual = {"threshold": "references", "fusion": "sum"}
    return found | {name: getattr(system, name) for name in usual if getattr(system, name) != usual[name]}


def work(run: Experiment) -> Iterable[Path]:
    """Writes challenge CSVs and thresholds of every system; returns the files written."""
    from system import false_alarms, fused_scores, manifest, score_tables
    from system.evaluation import coinciding

    written: list[Path] = []
    scores: dict[str, dict[Hashable, float]] = {}
    for label, system in zip(run.labels, run.config.systems, strict=True):
        branches = {name: score_tables.read_rows(run.scores(name, system.view)) for name in system.branches}
        raw = fused_scores.raw_thresholds(run, system)
        rows, thresholds = fused_scores.fuse_system(branches, system, run.config.false_positive_rate, raw)
        expected = None
        if raw is None:
            expected = false_alarms.expected_false_alarms(rows, thresholds, run.config.false_positive_rate)
        if label == run.labels[0]:
            for (machine, section), found in zip(thresholds, (expected or {}).values(), strict=bool(expected)):
                print(f"{machine} section {section}: {false_alarms.false_alarm_text(found)}", flush=True)
        course = fused_scores.courses(fused_scores.fuse_windows(branches, system))
        written += score_tables.write_system(run.system(label), rows, thresholds, expected, course)
        scores[label] = {(row.machine, row.section, row.file): row.score for row in rows if row.split == "test"}
    for group in coinciding.groups(scores):
        mono = all(clip.model_channels == 1 for clip in manifest.read(run.manifest))
        print(f"note: {coinciding.sentence(group, mono)}")
    return written
