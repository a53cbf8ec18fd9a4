"""Stage 4: the distance of every clip to the normal references of its machine, for each branch and view."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from system import manifest
from system.experiment import Experiment
from system.progress import progress_bar
from system.stage import Stage


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    settings = {
        "scorers": {name: asdict(branch.scorer) for name, branch in run.config.branches.items()},
        "views": run.views,
        "seed": run.config.seed,
    }
    reads = [run.manifest]
    for branch, views in run.views.items():
        reads += [run.index(branch), *(run.embeddings(branch, view) for view in views)]
    return run.stage("score", settings, reads, owns=["scores"])


def work(run: Experiment) -> Iterable[Path]:
    """Scores all clips; returns the files written."""
    from system import machine_scores, score_tables
    from system.embeddings.files import read_rows

    clips, written = manifest.read(run.manifest), []
    count = sum(clip.split in ("train", "test") for clip in clips)
    with progress_bar(count * sum(map(len, run.views.values())), "scoring") as bar:
        for branch, views in run.views.items():
            for view in views:
                rows = machine_scores.score_machines(
                    clips,
                    read_rows(run.index(branch), run.embeddings(branch, view)),
                    run.config.branches[branch].scorer,
                    run.config.seed,
                    bar.update,
                )
                written.append(run.scores(branch, view))
                score_tables.write_rows(written[-1], rows)
    return written
