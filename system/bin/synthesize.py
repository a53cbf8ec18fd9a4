"""``wheeltapper synthesize OUT``: the simulated machines, or a procedural corpus for pre-training."""

import argparse
import sys

from system.bin import options
from system.errors import WheeltapperError
from system.machine import threads
from system.progress import progress_bar

KINDS = ("machines", "procedural")
CLIPS, SECONDS = 3000, 5.0  # of the procedural corpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kind = parser.add_argument_group("kind of recordings")
    kind.add_argument(
        "--kind",
        choices=KINDS,
        default="machines",
        help="machines in the challenge's layout, or scenes of any sounds (default: %(default)s)",
    )
    kind.add_argument(
        "--size", choices=("default", "tiny"), help="of the machines; tiny: a few clips of 1 s (default: default)"
    )
    kind.add_argument("--clips", type=int, metavar="N", help=f"number of procedural clips (default: {CLIPS})")
    kind.add_argument("--seconds", type=float, metavar="S", help=f"length of a procedural clip (default: {SECONDS:g})")
    options.add(kind, "--seed", default=0)
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument("out", metavar="OUT", help="folder to write; refused where it holds anything else")
    options.add_workers(parser.add_argument_group("computing"), default=4)
    options.add_example(parser, "wheeltapper synthesize recordings --size tiny")


def main(args: argparse.Namespace) -> None:
    foreign = ("clips", "seconds") if args.kind == "machines" else ("size",)
    for name in foreign:
        if getattr(args, name) is not None:
            other = KINDS[1 - KINDS.index(args.kind)]
            raise WheeltapperError(f"--{name}: expected --kind {other} with it, found --kind {args.kind}")

    workers = max(1, threads(args.workers))
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
