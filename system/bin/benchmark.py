"""RMIS and SIREN: whole, with an encoder, or a task of theirs over embeddings in a file. With --exp: stage 8, a small
fault diagnosis in the manner of RMIS on the run's own recordings, trained against untrained."""

import argparse

from system.bin import benchmark_suites, benchmark_tasks, options
from system.errors import WheeltapperError
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser, required=False, detail="stage 8 of its run, instead of a benchmark")
    benchmarks = parser.add_subparsers(
        title="benchmarks", dest="benchmark", metavar="BENCHMARK", help="wheeltapper benchmark BENCHMARK --help"
    )
    benchmark_suites.add_parsers(benchmarks)
    benchmark_tasks.add_parsers(benchmarks)
    options.add_example(parser, "wheeltapper benchmark --exp exp/default")


def main(args: argparse.Namespace) -> int:
    if args.benchmark:
        return (benchmark_suites if args.benchmark in benchmark_suites.HELP else benchmark_tasks).main(args)
    if not args.exp:
        from system.benchmarks.tasks import TASKS

        names = ", ".join([*benchmark_suites.HELP, *TASKS])
        raise WheeltapperError(f"expected a benchmark ({names}), or --exp DIR (stage of a recipe)")
    with session(args.exp, args.conf, args.set) as run:
        run_stage(run, "benchmark")
    return 0
