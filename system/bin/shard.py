"""``wheeltapper shard MANIFEST ... --out DIR``: recordings to a folder of shards for pre-training."""

import argparse
from pathlib import Path

from system.errors import WheeltapperError
from system.machine import threads
from system.progress import progress_bar

MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "manifests", nargs="+", type=Path, metavar="MANIFEST", help="of training clips, without anomalies"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder, or one to go on with")
    parser.add_argument("--shard-mib", type=int, default=256, metavar="MIB", help="of a shard at most (default 256)")
    parser.add_argument("--verify", action="store_true", help="read all shards afterwards and compare their SHA-256")
    parser.add_argument("--workers", type=int, default=threads(), help="threads that read recordings")


def main(args: argparse.Namespace) -> None:
    if args.shard_mib < 1 or args.workers < 1:
        raise WheeltapperError("--shard-mib, --workers: expected 1 or more")
    from system import manifest
    from system.pretraining.shards import write_shards

    clips = []
    for path in args.manifests:
        clips += manifest.read(path)
        manifest.check_training(clips, path)
    with progress_bar(len(clips), "sharding") as bar:
        folder = write_shards(clips, args.out, args.shard_mib * MIB, bar.to, args.workers)
    if args.verify:
        with progress_bar(len(folder.sizes) + 1, "verifying") as bar:
            folder.verify(bar.to)
    print(
        f"{args.out}: {len(folder)} clips, {folder.record['hours']:.1f} h, {len(folder.sizes)} shards, "
        f"{sum(folder.sizes) / MIB:.1f} MiB{', SHA-256 of every file as on record' if args.verify else ''}"
    )
