"""Stage 3 (--exp): embed all clips with each branch. With --audio: embed any recordings with a frozen encoder."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from system import manifest
from system.bin import common
from system.errors import WheeltapperError
from system.experiment import Experiment

# Where run.sh leaves the default run, from wherever the verb is called.
DEFAULT_EXPERIMENT = Path(__file__).resolve().parents[2] / "exp" / "default"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser, required=False)
    group = parser.add_argument_group("any recordings")
    group.add_argument("--audio", type=Path, help="sound file, or folder of sound files")
    group.add_argument("--out", type=Path, help="npz with files (N,) and embeddings float32 (N, D)")
    group.add_argument(
        "--encoder",
        default="default",
        help="default: what a run pre-trained (--exp, else exp/default); or fisher[-tiny|-mini|-small|-nano]",
    )
    group.add_argument("--checkpoint", help="weights to load, or 'random' for untrained ones")
    group.add_argument(
        "--mode",
        default="official",
        help="official: first 1024 frames; rmis: padded to 1024; chunks: mean over pieces of 1024",
    )
    group.add_argument("--rate", type=int, default=0, help="bring all recordings to this rate in Hz; 0: as recorded")
    group.add_argument("--seed", type=int, default=0, help="of untrained weights")


def main(args: argparse.Namespace) -> None:
    if args.audio is not None:
        return _files(args)
    if not args.exp:
        raise WheeltapperError("expected --exp EXP (stage of a recipe) or --audio FILE_OR_FOLDER --out X.npz")
    with common.experiment(args) as run:
        names = list(run.config.branches)
        settings = {
            "rate": run.config.data.rate,
            "encoders": {n: asdict(b.encoder) if b.encoder else None for n, b in run.config.branches.items()},
        }
        reads = [run.manifest, run.encoder, *(run.adapter(name) for name in names)]
        common.run_stage(run.stage("embed", settings, reads, owns=["embeddings"]), lambda: _work(run))


def _work(run: Experiment) -> Iterable[Path]:
    import shutil

    from system import embedding, store
    from system.adaptation import load_adapted

    device = common.prepare_torch(run)
    workers = common.one_thread_each(run.config.threads)
    clips = [clip for clip in manifest.read(run.manifest) if clip.split in ("train", "test")]
    written: list[Path] = []
    for name, branch in run.config.branches.items():
        model = load_adapted(common.base_encoder(run, name), run.adapter(name), branch)
        parts = run.index(name).parent / "parts"
        with common.progress_bar(len(clips), f"embedding {name}") as bar:
            result = embedding.embed_branch(model, clips, parts, workers, device, bar.update)
        paths = {"gate": run.gate(name)} | {view: run.embeddings(name, view) for view in result if view != "gate"}
        for view, path in paths.items():
            store.write_array(path, result[view])
        store.write_index(run.index(name), clips)
        shutil.rmtree(parts)
        written += [run.index(name), *paths.values()]
    return written


def _files(args: argparse.Namespace) -> None:
    from system import audio

    if args.out is None:
        raise WheeltapperError("--audio: expected --out X.npz beside it")
    if not args.audio.exists():
        raise WheeltapperError(f"{args.audio}: expected a sound file or a folder, found nothing")
    paths = audio.list_files(args.audio) if args.audio.is_dir() else [args.audio]
    if not paths:
        raise WheeltapperError(f"{args.audio}: expected {', '.join(audio.EXTENSIONS)} files, found none")

    import numpy as np

    from system.embedding import embed_files
    from system.stage import open_atomic

    encoder = _encoder(args)
    workers = common.one_thread_each()
    with common.progress_bar(len(paths), "embedding") as bar:
        embeddings = embed_files(encoder, paths, args.mode, args.rate, workers, bar.update)
    root = args.audio if args.audio.is_dir() else args.audio.parent
    with open_atomic(args.out, "wb") as file:
        np.savez(file, files=np.array([p.relative_to(root).as_posix() for p in paths]), embeddings=embeddings)
    print(f"{args.out}: {len(paths)} recordings, {embeddings.shape[1]} numbers each")


def _encoder(args: argparse.Namespace):
    from system.config import EncoderConfig, load
    from system.encoders import load_encoder
    from system.experiment import Experiment

    if args.encoder == "default":
        folder = Path(args.exp or DEFAULT_EXPERIMENT)
        if args.checkpoint == "random":
            saved = folder / "config.yaml"
            config = load(saved).encoder if saved.is_file() else EncoderConfig()
            return load_encoder(EncoderConfig(config.family, config.size), args.seed)
        trained = Path(args.checkpoint) if args.checkpoint else Experiment(folder, None).encoder
        if not trained.is_file():
            raise WheeltapperError(
                f"{trained}: expected the weights of a run, found nothing: ./run.sh --stop-stage 1 trains them; or "
                "give --checkpoint FILE"
            )
        return load_encoder(None, args.seed, trained)
    family, _, size = args.encoder.replace("_", "-").partition("-")
    config = EncoderConfig(family, size or "tiny")
    if args.checkpoint in (None, ""):
        raise WheeltapperError(f"--encoder {args.encoder}: expected --checkpoint FILE, or random for untrained weights")
    return load_encoder(config, args.seed, None if args.checkpoint == "random" else args.checkpoint)
