"""The official metrics of a folder of challenge CSVs against a table of the truth. With --exp: stage 6."""

import argparse
from pathlib import Path

from system.bin import options
from system.bin.parsing import only_with
from system.errors import WheeltapperError
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import latest_year

    inputs = parser.add_argument_group("inputs: anomaly scores in files, instead of the stage")
    inputs.add_argument("--scores", type=Path, metavar="DIR", help="folder of anomaly_score_*.csv (and decision_*.csv)")
    options.add(inputs, "--truth", "with the columns machine, section, file, domain, label")
    options.add(inputs, "--year", "whose rule for the official score applies", default=latest_year())
    inputs.add_argument(
        "--bootstrap",
        type=_count,
        default=1000,
        metavar="N",
        help="resamples of the test clips for the 95 %% interval, 0 for none (default: %(default)s)",
    )
    options.add(inputs, "--seed", "of the resampling", default=0, type=_count)
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--json", "metrics as fractions")
    options.add(outputs, "--csv", "a row a machine, metrics as fractions")
    for group in (inputs, outputs):
        only_with(group, "scores", "--scores DIR")
    options.add_experiment_arguments(parser, required=False, detail="stage 6 of its run, instead of --scores")
    options.add_example(
        parser,
        "wheeltapper evaluate --scores exp/default/systems/Wheeltapper_Demo_task2_1 --truth exp/default/data/truth.csv",
        note="The official score is over all machines of the truth, development and evaluation machines alike.",
    )


def main(args: argparse.Namespace) -> None:
    if args.scores is not None and (args.exp or args.conf or args.set):
        raise WheeltapperError("--scores: expected no --exp, --conf and --set with it, which are those of a stage")
    if args.exp:
        with session(args.exp, args.conf, args.set) as run:
            return run_stage(run, "evaluate")
    if args.scores is None or args.truth is None:
        raise WheeltapperError("expected --scores DIR --truth FILE, or --exp DIR (stage of a recipe)")
    from system.corpora.challenge import rule_of_year
    from system.evaluation import truth
    from system.evaluation.folder import evaluate_folder, table, write_csv

    try:
        clips = truth.read_truth(args.truth)
        truth.check_domains(clips)
        found, notes = evaluate_folder(args.scores, clips, rule_of_year(args.year), args.bootstrap, args.seed)
    except WheeltapperError as error:
        raise WheeltapperError(f"{args.scores} against {args.truth}: {error}") from error
    for note in notes:
        print(f"note: {note}")
    print(table(found))
    if args.csv:
        write_csv(args.csv, found)
        print(f"wrote {args.csv}")
    if args.json:
        from system.files import write_json

        write_json(args.json, {"year": args.year, **found})
        print(f"wrote {args.json}")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, found {text!r}")
    return int(text)
