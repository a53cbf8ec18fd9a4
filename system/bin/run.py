"""The stages of a recipe one after another; run.sh is its front door.

Of several processes all work at stages 1 to 3. Before and after them the others wait for the main one.
"""

import argparse
from pathlib import Path

from system import plugins, processes
from system.bin import options
from system.bin.package import check_written
from system.errors import WheeltapperError
from system.experiment import STAGES
from system.pipeline import forecast, preflight
from system.pipeline.preflight import Plan
from system.pipeline.session import run_data, run_stage, session

LAST = len(STAGES) - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser, detail="a new one, or one to go on with")
    inputs = parser.add_argument_group("inputs")
    options.add(
        inputs,
        "--data",
        "synthetic, dcase<year>, a folder, a manifest.csv or a table (default: those of the last run, or synthetic)",
    )
    options.add_stages(parser, LAST)
    options.add_example(parser, "wheeltapper run --exp exp/toy --conf toy.yaml")


def main(args: argparse.Namespace) -> None:
    for number in (args.stage, args.stop_stage):
        if not 0 <= number <= LAST:
            raise WheeltapperError(f"--stage, --stop-stage: expected 0 to {LAST}, found {number}")
    if args.stop_stage < args.stage:
        raise WheeltapperError(f"--stop-stage: expected at least {args.stage} (--stage), found {args.stop_stage}")
    numbers, conf = range(args.stage, args.stop_stage + 1), Path(args.conf) if args.conf else None
    if args.data and args.stage > 0:
        _check_data(args)
    plan = Plan(Path(args.exp), conf, args.set, args.data or "", numbers)
    if processes.is_main():
        for note in preflight.check(plan):
            print(f"note: {note}", flush=True)
        preflight.check_earlier(plan)
    else:
        plugins.load()  # as the preflight does
    with session(args.exp, args.conf, args.set, several=True) as run:
        names = STAGES[args.stage : args.stop_stage + 1]
        for name in names:
            if name == next(filter(forecast.STAGES.__contains__, names), ""):
                forecast.announce(run, names)
            if name == "data":
                run_data(run, plan.data)
            else:
                run_stage(run, name)
        if list(numbers) == [STAGES.index("package")] and processes.is_main():
            check_written(run)
    if args.stop_stage == LAST:
        processes.say(f"report: {run.report}")
        processes.say(f"package: {run.zip}" if run.zip.is_file() else "no package: stage 7 wrote none")


def _check_data(args: argparse.Namespace) -> None:
    """Raises WheeltapperError where --data names other recordings than those that the run has, and are not read."""
    from system.config import DataConfig
    from system.corpora import source

    known = source.remembered(Path(args.exp), Path(DataConfig().folder))
    if known and args.data != known and Path(args.data).resolve() != Path(known).resolve():
        raise WheeltapperError(
            f"--data {args.data}: expected stage 0 with it, which reads recordings, found --stage {args.stage}; those "
            f"of the run are {known}"
        )
