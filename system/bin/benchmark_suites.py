"""``wheeltapper benchmark rmis|siren``: an encoder over all data sets of a benchmark that are there."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from system import processes
from system.bin import benchmark_tasks, options
from system.errors import WheeltapperError
from system.machine import choose_device

if TYPE_CHECKING:
    from system.encoders.base import Encoder

HELP = {
    "rmis": "RMIS with an encoder: 6 sets of anomaly detection, 13 of fault diagnosis",
    "siren": "SIREN with an encoder: 6 sets of anomaly detection, 5 figures of fault classification; and MFPT",
}
STORE = Path("exp/embeddings")


def add_parsers(benchmarks: argparse._SubParsersAction) -> None:
    """A parser for each benchmark."""
    from system.benchmarks.protocols import STATISTICS

    for name, text in HELP.items():
        parser = benchmarks.add_parser(name, help=text, description=f"{text}.")
        inputs = parser.add_argument_group("inputs")
        options.add(
            inputs,
            "--data",
            "folder with <data set>/manifest.csv as wheeltapper prepare writes it; what is missing is left out",
            type=Path,
            required=True,
            metavar="DIR",
        )
        options.add(inputs, "--sets", "(default: all)", nargs="+")
        model = parser.add_argument_group("model")
        options.add_encoder(model, f", or statistics: {', '.join(STATISTICS)}")
        options.add(model, "--exp", "the run whose pre-trained encoder is the default one")
        options.add(model, "--seed", "of untrained weights", default=0)
        options.add(model, "--name", "(default: encoder and checkpoint)")
        protocol = parser.add_argument_group("protocol")
        benchmark_tasks.add_protocol(protocol)
        if name == "rmis":
            protocol.add_argument(
                "--multi-split", action="store_true", help="fault diagnosis at 19 test sizes instead (rmis-multisplit)"
            )
        outputs = parser.add_argument_group("outputs")
        options.add(outputs, "--json", "wheeltapper leaderboard reads it")
        options.add(outputs, "--store", type=Path, default=STORE)
        computing = parser.add_argument_group("computing")
        options.add_device(computing)
        options.add_precision(computing)
        benchmark_tasks.add_resources(computing)
        options.add_example(parser, f"wheeltapper benchmark {name} --data data/{name} --json {name}.json")


def main(args: argparse.Namespace) -> int:
    from system.benchmarks.suite_run import run_suite
    from system.benchmarks.tasks import Options
    from system.leaderboard.task_means import task_means

    if args.workers < 1:
        raise WheeltapperError(f"--workers: expected at least 1, found {args.workers}")
    if not args.data.is_dir():
        raise WheeltapperError(f"--data {args.data}: expected a folder with a folder for each data set, found none")
    suite = "rmis-multisplit" if getattr(args, "multi_split", False) else args.benchmark
    chosen = Options(args.protocol, args.sealed, memory=args.memory or Options.memory, workers=args.workers)
    encoder, name = _encoder(args)
    result = run_suite(suite, args.data, encoder, name, chosen, args.store, args.sets, args.workers)
    if not processes.is_main():
        return 0  # the main process says what failed
    print(result.table())
    for line in task_means(suite, result.scores):
        print(line)
    print(f"not there: {', '.join(result.missing) or 'nothing'}")
    if args.json:
        result.write(args.json)
        print(f"wrote {args.json}")
    if result.failed:
        raise WheeltapperError("\n".join(f"{name}: {text}" for name, text in result.failed.items()))
    return 0


def _encoder(args: argparse.Namespace) -> "tuple[Encoder | str, str]":
    """The encoder, or the name of statistics, and what a table calls it."""
    from system.benchmarks.protocols import STATISTICS
    from system.embeddings.embed import choose_precision

    device = choose_device(args.device)
    if args.encoder in STATISTICS:
        if args.checkpoint or args.exp:
            raise WheeltapperError(f"--encoder {args.encoder}: expected no weights, found --checkpoint or --exp")
        return args.encoder, args.name or args.encoder
    encoder = options.build_encoder(args, args.checkpoint, args.seed)
    encoder.to(device, choose_precision(args.precision, device))
    weights = f"random, seed {args.seed}" if args.checkpoint == options.RANDOM else args.checkpoint or args.exp
    usual = f"{args.encoder}, {weights}" if weights else args.encoder
    return encoder, args.name or usual
