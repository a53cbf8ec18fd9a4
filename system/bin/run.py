"""The stages of a recipe one after another in one process; run.sh is its front door."""

import argparse
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError
from system.experiment import STAGES, Experiment
from system.pipeline import preflight
from system.pipeline.preflight import Plan
from system.pipeline.session import run_stage, session
from system.pipeline.settings import read_configuration
from system.pipeline.stages import STAGES_TO_METRICS, first_incomplete

LAST = len(STAGES) - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    parser.add_argument(
        "--data",
        help="recordings: synthetic | dcase<year> | DIR | manifest.csv (default: as in the last run, or synthetic)",
    )
    parser.add_argument("--stage", type=int, default=0, help="first stage (default 0)")
    parser.add_argument("--stop-stage", type=int, default=LAST, help="last stage (default 9)")


def main(args: argparse.Namespace) -> None:
    for number in (args.stage, args.stop_stage):
        if not 0 <= number <= LAST:
            raise WheeltapperError(f"--stage, --stop-stage: expected 0 to {LAST}, found {number}")
    if args.stop_stage < args.stage:
        raise WheeltapperError(f"--stop-stage: expected at least {args.stage} (--stage), found {args.stop_stage}")
    numbers, conf = range(args.stage, args.stop_stage + 1), Path(args.conf) if args.conf else None
    plan = Plan(Path(args.exp), conf, args.set, args.data or "", numbers)
    for note in preflight.check(plan):
        print(f"note: {note}", flush=True)
    _check_earlier(plan)
    with session(args.exp, args.conf, args.set) as run:
        for name in STAGES[args.stage : args.stop_stage + 1]:
            run_stage(run, name, **({"data": plan.data} if name == "data" else {}))
    if args.stop_stage == LAST:
        print(f"report: {run.report}")
        print(f"package: {run.zip}" if run.zip.is_file() else "no package: stage 7 has not run", flush=True)


def _check_earlier(plan: Plan) -> None:
    """Raises WheeltapperError unless the stages before the first one are complete with the same settings.

    Otherwise a result would mix two configurations.
    """
    first = plan.stages.start
    before = STAGES_TO_METRICS[: max(first - 1, 0)] if first < STAGES.index("benchmark") else ()
    if not before:
        return
    run = Experiment(plan.exp, read_configuration(plan.exp, plan.conf, plan.overrides))
    if stage := first_incomplete(run, before):
        found = "other settings or inputs than it had" if stage.marker.is_file() else "it not finished"
        wanted = f"stage {stage.number} {stage.name} complete with these settings"
        advice = f"start with --stage {stage.number}"
        raise WheeltapperError(f"{plan.exp}: --stage {first}: expected {wanted}, found {found}; {advice}")
