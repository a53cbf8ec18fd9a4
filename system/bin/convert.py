"""``wheeltapper convert``: any published checkpoint as safetensors with its configuration inside."""

import argparse
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "input", metavar="CHECKPOINT", help="file in any published layout, or a name of download-checkpoint --list"
    )
    options.add(inputs, "--encoder", "family of the checkpoint (default: recognised by its tensors)", metavar="FAMILY")
    options.add(inputs, "--heads", "(default: as the file says)")
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument("output", type=Path, metavar="OUT.safetensors", help="file to write")
    options.add_example(
        parser,
        "wheeltapper convert default default.safetensors",
        note="A file whose pickle asks for more than tensors and plain values is refused: nothing of it is run.",
    )


def main(args: argparse.Namespace) -> None:
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
