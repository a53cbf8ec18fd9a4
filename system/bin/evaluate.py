"""The official metrics of a folder of challenge CSVs against a table of the truth. With --exp: stage 6."""

import argparse
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import latest_year

    parser.add_argument("--scores", type=Path, metavar="DIR", help="folder of challenge CSVs")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="CSV with machine, section, file, domain, label")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the metrics as fractions")
    parser.add_argument(
        "--year", type=int, default=latest_year(), help="challenge year whose rule counts (default %(default)s)"
    )
    parser.add_argument(
        "--bootstrap",
        type=_count,
        default=1000,
        metavar="N",
        help="resamples for the interval, 0 for none (default 1000)",
    )
    parser.add_argument("--seed", type=_count, default=0, help="seed of the bootstrap (default 0)")
    options.add_experiment_arguments(parser, required=False)


def main(args: argparse.Namespace) -> None:
    if args.exp:
        with session(args.exp, args.conf, args.set) as run:
            return run_stage(run, "evaluate")
    if args.scores is None or args.truth is None:
        raise WheeltapperError("expected --scores DIR --truth FILE, or --exp EXP (stage of a recipe)")
    from system.corpora.challenge import rule_of_year
    from system.evaluation import truth
    from system.evaluation.folder import evaluate_folder, table

    try:
        clips = truth.read_truth(args.truth)
        found, notes = evaluate_folder(args.scores, clips, rule_of_year(args.year), args.bootstrap, args.seed)
    except WheeltapperError as error:
        raise WheeltapperError(f"{args.scores} against {args.truth}: {error}") from error
    for note in notes:
        print(f"note: {note}")
    print(table(found))
    if args.json:
        from system.files import write_json

        write_json(args.json, {"year": args.year, **found})
        print(f"wrote {args.json}")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, found {text!r}")
    return int(text)
