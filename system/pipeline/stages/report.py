"""Stage 9: the report of a run, one HTML file."""

from collections.abc import Iterable
from pathlib import Path

from system.experiment import STAGES, Experiment
from system.progress import progress_bar
from system.stage import Stage


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    # The records of the earlier stages stand for all that they wrote.
    reads = [path for path in (run.marker(number) for number in range(len(STAGES) - 1)) if path.is_file()]
    return run.stage("report", {}, reads, owns=["report.html"])


def work(run: Experiment) -> Iterable[Path]:
    """Writes the report; returns its file."""
    from system.report import write_report

    with progress_bar(0, "drawing") as bar:
        return [write_report(run.folder, bar.to)]
