"""``wheeltapper synthesize OUT``: the simulated machines, or a procedural corpus for pre-training."""

import argparse
import sys

from system.errors import WheeltapperError
from system.machine import threads
from system.progress import progress_bar

KINDS = ("machines", "procedural")
CLIPS, SECONDS = 3000, 5.0  # of the procedural corpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", help="folder to write; refused where it holds anything else")
    parser.add_argument(
        "--kind", choices=KINDS, default="machines", help="machines in DCASE layout (default), or scenes of any sounds"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--size", choices=("default", "tiny"), help="of the machines; tiny: a few clips of 1 s")
    parser.add_argument("--clips", type=int, metavar="N", help=f"of the procedural corpus (default {CLIPS})")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"of a procedural clip (default {SECONDS:g})")
    parser.add_argument(
        "--workers", type=int, default=min(4, threads()), help="threads; the result does not depend on it"
    )


def main(args: argparse.Namespace) -> None:
    foreign = ("clips", "seconds") if args.kind == "machines" else ("size",)
    for name in foreign:
        if getattr(args, name) is not None:
            other = KINDS[1 - KINDS.index(args.kind)]
            raise WheeltapperError(f"--{name}: expected --kind {other} with it, found --kind {args.kind}")

    workers = max(1, args.workers)
    with progress_bar(0, "synthesizing") as bar:
        if args.kind == "machines":
            from system.corpora.simulation.synthetic import SyntheticSettings, synthesize

            synthesize(args.out, SyntheticSettings.of_size(args.size or "default"), args.seed, workers, bar.to)
        else:
            from system.corpora.simulation.procedural import ProceduralSettings, synthesize_procedural

            settings = ProceduralSettings(
                CLIPS if args.clips is None else args.clips, SECONDS if args.seconds is None else args.seconds
            )
            synthesize_procedural(args.out, settings, args.seed, workers, bar.to)
    print(f"synthesize: {args.out} is complete", file=sys.stderr)
