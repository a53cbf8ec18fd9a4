"""Stage 3 (--exp): embed all clips with each branch. With --audio: embed any recordings with a frozen encoder."""

import argparse
import sys

from system.bin import options
from system.bin.parsing import only_with
from system.errors import WheeltapperError
from system.machine import check_device, one_thread_each
from system.pipeline.session import run_stage, session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser, required=False)
    inputs = parser.add_argument_group("inputs: any recordings, instead of the stage")
    options.add(inputs, "--audio", "a sound file, or a folder of sound files")
    options.add(inputs, "--rate", "that all recordings are resampled to (default: 0, their own)", default=0)
    outputs = parser.add_argument_group("outputs, with --audio")
    options.add(
        outputs, "--out", "npz file with files (N,), embeddings float32 (N, D) and record (json)", metavar="NPZ"
    )
    model = parser.add_argument_group("model, with --audio")
    options.add_encoder(model, ", with --exp the one that the run pre-trained")
    options.add(model, "--seed", "of untrained weights", default=0)
    model.add_argument(
        "--mode",
        default="official",
        metavar="NAME",
        help="whose way to make the embedding: official, rmis, siren or chunks, as the family has them "
        "(default: %(default)s)",
    )
    model.add_argument(
        "--pool", default="", metavar="NAME", help="instead of --mode: mean, band, cls, gem or rdp of the tokens"
    )
    model.add_argument(
        "--layer", type=int, default=0, metavar="N", help="block whose tokens are pooled (default: 0, the last)"
    )
    model.add_argument(
        "--pool-power", type=float, default=0.0, metavar="P", help="exponent (default: 3 for gem, 4 for rdp)"
    )
    computing = parser.add_argument_group("computing, with --audio")
    options.add_device(computing)
    options.add_precision(computing)
    computing.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="recordings computed together (default: %(default)s)"
    )
    options.add_workers(computing)
    for group in (inputs, outputs, model, computing):
        only_with(group, "audio", "--audio PATH")
    options.add_example(
        parser,
        "wheeltapper embed --audio exp/default/data/SimFan --out embeddings.npz",
        note="Exit status with --audio: 0 all were embedded, 1 some could not be; the others are written.",
    )


def main(args: argparse.Namespace) -> int:
    if args.audio is not None:
        return _recordings(args)
    if not args.exp:
        raise WheeltapperError("expected --exp DIR (stage of a recipe) or --audio PATH --out X.npz")
    with session(args.exp, args.conf, args.set, several=True) as run:
        run_stage(run, "embed")
    return 0


def _recordings(args: argparse.Namespace) -> int:
    if args.out is None:
        raise WheeltapperError("--audio: expected --out X.npz beside it")
    if args.conf or args.set:
        raise WheeltapperError("--conf, --set: expected none with --audio, where options take their place")
    from system.embeddings.recordings import choose_usable, list_recordings, write_embeddings

    paths = list_recordings(args.audio)
    check_device(args.device)
    if args.batch_size < 1 or args.workers < 0 or args.layer < 0:
        raise WheeltapperError("--batch-size, --workers, --layer: expected at least 1, 0 and 0")
    encoder = options.build_encoder(args, args.checkpoint, args.seed)
    paths, problems = choose_usable(paths, args.rate or encoder.rate, one_thread_each(args.workers))
    for problem in problems:
        print(f"wheeltapper embed: {problem.replace(chr(10), chr(92) + 'n')}", file=sys.stderr)
    if not paths:
        raise WheeltapperError(f"{args.audio}: expected a recording that can be embedded, found {len(problems)} others")
    named = ("mode", "pool", "pool_power", "layer", "rate", "device", "precision", "batch_size")
    line = write_embeddings(
        args.out,
        encoder,
        paths,
        args.audio if args.audio.is_dir() else args.audio.parent,
        args.checkpoint or args.exp or options.DEFAULT,
        **{name: getattr(args, name) for name in named},
        workers=one_thread_each(args.workers),
    )
    print(line)
    if problems:
        print(f"{len(problems)} of {len(paths) + len(problems)} recordings are left out", file=sys.stderr)
    return 1 if problems else 0
