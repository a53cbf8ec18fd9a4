"""Stage 7: write the submission package of a run."""

import argparse

from system.bin import options
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    options.add_example(parser, "wheeltapper package --exp exp/default")


def main(args: argparse.Namespace) -> None:
    with session(args.exp, args.conf, args.set) as run:
        run_stage(run, "package")
