"""Stage 3 (--exp): embed all clips with each branch. With --audio: embed any recordings with a frozen encoder."""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from system import processes
from system.bin import options
from system.bin.parsing import only_with
from system.errors import WheeltapperError
from system.machine import AUTO, choose_device, one_thread_each
from system.pipeline import forecast
from system.pipeline.session import one_voice, run_stage, session

if TYPE_CHECKING:
    from system.embeddings.collection import Outcome
    from system.encoders.base import Encoder


SETTINGS = ("mode", "pool", "pool_power", "layer", "rate", "precision", "batch_size")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser, required=False)
    inputs = parser.add_argument_group("inputs: any recordings, instead of the stage")
    options.add(inputs, "--audio", "a sound file, a folder of sound files, a manifest or a table")
    options.add(inputs, "--rate", "that all recordings are resampled to (default: 0, their own)", default=0)
    outputs = parser.add_argument_group("outputs, with --audio")
    options.add(
        outputs, "--out", "npz file with files (N,), embeddings float32 (N, D) and record (json)", metavar="NPZ"
    )
    options.add(
        outputs,
        "--store",
        "instead of --out, which processes and jobs fill together: embeddings.npy, index.csv; the same command goes on "
        "after an interruption, and embeds what is new",
        type=Path,
    )
    outputs.add_argument(
        "--share",
        metavar="I/N",
        help="with --store: part I, from 1, of N of the recordings, or slurm for that of a task of a job array; the "
        "part that ends last writes the result",
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
        "--batch-size",
        type=int,
        default=0,
        metavar="N",
        help="recordings computed together (default: 0, from the device)",
    )
    options.add_workers(computing)
    for group in (inputs, outputs, model, computing):
        only_with(group, "audio", "--audio PATH")
    options.add_example(
        parser,
        "wheeltapper embed --audio exp/default/data/SimFan --out embeddings.npz",
        "wheeltapper embed --audio recordings --store exp/sounds --share 1/4",
        note="Exit status with --audio: 0 all were embedded, 1 some could not be; the others are written.",
    )


def main(args: argparse.Namespace) -> int:
    if args.audio is not None:
        with one_voice():
            return _recordings(args)
    if not args.exp:
        raise WheeltapperError("expected --exp DIR (stage of a recipe) or --audio PATH --out X.npz")
    with session(args.exp, args.conf, args.set, several=True) as run:
        forecast.announce(run, ["embed"])
        run_stage(run, "embed")
    return 0


def _recordings(args: argparse.Namespace) -> int:
    if (args.out is None) == (args.store is None):
        raise WheeltapperError("--audio: expected --out X.npz or --store DIR beside it")
    if args.share and not args.store:
        raise WheeltapperError("--share: expected --store DIR with it, found --out, which one process writes")
    if processes.count() > 1 and not args.store:
        raise WheeltapperError(f"--out: expected --store DIR in several processes, found {processes.count()}")
    if args.conf or args.set:
        raise WheeltapperError("--conf, --set: expected none with --audio, where options take their place")
    from system.embeddings.recordings import choose_usable, list_recordings, write_embeddings

    paths = list_recordings(args.audio)
    device = _device(args)
    if min(args.batch_size, args.workers, args.layer) < 0:
        raise WheeltapperError("--batch-size, --workers, --layer: expected at least 0")
    encoder = options.build_encoder(args, args.checkpoint, args.seed)
    if args.store:
        return _store(args, encoder, paths)
    paths, problems = choose_usable(paths, args.rate or encoder.rate, one_thread_each(args.workers))
    for problem in problems:
        print(f"wheeltapper embed: {problem.replace(chr(10), chr(92) + 'n')}", file=sys.stderr)
    if not paths:
        raise WheeltapperError(f"{args.audio}: expected a recording that can be embedded, found {len(problems)} others")
    line = write_embeddings(
        args.out,
        encoder,
        paths,
        args.audio if args.audio.is_dir() else args.audio.parent,
        args.checkpoint or args.exp or options.DEFAULT,
        **{name: getattr(args, name) for name in SETTINGS},
        device=device,
        workers=one_thread_each(args.workers),
    )
    print(line)
    if problems:
        print(f"{len(problems)} of {len(paths) + len(problems)} recordings are left out", file=sys.stderr)
    return 1 if problems else 0


