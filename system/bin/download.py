"""``wheeltapper download``: fetch a year of DCASE Task 2."""

import argparse
from pathlib import Path

from system.bin import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--year", type=int, required=True, help="year of the challenge, 2020 to 2026")
    parser.add_argument("--out", type=Path, required=True, help="folder for zips/ and the unpacked recordings")
    parser.add_argument("--machines", nargs="+", metavar="NAME", help="only these machines (default: all)")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=("dev", "train", "test"),
        default=("dev", "train", "test"),
        help="development data, additional training data, evaluation test data (default: all three)",
    )
    parser.add_argument(
        "--base-url", metavar="URL", help="fetch URL/<record>/files/<zip> (default: https://zenodo.org/records)"
    )
    parser.epilog = (
        "Zips fetched by hand may be put into OUT/zips. What is complete is not fetched again; a zip may be deleted "
        "once it is unpacked."
    )


def main(args: argparse.Namespace) -> int | None:
    from system.corpora.challenge import load_year
    from system.corpora.download import BASE_URL, download_dcase

    year = load_year(args.year)
    print(f"DCASE {year.year} Task 2, audio under {year.licence}")
    with common.DownloadBars() as bars:
        folders = download_dcase(
            year, args.out, args.machines, args.parts, args.base_url or BASE_URL, progress=bars.show, say=bars.say
        )
    for folder in folders:
        print(f"next: wheeltapper prepare {folder} --out manifest.csv")
