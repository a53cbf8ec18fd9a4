"""Stage 5: calibrate, weight and threshold the branches into the systems of the submission."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from system.bin import common
from system.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)


def main(args: argparse.Namespace) -> None:
    with common.experiment(args) as run:
        config = run.config
        settings = {
            "systems": [{"view": s.view, "weights": dict(s.weights)} for s in config.systems],
            "labels": run.labels,
            "false_positive_rate": config.false_positive_rate,
        }
        reads = [run.scores(branch, view) for branch, views in run.views.items() for view in views]
        common.run_stage(run.stage("fuse", settings, reads, owns=["systems"]), lambda: _work(run))


def _work(run: Experiment) -> Iterable[Path]:
    from system.scoring import machines

    written: list[Path] = []
    for label, system in zip(run.labels, run.config.systems, strict=True):
        branches = {
            name: machines.read_rows(run.scores(name, system.view))
            for name, weight in system.weights.items()
            if weight > 0
        }
        rows, thresholds = machines.fuse_system(branches, system, run.config.false_positive_rate)
        written += machines.write_system(run.system(label), rows, thresholds)
    return written
