"""``wheeltapper download``: fetch a year of DCASE Task 2, or a data set of the benchmarks."""

import argparse
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError
from system.progress import DownloadBars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("name", nargs="?", metavar="NAME", help="data set of the benchmarks, as --list names it")
    options.add(inputs, "--list", "the data sets of the benchmarks", action="store_true")
    options.add(inputs, "--year", "2020 to 2026, instead of NAME")
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
    if (args.name is None) == (args.year is None) or args.out is None:
        raise WheeltapperError("expected NAME --out DIR, --year YEAR --out DIR, or --list")
    if args.year is not None:
        return _challenge(args)
    for option in ("machines", "parts", "base_url"):
        if getattr(args, option):
            raise WheeltapperError(f"--{option.replace('_', '-')}: expected --year, found {args.name}")
    return _data_set(args.name, args.out)


def _challenge(args: argparse.Namespace) -> None:
    from system.corpora.challenge import PARTS, load_year
    from system.corpora.download import BASE_URL, download_dcase

    year, url = load_year(args.year), args.base_url or BASE_URL
    machines = [name for names in args.machines for name in names] if args.machines else None
    print(f"DCASE {year.year} Task 2, audio under {year.licence}")
    with DownloadBars() as bars:
        folders = download_dcase(year, args.out, machines, args.parts or PARTS, url, progress=bars.show, say=bars.say)
    for folder in folders:
        print(f"next: wheeltapper prepare {folder} --out manifest.csv")


def _data_set(name: str, out: Path) -> None:
    from system.corpora import faults
    from system.corpora.faults.download import download

    corpus = faults.find(name)
    print(f"{corpus.title}, {corpus.source}, licence: {corpus.licence or 'not stated, see the page'}")
    with DownloadBars() as bars:
        raw = download(corpus, out, progress=bars.show, say=bars.say)
    print(f"next: wheeltapper prepare {raw} --corpus {name} --out FOLDER")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
