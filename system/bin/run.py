"""The stages of a recipe one after another in one process; run.sh is its front door."""

import argparse
from pathlib import Path

import system.bin
from system import preflight
from system.bin import common
from system.corpora.source import SYNTHETIC
from system.errors import WheeltapperError
from system.preflight import Plan

# The command of each stage, in the order of system.experiment.STAGES.
VERBS = ("prepare", "pretrain", "adapt", "embed", "score", "fuse", "evaluate", "package", "benchmark", "report")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)
    parser.add_argument("--data", help="of stage 0: synthetic | dcase<year> | DIR (default: synthetic)")
    parser.add_argument("--stage", type=int, default=0, help="first stage (default 0)")
    parser.add_argument("--stop-stage", type=int, default=len(VERBS) - 1, help="last stage (default 9)")


def main(args: argparse.Namespace) -> int:
    for number in (args.stage, args.stop_stage):
        if not 0 <= number < len(VERBS):
            raise WheeltapperError(f"--stage, --stop-stage: expected 0 to {len(VERBS) - 1}, found {number}")
    if args.stop_stage < args.stage:
        raise WheeltapperError(f"--stop-stage: expected at least {args.stage} (--stage), found {args.stop_stage}")
    numbers, conf = range(args.stage, args.stop_stage + 1), Path(args.conf) if args.conf else None
    plan = Plan(Path(args.exp), conf, args.set, args.data or SYNTHETIC, numbers)
    for note in preflight.check(plan):
        print(f"note: {note}", flush=True)
    shared = ["--exp", args.exp, *(["--conf", args.conf] if args.conf else []), *(f"--set={text}" for text in args.set)]
    with common.held(args.exp):
        for verb in VERBS[args.stage : args.stop_stage + 1]:
            own = ["--data", args.data] if verb == "prepare" and args.data else []
            status = system.bin.main([verb, *shared, *own])
            if status:
                return status
    return 0
