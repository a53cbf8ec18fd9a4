"""``wheeltapper synthesize OUT``: the simulated machines."""

import argparse
import os
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", help="folder to write; refused where it holds anything else")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--size", choices=("default", "tiny"), default="default", help="tiny: a few clips of 1 s")
    parser.add_argument(
        "--workers", type=int, default=min(4, os.cpu_count() or 1), help="threads; the result does not depend on it"
    )


def main(args: argparse.Namespace) -> None:
    from system.corpora.synthetic import SyntheticSettings, synthesize

    def progress(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            print(f"synthesize: {done} of {total} clips", file=sys.stderr)

    synthesize(args.out, SyntheticSettings.of_size(args.size), args.seed, max(1, args.workers), progress)
    print(f"synthesize: {args.out} is complete", file=sys.stderr)
