"""``wheeltapper download``: fetch a year of DCASE Task 2, or a data set of the benchmarks."""

import argparse
import sys
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError
from system.progress import DownloadBars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from system.corpora.year_files import span

    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("name", nargs="?", metavar="NAME", help="data set of the benchmarks, as --list names it")
    options.add(inputs, "--list", "the data sets of the benchmarks", action="store_true")
    options.add(inputs, "--year", f"{span()}, instead of NAME")
    options.add(inputs, "--suite", "that can be downloaded, instead of NAME", choices=("rmis", "siren"))
    options.add(inputs, "--sets", "(default: all)", nargs="+")
    options.add(inputs, "--machines", "of the year (default: all)", nargs="+", type=_names)
    inputs.add_argument(
        "--parts",
        nargs="+",
        choices=("dev", "train", "test"),
        help="of the year: development data, additional training data, evaluation test data (default: all three)",
    )
    inputs.add_argument(
        "--base-url",
        metavar="URL",
        help="of the year: download URL/<record>/files/<zip> (default: https://zenodo.org/records)",
    )
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--out", "folder for zips/ and the unpacked recordings", metavar="DIR")
    options.add_example(
        parser,
        "wheeltapper download --year 2025 --machines ToyCar --parts dev --out data/dcase2025",
        note="Zips fetched by hand may be put into DIR/zips. What is complete is not fetched again; a zip may be\n"
        "deleted once it is unpacked.",
    )


def main(args: argparse.Namespace) -> None:
    if args.list:
        from system.corpora.faults import listing
        from system.text_table import aligned

        print(aligned(listing()))
        return
    if sum(value is not None for value in (args.name, args.year, args.suite)) != 1 or args.out is None:
        raise WheeltapperError("expected NAME, --year YEAR or --suite BENCHMARK, each with --out DIR; or --list")
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

    year, url = load_year(number), args.base_url or BASE_URL
    machines = [name for names in args.machines for name in names] if args.machines else None
    print(f"DCASE {year.year} Task 2, audio under {year.licence}")
    with DownloadBars() as bars:
        folders = download_dcase(year, out, machines, args.parts or PARTS, url, progress=bars.show, say=bars.say)
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


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
