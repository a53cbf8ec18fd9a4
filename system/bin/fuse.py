"""Stage 5: calibrate, weight and threshold the branches into the systems of the submission."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from system.bin import common
from system.config import SystemConfig
from system.errors import WheeltapperError
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
        reads = [run.batches(_first(system)) for system in config.systems if system.threshold == "batches"]
        reads += [run.scores(branch, view) for branch, views in run.views.items() for view in views]
        common.run_stage(run.stage("fuse", settings, reads, owns=["systems"]), lambda: _work(run))


def _settings(system: SystemConfig) -> dict[str, Any]:
    found = {"view": system.view, "weights": dict(system.weights)}
    return found | ({"threshold": system.threshold} if system.threshold != "references" else {})


def _first(system: SystemConfig) -> str:
    """The branch of a system of one."""
    return next(name for name, weight in system.weights.items() if weight > 0)


def _raw_thresholds(run: Experiment, system: SystemConfig) -> dict[str, float] | None:
    """Thresholds of the machines on a single branch's own scores, where the system takes them from batch losses."""
    from system.scoring.calibrate import gamma_threshold
    from system.stage import read_json

    if system.threshold == "references":
        return None
    name, thresholds = _first(system), {}
    score = run.config.branches[name].autoencoder.score
    for machine, losses in read_json(run.batches(name)).items():
        try:
            thresholds[machine] = gamma_threshold(losses[score], run.config.false_positive_rate)
        except WheeltapperError as error:
            raise WheeltapperError(f"{machine}: {error}") from error
    return thresholds


def _work(run: Experiment) -> Iterable[Path]:
    from system.scoring import machines

    written: list[Path] = []
    for label, system in zip(run.labels, run.config.systems, strict=True):
        branches = {
            name: machines.read_rows(run.scores(name, system.view))
            for name, weight in system.weights.items()
            if weight > 0
        }
        raw = _raw_thresholds(run, system)
        rows, thresholds = machines.fuse_system(branches, system, run.config.false_positive_rate, raw)
        written += machines.write_system(run.system(label), rows, thresholds)
    return written
