"""Stage 5: combine the scores of the branches to systems and set decision thresholds."""

import argparse

from system.bin import options
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    options.add_example(parser, "wheeltapper fuse --exp exp/default")


def main(args: argparse.Namespace) -> None:
    with session(args.exp, args.conf, args.set) as run:
        run_stage(run, "fuse")
