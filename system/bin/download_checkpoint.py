"""``wheeltapper download-checkpoint``: fetch the published weights of an encoder."""

import argparse
from pathlib import Path

from system.config import CHECKPOINTS, DataConfig
from system.errors import WheeltapperError
from system.progress import DownloadBars

DEFAULT_FOLDER = Path(DataConfig.folder) / CHECKPOINTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="checkpoint, as --list names it")
    parser.add_argument("--list", action="store_true", help="show the checkpoints that are known")
    parser.add_argument(
        "--to",
        type=Path,
        default=DEFAULT_FOLDER,
        metavar="FOLDER",
        help=f"where the file goes (default: {DEFAULT_FOLDER}, where encoder.checkpoint=NAME looks for it)",
    )
    parser.add_argument("--url", help="fetch the file from here instead of from where it was published")


def main(args: argparse.Namespace) -> None:
    from system.encoders import cards
    from system.fetch import digest

    if args.list:
        return _list(args.to)
    if not args.name:
        raise WheeltapperError("expected NAME or --list")
    card = cards.card(args.name)
    print(f"{card.name}: {card.family} {card.size}, {card.licence or 'licence not stated'}, {card.source}")
    if card.note:
        print(f"note: {card.note}")
    with DownloadBars() as bars:
        path = cards.download(card, args.to, args.url, bars.show, bars.say)
    published = "as published" if card.sha256 else "no hash is published to compare it with"
    print(f"{path}: SHA-256 {digest(path, 'sha256')}, {published}")
    print(f"next: encoder.checkpoint={card.name if args.to == DEFAULT_FOLDER else path}")


def _list(folder: Path) -> None:
    from system.encoders import cards

    rows = [("name", "family", "size", "rate", "numbers at 16/48 kHz", "parameters", "licence", "file")]
    rows += [_row(card, folder) for card in cards.CARDS.values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(card, folder: Path) -> tuple[str, ...]:
    from system.encoders.cards import OWN

    state = "to be fetched" if card.url else "no address known"
    if (OWN / card.file).is_file():
        state = "comes with the program"
    return (
        card.name,
        card.family,
        card.size,
        str(card.rate),
        f"{card.dims[16000]}/{card.dims[48000]}",
        f"{card.parameters / 1e6:.1f} M",
        card.licence or "not stated",
        "in the folder" if (folder / card.file).is_file() else state,
    )
