"""``wheeltapper download-checkpoint``: fetch the published weights of an encoder."""

import argparse
from pathlib import Path

from system.bin import options
from system.config import CHECKPOINTS, DataConfig
from system.errors import WheeltapperError
from system.progress import DownloadBars

DEFAULT_FOLDER = Path(DataConfig.folder) / CHECKPOINTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("name", nargs="?", metavar="NAME", help="checkpoint, as --list names it")
    options.add(inputs, "--list", "the checkpoints", action="store_true")
    options.add(inputs, "--url", "the file, instead of from where it was published")
    outputs = parser.add_argument_group("outputs")
    options.add(
        outputs,
        "--out",
        f"folder for the file (default: {DEFAULT_FOLDER}, where encoder.checkpoint=NAME looks for it)",
        default=DEFAULT_FOLDER,
        metavar="DIR",
    )
    options.add_old(outputs, "--to", dest="out", type=Path)
    options.add_example(parser, "wheeltapper download-checkpoint beats-iter3")


def main(args: argparse.Namespace) -> None:
    from system.encoders import cards
    from system.fetch import digest
    from system.text_table import aligned

    if args.list:
        print(aligned(cards.listing(args.out)))
        return
    if not args.name:
        raise WheeltapperError("expected NAME or --list")
    card = cards.card(args.name)
    print(f"{card.name}: {card.family} {card.size}, {card.licence or 'licence not stated'}, {card.source}")
    if card.note:
        print(f"note: {card.note}")
    with DownloadBars() as bars:
        path = cards.download(card, args.out, args.url, bars.show, bars.say)
    published = "as published" if card.sha256 else "no hash is published to compare it with"
    print(f"{path}: SHA-256 {digest(path, 'sha256')}, {published}")
    print(f"next: encoder.checkpoint={card.name if args.out == DEFAULT_FOLDER else path}")
