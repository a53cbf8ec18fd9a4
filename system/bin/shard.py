"""``wheeltapper shard MANIFEST ... --out DIR``: recordings to a folder of shards for pre-training."""

import argparse
from pathlib import Path

from system.bin import options
from system.errors import WheeltapperError
from system.machine import threads
from system.progress import progress_bar

MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "manifests", nargs="+", type=Path, metavar="MANIFEST", help="manifests of normal training recordings"
    )
    outputs = parser.add_argument_group("outputs")
    options.add(outputs, "--out", "folder of shards, new or to be continued", required=True, metavar="DIR")
    outputs.add_argument(
        "--shard-mib",
        type=int,
        default=256,
        metavar="MIB",
        help="size of a shard at most, in MiB (default: %(default)s)",
    )
    outputs.add_argument("--verify", action="store_true", help="read all shards afterwards and compare their SHA-256")
    options.add_workers(parser.add_argument_group("computing"))
    options.add_example(parser, "wheeltapper shard manifest.csv --out shards")


def main(args: argparse.Namespace) -> None:
    if args.shard_mib < 1 or args.workers < 0:
        raise WheeltapperError("--shard-mib: expected 1 or more; --workers: expected 0 or more")
    from system import manifest
    from system.pretraining.shards import write_shards

    clips = []
    for path in args.manifests:
        clips += manifest.read(path)
        manifest.check_training(clips, path)
    with progress_bar(len(clips), "sharding") as bar:
        folder = write_shards(clips, args.out, args.shard_mib * MIB, bar.to, threads(args.workers))
    if args.verify:
        with progress_bar(len(folder.sizes) + 1, "verifying") as bar:
            folder.verify(bar.to)
    print(
        f"{args.out}: {len(folder)} clips, {folder.record['hours']:.1f} h, {len(folder.sizes)} shards, "
        f"{sum(folder.sizes) / MIB:.1f} MiB{', SHA-256 of every file as on record' if args.verify else ''}"
    )
