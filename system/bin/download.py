"""``wheeltapper download``: fetch a year of DCASE Task 2, or a data set of the benchmarks."""

import argparse
import sys
from pathlib import Path

from system.errors import WheeltapperError
from system.progress import DownloadBars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import span

    parser.add_argument("name", nargs="?", metavar="NAME", help="data set of the benchmarks, as --list names it")
    parser.add_argument("--list", action="store_true", help="show the data sets that are known beside DCASE's years")
    parser.add_argument("--year", type=int, help=f"year of the challenge, {span()}")
    parser.add_argument("--suite", choices=("rmis", "siren"), help="all data sets of a benchmark that can be fetched")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="of the benchmark (default: all)")
    parser.add_argument("--out", type=Path, help="folder for zips/ and the unpacked recordings")
    parser.add_argument("--machines", nargs="+", metavar="NAME", help="only these machines (default: all)")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=("dev", "train", "test"),
        help="development data, additional training data, evaluation test data (default: all three)",
    )
    parser.add_argument(
        "--base-url", metavar="URL", help="fetch URL/<record>/files/<zip> (default: https://zenodo.org/records)"
    )
    parser.epilog = (
        "Zips fetched by hand may be put into OUT/zips. What is complete is not fetched again; a zip may be deleted "
        "once it is unpacked."
    )


def main(args: argparse.Namespace) -> None:
    if args.list:
        return _list()
    if sum(value is not None for value in (args.name, args.year, args.suite)) != 1 or args.out is None:
        raise WheeltapperError("expected NAME, --year YEAR or --suite BENCHMARK, each with --out FOLDER; or --list")
    if args.sets and not args.suite:
        raise WheeltapperError("--sets: expected --suite")
    if args.year is not None:
        return _challenge(args, args.year, args.out)
    if args.suite:
        return _suite(args)
    for option in ("machines", "parts", "base_url"):
        if getattr(args, option):
            raise WheeltapperError(f"--{option.replace('_', '-')}: expected --year, found {args.name}")
    return _data_set(args.name, args.out)


def _suite(args: argparse.Namespace) -> None:
    from system.benchmarks import suites

    for plan in suites.choose(args.suite, args.sets):
        if plan.year:
            _challenge(args, plan.year, plan.raw(args.out))
            continue
        try:
            _data_set(plan.name, plan.raw(args.out))
        except WheeltapperError as error:  # some publishers give nothing to programs
            print(f"note: {plan.name} is to be fetched by hand: {error}", file=sys.stderr)


def _challenge(args: argparse.Namespace, number: int, out: Path) -> None:
    from system.corpora.challenge import PARTS, load_year
    from system.corpora.download import BASE_URL, download_dcase

    year = load_year(number)
    print(f"DCASE {year.year} Task 2, audio under {year.licence}")
    with DownloadBars() as bars:
        folders = download_dcase(
            year,
            out,
            args.machines,
            args.parts or PARTS,
            args.base_url or BASE_URL,
            progress=bars.show,
            say=bars.say,
        )
    for folder in folders:
        print(f"next: wheeltapper prepare {folder} --out manifest.csv")


def _data_set(name: str, out: Path) -> None:
    from system.corpora import faults
    from system.corpora.faults.download import download

    corpus = faults.find_corpus(name)
    print(f"{corpus.title}, {corpus.source}, licence: {corpus.licence or 'not stated, see the page'}")
    with DownloadBars() as bars:
        raw = download(corpus, out, progress=bars.show, say=bars.say)
    print(f"next: wheeltapper prepare {raw} --corpus {name} --out FOLDER")


def _list() -> None:
    from system.corpora.faults import CORPORA

    rows = [("name", "signal", "Hz", "classes", "views", "licence", "fetched", "source")]
    for corpus in CORPORA.values():
        classes = "/".join(str(len(view.classes)) for view in corpus.views.values())
        known = "yes" if corpus.downloads or corpus.zenodo else "by hand"
        rate = str(corpus.rate or "as recorded")
        licence = corpus.licence or "not stated"
        rows.append(
            (corpus.name, corpus.modality, rate, classes, "/".join(corpus.views), licence, known, corpus.source)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
