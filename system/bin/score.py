"""Stage 4: distance of every clip to its normal references. With files: decisions of a finished run on them."""

import argparse

from system.bin import options, score_files
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    score_files.add_arguments(parser)


def main(args: argparse.Namespace) -> int | None:
    if args.files:
        return score_files.main(args)
    with session(args.exp, args.conf, args.set) as run:
        return run_stage(run, "score")
