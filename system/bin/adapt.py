"""Stage 2: fine-tune each branch on the normal training recordings of the machines."""

import argparse

from system.bin import options
from system.pipeline import forecast
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    options.add_example(parser, "wheeltapper adapt --exp exp/default")


def main(args: argparse.Namespace) -> None:
    with session(args.exp, args.conf, args.set, several=True) as run:
        forecast.announce(run, ["adapt"])
        run_stage(run, "adapt")
