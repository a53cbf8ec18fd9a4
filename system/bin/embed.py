"""Stage 3 (--exp): embed all clips with each branch. With --audio: embed any recordings with a frozen encoder."""

import argparse
from dataclasses import asdict
from pathlib import Path

from system.bin import encoder_options, options
from system.errors import WheeltapperError
from system.machine import check_device
from system.pipeline.resources import one_thread_each
from system.pipeline.session import run_stage, session
from system.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_experiment_arguments(parser, required=False)
    group = parser.add_argument_group("any recordings")
    group.add_argument("--audio", type=Path, help="sound file, or folder of sound files")
    group.add_argument("--out", type=Path, help="npz with files (N,), embeddings float32 (N, D) and record (JSON)")
    group.add_argument("--encoder", default="default", help=encoder_options.ENCODER_HELP)
    group.add_argument("--checkpoint", help=encoder_options.CHECKPOINT_HELP)
    group.add_argument(
        "--mode",
        default="official",
        help="how a published program makes the embedding: official, rmis, siren, chunks, as the family has them",
    )
    group.add_argument("--layer", type=int, default=0, help="block whose tokens are pooled (with --pool); 0: the last")
    group.add_argument("--pool", default="", help="instead of --mode: mean, band, cls, gem or rdp of the tokens")
    group.add_argument("--pool-power", type=float, default=0.0, help="exponent of gem (default 3) and rdp (default 4)")
    encoder_options.add_front_end_arguments(group)
    group.add_argument("--rate", type=int, default=0, help="bring all recordings to this rate in Hz; 0: as recorded")
    group.add_argument("--seed", type=int, default=0, help="of untrained weights")
    group.add_argument("--precision", default="fp32", help="fp32, bf16, or auto: bf16 where it is fast")
    group.add_argument("--device", default="cpu", help="cpu or cuda")
    group.add_argument("--batch-size", type=int, default=1, help="recordings computed together (for a GPU)")
    group.add_argument("--workers", type=int, default=0, help="recordings on their way at once; 0: one for each core")


def main(args: argparse.Namespace) -> None:
    if args.audio is not None:
        return _files(args)
    if not args.exp:
        raise WheeltapperError("expected --exp EXP (stage of a recipe) or --audio FILE_OR_FOLDER --out X.npz")
    with session(args.exp, args.conf, args.set) as run:
        run_stage(run, "embed")


def _files(args: argparse.Namespace) -> None:
    from system import audio

    if args.out is None:
        raise WheeltapperError("--audio: expected --out X.npz beside it")
    if not args.audio.exists():
        raise WheeltapperError(f"{args.audio}: expected a sound file or a folder, found nothing")
    paths = audio.list_files(args.audio) if args.audio.is_dir() else [args.audio]
    if not paths:
        raise WheeltapperError(f"{args.audio}: expected {', '.join(audio.EXTENSIONS)} files, found none")

    import json
    import time

    import numpy as np

    from system.embeddings.embed import choose_precision, embed_files
    from system.files import open_atomic
    from system.record import run_record

    check_device(args.device)
    if args.batch_size < 1 or args.workers < 0 or args.layer < 0:
        raise WheeltapperError("--batch-size, --workers, --layer: expected at least 1, 0 and 0")
    encoder = encoder_options.build_encoder(args, args.checkpoint, args.seed)
    workers = one_thread_each(args.workers)
    dtype = choose_precision(args.precision, args.device)
    begin = time.monotonic()
    with progress_bar(len(paths), "embedding") as bar:
        embeddings = embed_files(
            encoder, paths, args.mode, args.rate, workers, bar.update, args.pool, args.pool_power, args.layer,
            args.device, args.batch_size, dtype,
        )  # fmt: skip
    seconds = time.monotonic() - begin
    record = {
        "encoder": encoder.family,
        "config": asdict(encoder.config),
        "checkpoint": args.checkpoint or args.exp or encoder_options.DEFAULT,
        **{name: getattr(args, name) for name in ("mode", "pool", "layer", "filterbank", "simam", "rate", "device")},
        "precision": str(dtype).removeprefix("torch."),
        "seconds": round(seconds, 2),
        **run_record(),
    }
    root = args.audio if args.audio.is_dir() else args.audio.parent
    with open_atomic(args.out, "wb") as file:
        np.savez(
            file,
            files=np.array([p.relative_to(root).as_posix() for p in paths]),
            embeddings=embeddings,
            record=np.array(json.dumps(record)),
        )
    print(
        f"{args.out}: {len(paths)} recordings, {embeddings.shape[1]} numbers each, {record['precision']}, "
        f"{len(paths) / max(seconds, 1e-9):.1f} recordings/s, peak memory {record['peak_memory_mb']} MB"
    )
