"""Trains noise-aware layers of a frozen encoder on mixtures of machines and noise, which are made while it trains.

A killed run continues: start it again with the same options. Writes layers.safetensors, which
branches.NAME.encoder.noise_aware takes, and curve.csv.

Usage: train_noise_aware.py --machines DIR --noise DIR --out DIR [--steps N] [--kind cross_attention|film] ...
"""

import argparse
from pathlib import Path

from system import audio
from system.config import EncoderConfig, LoopConfig
from system.corpora.simulation.emulate import EmulateSettings
from system.corpora.simulation.noise import NoisePool
from system.errors import WheeltapperError

LAYERS = "layers.safetensors"


def train(args: argparse.Namespace) -> Path:
    """Trains and returns the file of the layers."""
    import torch

    from system.encoders import cards, checkpoints, load_encoder, noise_aware
    from system.pretraining.noise_aware import Mixtures, NoiseAwareTask
    from system.training.loop import fit

    machines, noise = (_recordings(folder) for folder in (args.machines, args.noise))
    config = EncoderConfig(args.family, args.size, args.checkpoint)
    encoder = load_encoder(config, args.seed, cards.checkpoint_file(config, args.data))
    base = checkpoints.weights_hash(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        layers = noise_aware.NoiseAwareLayers(args.kind, encoder.dim, encoder.depth)
    task = NoiseAwareTask(noise_aware.attach(encoder, layers), args.rate)
    pool = NoisePool(args.noise, tuple(path.relative_to(args.noise).as_posix() for path in noise))
    settings = EmulateSettings(seed=args.seed, snr_low=args.snr[0], snr_high=args.snr[1], rate=args.rate)
    mixtures = Mixtures(machines, pool, settings, args.seconds, args.batch_size)
    loop = LoopConfig(
        steps=args.steps, batch_size=args.batch_size, learning_rate=args.learning_rate, warmup_steps=args.steps // 20,
        weight_decay=0.01, betas=[0.9, 0.999], workers=1, checkpointing="off",
    )  # fmt: skip
    facts = {"encoder": base, "kind": args.kind, "seconds": args.seconds, "snr_db": list(args.snr)}
    fit(
        task, mixtures, loop, args.out, args.seed, args.device, after_step=task.update_average,
        progress=lambda step, row: print(f"step {step + 1}: loss {row['loss']:.4f}", flush=True), settings=facts,
    )  # fmt: skip
    file = args.out / LAYERS
    noise_aware.save(file, task.average, base, steps=args.steps, seed=args.seed, snr_db=list(args.snr))
    return file


def _recordings(folder: Path) -> list[Path]:
    found = audio.list_files(folder) if folder.is_dir() else []
    if not found:
        raise WheeltapperError(f"{folder}: expected sound files, found none")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Noise-aware layers of a frozen encoder.")
    parser.add_argument("--machines", type=Path, required=True, metavar="DIR", help="recordings without noise")
    parser.add_argument("--noise", type=Path, required=True, metavar="DIR", help="recordings of noise")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--family", default="fisher", help="family of the encoder (default: fisher)")
    parser.add_argument("--size", default="nano", help="size of the encoder (default: nano)")
    parser.add_argument("--checkpoint", default="default", help="weights, a file or a name (default: default)")
    parser.add_argument("--data", default="data", metavar="DIR", help="folder with checkpoints/ (default: data)")
    parser.add_argument("--kind", choices=["cross_attention", "film"], default="cross_attention", help="kind of layers")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="updates (default: 1000)")
    parser.add_argument("--batch-size", type=int, default=12, metavar="N", help="mixtures of an update (default: 12)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a mixture (default: 4)")
    parser.add_argument(
        "--snr", type=float, nargs=2, default=[-20.0, 0.0], metavar="DB", help="limits (default: -20 0)"
    )
    parser.add_argument("--rate", type=int, default=16000, metavar="HZ", help="sampling rate (default: 16000)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="peak of AdamW (default: 0.001)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of layers and mixtures (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    args = parser.parse_args()
    try:
        print(train(args))
    except WheeltapperError as error:
        parser.exit(1, f"train_noise_aware: {error}\n")


if __name__ == "__main__":
    main()
