"""Stage 5: calibrate, weight and threshold the branches into the systems of the submission."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from system.bin import common
from system.config import SystemConfig
from system.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)


def main(args: argparse.Namespace) -> None:
    with common.experiment(args) as run:
        config = run.config
        settings = {
            "systems": [_settings(system) for system in config.systems],
            "labels": run.labels,
            "false_positive_rate": config.false_positive_rate,
        }
        batches = [system for system in config.systems if system.threshold == "batches"]
        reads = [run.batches(name) for system in batches for name, weight in system.weights.items() if weight > 0]
        reads += [run.scores(branch, view) for branch, views in run.views.items() for view in views]
        common.run_stage(run.stage("fuse", settings, reads, owns=["systems"]), lambda: _work(run))


def _settings(system: SystemConfig) -> dict[str, Any]:
    found = {"view": system.view, "weights": dict(system.weights)}
    usual = {"threshold": "references", "fusion": "sum"}
    return found | {name: getattr(system, name) for name in usual if getattr(system, name) != usual[name]}


def _work(run: Experiment) -> Iterable[Path]:
    from system import score_tables

    written: list[Path] = []
    for label, system in zip(run.labels, run.config.systems, strict=True):
        branches = {
            name: score_tables.read_rows(run.scores(name, system.view))
            for name, weight in system.weights.items()
            if weight > 0
        }
        raw = score_tables.raw_thresholds(run, system)
        rows, thresholds = score_tables.fuse_system(branches, system, run.config.false_positive_rate, raw)
        written += score_tables.write_system(run.system(label), rows, thresholds)
    return written
