"""Recordings to a checked manifest.csv: a folder in DCASE layout, any folder, what a CSV lists, or a known data set.

With --exp: stage 0 of a recipe, whatever --data names.
"""

import argparse
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError
from system.pipeline.session import run_data, session
from system.pipeline.stages.data import write_manifest
from system.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import span

    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "source",
        type=Path,
        nargs="?",
        metavar="SOURCE",
        help="folder with <machine>/{train,test}/*.wav, any folder of sound files, or a table of files (csv, tsv)",
    )
    inputs.add_argument(
        "--layout",
        choices=("dcase", "files"),
        default="dcase",
        help="of a folder; files: every sound file below it is a training recording (default: %(default)s)",
    )
    inputs.add_argument(
        "--corpus",
        default="",
        metavar="NAME",
        help="name of the corpus (default: dcase, or that of the folder). With a name of download --list, and a folder "
        "for --out: read that data set as its publisher lays it out",
    )
    inputs.add_argument(
        "--view",
        default="",
        choices=("rmis", "siren", "own"),
        help="of a data set: the benchmark it is prepared for (default: the first that has it)",
    )
    inputs.add_argument(
        "--normal",
        action="store_true",
        help="label the files of a table without labels or of --layout files normal, not unknown",
    )
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--out", "manifest; of a data set a folder for manifest.csv and cut recordings")
    year = parser.add_argument_group("a year of the challenge as the benchmarks have it, both phases in one")
    options.add(year, "--year", f"{span()}; SOURCE is what wheeltapper download --year left")
    options.add(year, "--truth", "those published for the evaluation machines")
    year.add_argument(
        "--corrected",
        action="store_true",
        help="the labels of --truth were corrected, where the published list is known to be wrong (2022)",
    )
    suite = parser.add_argument_group("all data sets of a benchmark, and its years of the challenge")
    options.add(
        suite,
        "--suite",
        "SOURCE holds <publisher>/ and dcase<year>/, with its labels in truth.csv where there are any; what is missing "
        "is left out; --out is a folder for <data set>/manifest.csv",
        choices=("rmis", "siren"),
    )
    options.add(suite, "--sets", "(default: all)", nargs="+")
    _add_table_arguments(parser.add_argument_group("a table of files"))
    options.add_experiment_arguments(parser, required=False, detail="stage 0 of its run, instead of SOURCE and --out")
    stage = parser.add_argument_group("stage 0, with --exp")
    options.add(
        stage,
        "--data",
        "synthetic, dcase<year>, a folder, a manifest.csv or a table (default: those of the last run, or synthetic)",
        default="",
    )
    options.add_example(
        parser,
        "wheeltapper synthesize recordings --size tiny",
        "wheeltapper prepare recordings --out manifest.csv",
    )


def _add_table_arguments(table: options.Group) -> None:
    table.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that paths are relative to (default: that of the table)"
    )
    for name, what in (
        ("file", "paths (default: path, file, filename)"),
        ("class", "classes, which become attributes class_<value> (default: none)"),
        ("fold", "folds, which become sections (default: none)"),
        ("group", "groups, which no split separates (default: group)"),
    ):
        table.add_argument(f"--{name}-column", default="", metavar="NAME", help=f"column of the {what}")
    table.add_argument(
        "--other-columns",
        default="refuse",
        choices=("refuse", "ignore", "attributes"),
        help="columns that a manifest does not know: refuse the table, leave them out, or keep them as attributes "
        "(default: %(default)s)",
    )
    table.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="rows to keep, column=value or column~regex; may be repeated",
    )


def main(args: argparse.Namespace) -> None:
    if args.exp and args.source is not None:
        raise WheeltapperError(f"expected SOURCE or --exp, found both, {args.source} and {args.exp}")
    if args.data and not args.exp:
        raise WheeltapperError("--data: expected --exp DIR with it, found none")
    if args.exp:
        with session(args.exp, args.conf, args.set) as run:
            return run_data(run, args.data)
    if args.source is None or args.out is None:
        raise WheeltapperError("expected SOURCE --out CSV, or --exp DIR --data DATA (stage of a recipe)")
    if args.suite:
        return _suite(args)
    if args.sets:
        raise WheeltapperError("--sets: expected --suite")
    from system.corpora.faults import CORPORA

    if args.corpus in CORPORA and args.out.suffix.lower() != ".csv":  # another use of the name writes a CSV
        return _data_set(args.corpus, args.source, args.out, args.view)
    if args.view:
        raise WheeltapperError("--view: expected --corpus NAME of a known data set, and a folder for --out")
    from system.corpora.prepare import COLUMNS, prepare_source

    if args.out.resolve() == args.source.resolve():
        raise WheeltapperError(f"--out: expected another file than the table, found {args.out}")
    with progress_bar(0, "reading") as bar:
        clips = prepare_source(
            args.source,
            args.corpus,
            columns={name: getattr(args, f"{name}_column") for name in COLUMNS},
            others=args.other_columns,
            **{
                name: getattr(args, name)
                for name in ("layout", "normal", "year", "truth", "corrected", "root", "where")
            },
            progress=bar.to,
        )
    write_manifest(args.out, clips)


def _suite(args: argparse.Namespace) -> None:
    from system.benchmarks import suites
    from system.corpora.benchmark_years import prepare_year
    from system.corpora.faults.convert import MANIFEST

    missing = []
    for plan in suites.choose(args.suite, args.sets):
        place, out = plan.raw(args.source), args.out / plan.name
        if not place.is_dir():
            missing.append(plan.name)
        elif plan.year:
            truth = place / "truth.csv"
            with progress_bar(0, "reading") as bar:
                clips = prepare_year(plan.year, place, truth if truth.exists() else None, False, bar.to)
            write_manifest(out / MANIFEST, clips)
        else:
            _data_set(plan.name, place, out, plan.view)
    if missing:
        print(f"not there: {', '.join(missing)}")


def _data_set(corpus: str, folder: Path, out: Path, view: str) -> None:
    from system.corpora import faults
    from system.corpora.faults.convert import MANIFEST, prepare
    from system.corpora.summary import class_summary

    with progress_bar(0, "reading") as bar:
        clips = prepare(faults.find_corpus(corpus), folder, out, view, bar.to)
    print(class_summary(clips))
    print(f"wrote {out / MANIFEST}: {len(clips)} clips")
