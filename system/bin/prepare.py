"""Recordings to a checked manifest.csv: a folder in DCASE layout, any folder, what a CSV lists, or a known data set.

With --exp: stage 0 of a recipe, whatever --data names.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from system.bin import options
from system.corpora import source
from system.corpora.summary import class_summary
from system.errors import WheeltapperError
from system.pipeline.session import run_stage, session
from system.pipeline.stages.data import prepare, write_manifest
from system.progress import progress_bar

if TYPE_CHECKING:
    from system.manifest import Clip


COLUMNS = {"file": "file", "class": "", "fold": "", "group": ""}  # of a table, and their usual names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import span

    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="holds <machine>/{train,test}/*.wav; or a TABLE.csv of files",
    )
    parser.add_argument(
        "--out", type=Path, metavar="CSV", help="manifest to write; of a data set a folder for manifest.csv and cuts"
    )
    parser.add_argument(
        "--corpus",
        default="",
        metavar="NAME",
        help="name of the corpus (default: dcase, or that of the folder); a data set that wheeltapper download --list "
        "names, with a folder for --out: read it as its publisher lays it out",
    )
    parser.add_argument(
        "--layout", choices=("dcase", "files"), default="dcase", help="files: every sound file below DIR, all training"
    )
    group = parser.add_argument_group("a data set of the benchmarks")
    group.add_argument("--view", default="", choices=("rmis", "siren", "own"), help="whose (default: its first)")
    group = parser.add_argument_group("all data sets of a benchmark, and its years of the challenge")
    group.add_argument(
        "--suite",
        choices=("rmis", "siren"),
        help="DIR holds <publisher>/ and dcase<year>/ (its truth, if any, in truth.csv); what is missing is left out; "
        "--out is a folder for <data set>/manifest.csv",
    )
    group.add_argument("--sets", nargs="+", metavar="NAME", help="data sets (default: all)")
    group = parser.add_argument_group("a year of the challenge as the benchmarks have it, both phases in one")
    group.add_argument("--year", type=int, help=f"{span()}; DIR as wheeltapper download left it")
    group.add_argument("--truth", type=Path, metavar="CSV", help="the published labels of the evaluation machines")
    group.add_argument(
        "--corrected",
        action="store_true",
        help="vouch for a --truth that bears the sign of a list known to be wrong (2022), but had its labels corrected",
    )
    group = parser.add_argument_group("a table or --layout files")
    group.add_argument("--normal", action="store_true", help="label the recordings normal (default: no label)")
    group = parser.add_argument_group("a table")
    group.add_argument("--root", type=Path, metavar="DIR", help="the table's paths start here (default: its folder)")
    group.add_argument(
        "--file-column", default=COLUMNS["file"], metavar="NAME", help="of the paths (default: %(default)s)"
    )
    group.add_argument("--class-column", default="", metavar="NAME", help="of the classes; become class_<value>")
    group.add_argument("--fold-column", default="", metavar="NAME", help="of the folds; become the section")
    group.add_argument("--group-column", default="", metavar="NAME", help="of what splits must not separate")
    group.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="rows to keep: column=value or column~regex"
    )
    options.add_experiment_arguments(parser, required=False)
    parser.add_argument(
        "--data",
        default="",
        help="with --exp: synthetic | dcase<year> | DIR | manifest.csv (default: that of the last run, or synthetic)",
    )


def main(args: argparse.Namespace) -> None:
    if args.exp:
        with session(args.exp, args.conf, args.set) as run:
            return run_stage(run, "data", data=args.data)
    if args.source is None or args.out is None:
        raise WheeltapperError("expected DIR --out CSV, or --exp EXP --data DATA (stage of a recipe)")
    if args.suite:
        return _suite(args)
    if args.sets:
        raise WheeltapperError("--sets: expected --suite")
    if _is_data_set(args):
        return _data_set(args.corpus, args.source, args.out, args.view)
    if args.view:
        raise WheeltapperError("--view: expected --corpus NAME of a known data set, and a folder for --out")
    if args.truth and args.year is None:
        raise WheeltapperError("--truth: expected --year")
    if args.corrected and not args.truth:
        raise WheeltapperError("--corrected: expected --truth")
    if args.year is not None:
        clips = _year(args.year, args.source, args.truth, args.corrected)
    else:
        clips = _listed(args) if source.is_table(args.source) else _below(args)
    write_manifest(args.out, clips)


def _is_data_set(args: argparse.Namespace) -> bool:
    """Any other use writes a CSV, whatever name it gives the corpus."""
    from system.corpora.faults import CORPORA

    return args.corpus in CORPORA and args.out.suffix.lower() != ".csv"


def _suite(args: argparse.Namespace) -> None:
    from system.benchmarks import suites
    from system.corpora.faults.convert import MANIFEST

    missing = []
    for plan in suites.choose(args.suite, args.sets):
        place, out = plan.raw(args.source), args.out / plan.name
        if not place.is_dir():
            missing.append(plan.name)
        elif plan.year:
            truth = place / "truth.csv"
            write_manifest(out / MANIFEST, _year(plan.year, place, truth if truth.exists() else None))
        else:
            _data_set(plan.name, place, out, plan.view)
    if missing:
        print(f"not there: {', '.join(missing)}")


def _data_set(corpus: str, folder: Path, out: Path, view: str) -> None:
    from system.corpora import faults
    from system.corpora.faults.convert import MANIFEST
    from system.corpora.faults.convert import prepare as convert

    with progress_bar(0, "reading") as bar:
        clips = convert(faults.find_corpus(corpus), folder, out, view, bar.to)
    print(class_summary(clips))
    print(f"wrote {out / MANIFEST}: {len(clips)} clips")


def _year(year: int, folder: Path, truth: Path | None, corrected: bool = False) -> "list[Clip]":
    from system.corpora.benchmark_years import prepare_year

    with progress_bar(0, "reading") as bar:
        return prepare_year(year, folder, truth, corrected, bar.to)


def _listed(args: argparse.Namespace) -> "list[Clip]":
    from system.corpora.table import prepare_table

    if args.layout != "dcase":
        raise WheeltapperError(f"--layout {args.layout}: expected a folder, found the table {args.source}")
    columns = {f"{name}_column": getattr(args, f"{name}_column") for name in COLUMNS}
    if args.out.resolve() == args.source.resolve():
        raise WheeltapperError(f"--out: expected another file than the table, found {args.out}")
    with progress_bar(0, "reading") as bar:
        return prepare_table(
            args.source,
            args.root,
            **columns,
            where=args.where,
            corpus=args.corpus,
            normal=args.normal,
            progress=bar.to,
        )


def _below(args: argparse.Namespace) -> "list[Clip]":
    given = [f"--{name}-column" for name, usual in COLUMNS.items() if getattr(args, f"{name}_column") != usual] + [
        f"--{name}" for name in ("root", "where") if getattr(args, name)
    ]
    if given:
        raise WheeltapperError(f"{given[0]}: expected a TABLE.csv of files, found the folder {args.source}")
    if args.layout == "files":
        from system.corpora.table import prepare_files

        with progress_bar(0, "reading") as bar:
            return prepare_files(args.source, args.corpus, args.normal, progress=bar.to)
    if args.normal:
        raise WheeltapperError("--normal: expected a TABLE.csv or --layout files; DCASE names say it themselves")
    return prepare(args.source, args.corpus or "dcase")
