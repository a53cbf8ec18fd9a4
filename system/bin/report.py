"""Stage 9: the report of a run, one html file."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from system.bin import common
from system.experiment import STAGES, Experiment
from system.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)


def main(args: argparse.Namespace) -> None:
    with common.experiment(args) as run:
        earlier = [run.stage(name, {}, [], []).marker for name in STAGES[:-1]]
        # The records of the earlier stages stand for all that they wrote.
        reads = [path for path in earlier if path.is_file()]
        common.run_stage(run.stage("report", {}, reads, owns=["report.html"]), lambda: _work(run))


def _work(run: Experiment) -> Iterable[Path]:
    from system.report import write_report

    with progress_bar(0, "drawing") as bar:
        return [write_report(run.folder, bar.to)]
