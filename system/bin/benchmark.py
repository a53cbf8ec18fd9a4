"""RMIS and SIREN: whole, with an encoder, or a task of theirs over embeddings in a file. With --exp: stage 8, a small
fault diagnosis in the manner of RMIS on the run's own recordings, trained against untrained."""

import argparse

from system.bin import cached_benchmarks, options, suites
from system.errors import WheeltapperError
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser, required=False)
    verbs = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK")
    suites.add_parsers(verbs)
    cached_benchmarks.add_parsers(verbs)


def main(args: argparse.Namespace) -> int | None:
    if args.benchmark:
        return suites.main(args) if args.benchmark in suites.HELP else cached_benchmarks.main(args)
    if not args.exp:
        from system.benchmarks.tasks import TASKS

        names = ", ".join([*suites.HELP, *TASKS])
        raise WheeltapperError(f"expected a benchmark ({names}), or --exp EXP (stage of a recipe)")
    with session(args.exp, args.conf, args.set) as run:
        run_stage(run, "benchmark")
