"""Stage 1: pre-train the sub-band encoder on the training recordings, or on any recordings (--source)."""

import argparse

from system.bin import options
from system.config import SourceConfig
from system.errors import WheeltapperError
from system.pipeline import forecast
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="PATH[=WEIGHT]",
        help="manifest.csv or folder of shards to learn from, may be repeated (default: pretrain.sources, or the "
        "recordings of the run). WEIGHT is its share of the draws (default: its number of recordings)",
    )
    options.add_example(parser, "wheeltapper pretrain --exp exp/pretrained --conf fisher.yaml --source manifest.csv")


def main(args: argparse.Namespace) -> None:
    with session(args.exp, args.conf, args.set, several=True) as run:
        if args.source:
            run.config.pretrain.sources = [_source(text) for text in args.source]
        forecast.announce(run, ["pretrain"])
        run_stage(run, "pretrain")


def _source(text: str) -> SourceConfig:
    path, _, weight = text.partition("=")
    try:
        return SourceConfig(path, float(weight or 0))
    except ValueError as error:
        raise WheeltapperError(f"--source {text}: expected PATH or PATH=WEIGHT with a number") from error