def _device(args: argparse.Namespace) -> str:
    """The device that ``--device`` stands for; of int8, which is for CPUs, ``auto`` is the CPU, as in a run."""
    return choose_device("cpu" if args.precision == "int8" and args.device == AUTO else args.device)


def _store(args: argparse.Namespace, encoder: "Encoder", paths: list[Path]) -> int:
    from system.embeddings.collection import Collection, Settings
    from system.progress import progress_bar

    device, (number, count) = _device(args), _share(args.share)
    share = (number * processes.count() + processes.number(), count * processes.count())
    settings = {name: getattr(args, name) for name in SETTINGS} | {"device": device}
    root = args.audio if args.audio.is_dir() else args.audio.parent
    processes.join(device)
    collection = Collection(
        args.store, encoder, args.checkpoint or args.exp or options.DEFAULT, paths, root, Settings(**settings)
    )
    with progress_bar(0, "embedding") as bar:
        problems = collection.fill(
            share, one_thread_each(args.workers), lambda missing: bar.to(0, missing), lambda done: bar.update(done)
        )
    for problem in problems:
        print(f"wheeltapper embed: {problem.replace(chr(10), chr(92) + 'n')}", file=sys.stderr)
    bad = sum(processes.collect(len(problems)))  # torchrun would stop the others when one ends with a status of 1
    if processes.is_main():
        print(_told(args, collection.finish(), f"part {number + 1} of {count}: " if count > 1 else ""))
    processes.leave()
    return 1 if bad else 0


def _told(args: argparse.Namespace, found: "Outcome", part: str) -> str:
    from system.embeddings.collection import ARRAY, FAILED, INDEX

    if found.there < found.total:
        there = f"{args.store}: {part}{found.there} of {found.total} recordings are there"
        if not part:
            raise WheeltapperError(
                f"{there}, the others have changed since they were read; the same command embeds them"
            )
        return f"{there}; the last part writes the result"
    if not found.shape:
        raise WheeltapperError(f"{args.audio}: expected a recording that can be embedded, found {found.total} others")
    left_out = found.total - found.shape[0]
    return (
        f"{args.store / ARRAY}: {found.shape[0]} recordings ({INDEX}), {found.shape[1]} numbers each"
        f"{f'; {left_out} are left out, {FAILED} says why' if left_out else ''}"
    )


def _share(text: str | None) -> tuple[int, int]:
    """Number of a share, from 0, and of all shares."""
    if not text:
        return 0, 1
    if text == "slurm":
        names = ("ID", "MIN", "MAX", "STEP")
        values = [os.environ.get(f"SLURM_ARRAY_TASK_{name}", "1" if name == "STEP" else "") for name in names]
        if not all(value.isdecimal() for value in values):
            raise WheeltapperError("--share slurm: expected a task of a job array (SLURM_ARRAY_TASK_ID), found none")
        task, first, last, step = map(int, values)
        count = (last - first) // step + 1
        if (found := os.environ.get("SLURM_ARRAY_TASK_COUNT", str(count))) != str(count):
            raise WheeltapperError(
                f"--share slurm: expected an array without gaps such as 1-{count}, found {found} tasks from {first} to "
                f"{last}, which would leave parts out; --array 1-1 embeds all that is left"
            )
        return (task - first) // step, count
    given = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    number, count = (int(given[1]), int(given[2])) if given else (0, 0)
    if not 1 <= number <= count:
        raise WheeltapperError(f"--share: expected I/N with I from 1 to N, or slurm, found {text}")
    return number - 1, count
