"""``wheeltapper convert``: any published checkpoint as safetensors with its configuration inside.

Or tables of samples (vibration, current) to sound files.
"""

import argparse
import sys
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "input",
        metavar="SOURCE",
        help="checkpoint in any published layout, or a name of download-checkpoint --list; or a table of samples (csv, "
        "tsv, txt, dat), or a folder of them",
    )
    options.add(inputs, "--encoder", "family of the checkpoint (default: recognised by its tensors)", metavar="FAMILY")
    options.add(inputs, "--heads", "(default: as the file says)")
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "output",
        type=Path,
        metavar="OUT",
        help="file to write, OUT.safetensors; of tables a folder for their sound files",
    )
    tables = parser.add_argument_group("tables of samples: a column a sensor, a row a moment")
    options.add(tables, "--rate", "of the tables")
    tables.add_argument(
        "--columns",
        metavar="NAME",
        help="columns that become channels, by name or number from 1, separated by commas (default: all but the time)",
    )
    options.add_example(
        parser,
        "wheeltapper convert default default.safetensors",
        "wheeltapper convert vibration recordings --rate 12800 --columns 2,3",
        note="A file whose pickle asks for more than tensors and plain values is refused: nothing of it is run.",
    )


def main(args: argparse.Namespace) -> int:
    from system.corpora import signal_tables

    source = Path(args.input)
    if signal_tables.is_table(source) or (source.is_dir() and args.output.suffix != ".safetensors"):
        return _tables(args, source)
    if args.rate is not None or args.columns is not None:
        raise WheeltapperError(f"--rate, --columns: expected a table of samples or a folder, found {args.input}")
    _checkpoint(args)
    return 0


def _tables(args: argparse.Namespace, source: Path) -> int:
    from system.corpora import signal_tables

    if args.rate is None:
        raise WheeltapperError(f"{source}: expected --rate HZ, the sampling rate of the tables")
    columns = [name.strip() for name in (args.columns or "").split(",") if name.strip()]
    made, problems = signal_tables.convert(source, args.output, args.rate, columns)
    for problem in problems:
        print(f"wheeltapper convert: {problem}", file=sys.stderr)
    left = f", {len(problems)} left out" if problems else ""
    print(f"{args.output}: {len(made)} recording{'s' * (len(made) != 1)} of {args.rate} Hz{left}")
    return 1 if problems else 0


def _checkpoint(args: argparse.Namespace) -> None:
    if args.output.suffix != ".safetensors":
        raise WheeltapperError(f"{args.output}: expected a name that ends in .safetensors")
    if args.heads is not None and args.heads < 1:
        raise WheeltapperError(f"--heads: expected at least 1, found {args.heads}")

    from system.bin.download_checkpoint import DEFAULT_FOLDER
    from system.encoders import FAMILIES, cards, family_class

    path = cards.find_checkpoint(args.input, DEFAULT_FOLDER)
    family = args.encoder or cards.family_of(path)
    if family is None:
        raise WheeltapperError(
            f"{path}: expected tensors of a known encoder, found other names; where it is one, say which: "
            f"--encoder {' | '.join(FAMILIES)}"
        )
    encoder = family_class(family).load(path, {"num_heads": args.heads} if args.heads else {})
    encoder.save(args.output, source=path.name)
    size = next((name for name, config in encoder.SIZES.items() if config == encoder.config), "of a size of its own")
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    print(f"{args.output}: {encoder.family} {size}, {parameters} parameters, from {path}")
