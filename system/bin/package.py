"""Stage 7: write the submission package of a run."""

import argparse

from system.bin import options
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    options.add_example(parser, "wheeltapper package --exp exp/default")


def main(args: argparse.Namespace) -> None:
    with session(args.exp, args.conf, args.set) as run:
        run_stage(run, "package")
        check_written(run)


def check_written(run: Experiment) -> None:
    """Raises WheeltapperError where stage 7 had nothing to package."""
    from system.pipeline.stages.package import NO_TESTS

    if not run.zip.is_file():
        raise WheeltapperError(f"{run.folder}: expected a package, found none: {NO_TESTS}")
