"""Stage 4: distance of every clip to its normal references. With files: decisions of a finished run on them."""

import argparse
from dataclasses import replace
from pathlib import Path

from system.bin import options
from system.bin.parsing import only_with
from system.errors import WheeltapperError
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser)
    files = parser.add_argument_group("inputs: new recordings, for a run whose stages 0 to 5 are complete")
    files.add_argument("files", nargs="*", type=Path, metavar="PATH", help="sound files, and folders of sound files")
    options.add(files, "--system", "the one of the run that decides", default=1)
    files.add_argument(
        "--machine", default="", metavar="NAME", help="machine that was recorded (default: the name of the folder)"
    )
    files.add_argument(
        "--section", default="", metavar="NN", help="section of the machine (default: its only one, or 00)"
    )
    outputs = parser.add_argument_group("outputs, for new recordings")
    options.add(outputs, "--csv")
    options.add(outputs, "--json")
    computing = parser.add_argument_group("computing, for new recordings")
    options.add_device(computing, detail="cuda, mps, cpu or auto (default: as the run has it)", default="")
    for group in (files, outputs, computing):
        only_with(group, "files", "new recordings")
    options.add_example(
        parser,
        "wheeltapper score --exp exp/default exp/default/data/SimFan/test --csv scores.csv",
        note="Exit status for new recordings: 0 all were judged, 1 some could not be read, 4 all were read, some are "
        "unusable (a broken sensor, or another one than the references have).",
    )


def main(args: argparse.Namespace) -> int:
    if args.files:
        return _judge(args)
    with session(args.exp, args.conf, args.set) as run:
        run_stage(run, "score")
    return 0


def _judge(args: argparse.Namespace) -> int:
    if args.conf or args.set:
        raise WheeltapperError("--conf, --set: expected none with files, which are scored as the run was configured")
    for path in filter(None, (args.csv, args.json)):
        if path.is_dir():
            raise WheeltapperError(f"{path}: expected a file to write, found a folder")
    from system.pipeline import verdict_table as table
    from system.pipeline.judging import finished_run, judge_recordings, list_recordings

    run, clips = finished_run(Path(args.exp))
    if not 1 <= args.system <= len(run.config.systems):
        raise WheeltapperError(f"--system: expected 1 to {len(run.config.systems)}, found {args.system}")
    if args.device:
        run = replace(run, config=replace(run.config, device=args.device))
    recordings = list(list_recordings(args.files, clips, args.machine, args.section))
    rows = [table.row(judged) for judged in judge_recordings(run, args.system, clips, recordings)]
    table.show_errors(rows)
    if args.csv:
        table.write_csv(args.csv, rows)
    if args.json:
        table.write_results(args.json, rows, run, args.system)
    table.show(rows)
    table.show_false_alarms(rows, run, args.system)
    return table.exit_status(rows)
