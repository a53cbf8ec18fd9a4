"""The stages of a recipe one after another in one process; run.sh is its front door."""

import argparse
from pathlib import Path

import system.bin
from system import config as configuration
from system.bin import common
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.pipeline import preflight
from system.pipeline.preflight import Plan
from system.pipeline.settings import read_configuration

# The command of each stage, in the order of system.experiment.STAGES.
VERBS = ("prepare", "pretrain", "adapt", "embed", "score", "fuse", "evaluate", "package", "benchmark", "report")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)
    parser.add_argument(
        "--data",
        help="recordings: synthetic | dcase<year> | DIR | manifest.csv (default: as in the last run, or synthetic)",
    )
    parser.add_argument("--stage", type=int, default=0, help="first stage (default 0)")
    parser.add_argument("--stop-stage", type=int, default=len(VERBS) - 1, help="last stage (default 9)")


def main(args: argparse.Namespace) -> int:
    for number in (args.stage, args.stop_stage):
        if not 0 <= number < len(VERBS):
            raise WheeltapperError(f"--stage, --stop-stage: expected 0 to {len(VERBS) - 1}, found {number}")
    if args.stop_stage < args.stage:
        raise WheeltapperError(f"--stop-stage: expected at least {args.stage} (--stage), found {args.stop_stage}")
    numbers, conf = range(args.stage, args.stop_stage + 1), Path(args.conf) if args.conf else None
    plan = Plan(Path(args.exp), conf, args.set, args.data or "", numbers)
    for note in preflight.check(plan):
        print(f"note: {note}", flush=True)
    _check_earlier(plan)
    shared = ["--exp", args.exp, *(["--conf", args.conf] if args.conf else []), *(f"--set={text}" for text in args.set)]
    with common.held(args.exp):
        for verb in VERBS[args.stage : args.stop_stage + 1]:
            own = ["--data", args.data] if verb == "prepare" and args.data else []
            status = system.bin.main([verb, *shared, *own])
            if status:
                return status
    if args.stop_stage == len(VERBS) - 1:
        run = Experiment(Path(args.exp), configuration.load(Path(args.exp) / "config.yaml"))
        print(f"report: {run.report}")
        print(f"package: {run.zip}" if run.zip.is_file() else "no package: stage 7 has not run", flush=True)
    return 0


def _check_earlier(plan: Plan) -> None:
    """Raises WheeltapperError unless the stages that a first one builds on are complete with the same settings, so that
    no result is of two configurations."""
    first = plan.stages.start
    before = common.MEASURED[: max(first - 1, 0)] if first < VERBS.index("benchmark") else ()
    if not before:
        return
    run = Experiment(plan.exp, read_configuration(plan.exp, plan.conf, plan.overrides))
    for verb in before:
        stage = common.stage_of(run, verb)
        if not stage.is_complete():
            found = "other settings or inputs than it had" if stage.marker.is_file() else "it not finished"
            wanted = f"stage {stage.number} {stage.name} complete with these settings"
            advice = f"start with --stage {stage.number}"
            raise WheeltapperError(f"{plan.exp}: --stage {first}: expected {wanted}, found {found}; {advice}")
