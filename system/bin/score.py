"""Stage 4: distance of every clip to the normal references of its machine, for each branch and view. With files: scores
and decisions for new recordings, by a finished run."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from system import manifest
from system.bin import common, score_files
from system.experiment import Experiment
from system.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)
    score_files.add_arguments(parser)


def main(args: argparse.Namespace) -> int | None:
    if args.files:
        return score_files.main(args)
    with common.experiment(args) as run:
        settings = {
            "scorers": {name: asdict(branch.scorer) for name, branch in run.config.branches.items()},
            "views": run.views,
            "seed": run.config.seed,
        }
        reads = [run.manifest]
        for branch, views in run.views.items():
            reads += [run.index(branch), *(run.embeddings(branch, view) for view in views)]
        common.run_stage(run.stage("score", settings, reads, owns=["scores"]), lambda: _work(run))


def _work(run: Experiment) -> Iterable[Path]:
    from system import score_tables
    from system.embeddings.files import read_rows

    clips, written = manifest.read(run.manifest), []
    count = sum(clip.split in ("train", "test") for clip in clips)
    with progress_bar(count * sum(map(len, run.views.values())), "scoring") as bar:
        for branch, views in run.views.items():
            for view in views:
                rows = score_tables.score_machines(
                    clips,
                    read_rows(run.index(branch), run.embeddings(branch, view)),
                    run.config.branches[branch].scorer,
                    run.config.seed,
                    bar.update,
                )
                written.append(run.scores(branch, view))
                score_tables.write_rows(written[-1], rows)
    return written
