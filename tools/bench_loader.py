"""Benchmarks the input pipelines of training and their alternatives, in one process, round by round.

1. Random crops per second from sound files (a manifest) and from shards, for each file format.
2. Clips per second of a training loop when crops are resampled and transformed in the thread that prepares batches
   ("worker") or in the training thread, on its device ("device"). The training step itself is matrix products.
3. Batches per second of adaptation by their number of clips to choose from (--many), each of two microphones, with and
   without subtraction of the far one (residual), made by one thread and by as many as training takes on this machine.

Each figure is the median over the rounds with minimum and maximum.

Usage: bench_loader.py [--formats wav flac ogg] [--clips 64] [--rate 48000] [--batch-rate 16000] [--seconds 3]
                       [--batch 8] [--steps 20] [--step-gmacs 5] [--workers 1] [--device cpu|cuda] [--rounds 5]
                       [--many 1000 100000] [--json OUT]
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import soundfile
import torch

from system import audio
from system.adaptation.batches import CropBatches
from system.config import EncoderBranchConfig, LoopConfig
from system.frontends.stft import fisher_spectrogram
from system.manifest import Clip
from system.pretraining.corpus import ClipCorpus, Mixture
from system.pretraining.shards import write_shards
from system.record import run_record
from system.training.crops import fit_length
from system.training.loading import loader_threads, prepared
from system.training.state import step_seed

CLIP_SECONDS = 10
ROWS, DIM = 1024, 1024  # of the step's matrix products


def write_clips(folder: Path, kind: str, count: int, rate: int, channels: int = 1) -> list[Clip]:
    """Recordings of a tone in noise."""
    rng, clips = np.random.default_rng(0), []
    folder.mkdir()
    time_axis = np.arange(CLIP_SECONDS * rate) / rate
    for number in range(count):
        wave = 0.2 * np.sin(2 * np.pi * rng.uniform(50, 2000) * time_axis) + rng.normal(
            0, 0.05, (channels, len(time_axis))
        )
        path = folder / f"{number:05d}.{kind}"
        soundfile.write(path, wave.clip(-1, 1).T, rate)
        clips.append(
            Clip("bench", "bench", "00", "train", path.name, str(path), "", "", "", "", channels, rate, len(time_axis))
        )
    return clips


def spectrograms(waves: torch.Tensor, rate: int, batch_rate: int, samples: int) -> torch.Tensor:
    """FISHER's input of crops (B, n) at their own rate, where the crops are."""
    return fisher_spectrogram(fit_length(audio.resampler(rate, batch_rate)(waves), samples), batch_rate)


class Feed:
    """Batches of crops, as waves or, with ``front_end`` worker, as spectrograms."""

    def __init__(self, mixture: Mixture, args: argparse.Namespace, front_end: str):
        self.mixture, self.args, self.front_end = mixture, args, front_end

    def __call__(self, step: int) -> tuple[torch.Tensor, int]:
        rng, args = np.random.default_rng(step_seed(0, step)), self.args
        crops = [self.mixture.crop(p, args.seconds, rng) for p in self.mixture.draw(args.batch_rate, args.batch, rng)]
        waves = torch.from_numpy(np.stack([wave for wave, _ in crops]))
        rate = crops[0][1]
        if self.front_end == "worker":
            with torch.no_grad():
                return spectrograms(waves, rate, args.batch_rate, round(args.seconds * args.batch_rate)), rate
        return waves, rate


def train(feed: Feed, args: argparse.Namespace) -> float:
    """Clips per second of a loop over batches."""
    weight = torch.randn(DIM, DIM, device=args.device)
    products = max(1, round(args.step_gmacs * 1e9 / (ROWS * DIM * DIM)))
    x = torch.randn(ROWS, DIM, device=args.device)
    begin = time.perf_counter()
    with contextlib.closing(prepared(feed, ((step,) for step in range(args.steps)), args.workers)) as batches:
        for batch, rate in batches:
            batch = batch.to(args.device)
            if feed.front_end == "device":
                batch = spectrograms(batch, rate, args.batch_rate, round(args.seconds * args.batch_rate))
            for _ in range(products):
                x @ weight
            batch.mean().item()  # waits for the device, as a training loop does for its loss
    return args.steps * args.batch / (time.perf_counter() - begin)


def read(mixture: Mixture, args: argparse.Namespace) -> float:
    """Crops per second, read in one thread."""
    rng, count = np.random.default_rng(0), args.steps * args.batch
    begin = time.perf_counter()
    for pick in mixture.draw(args.batch_rate, count, rng):
        mixture.crop(pick, args.seconds, rng)
    return count / (time.perf_counter() - begin)


def adaptation(clips: list[Clip], args: argparse.Namespace, inputs: list[str], workers: int) -> float:
    """Batches per second of adaptation, prepared in threads; the grouping of the clips is not counted."""
    config = EncoderBranchConfig(inputs=inputs, crop_seconds=args.seconds, loop=LoopConfig(batch_size=args.batch))
    labels = np.zeros(len(clips), np.int64)
    batches = CropBatches(clips, labels, labels, config, args.batch_rate, 0)
    begin = time.perf_counter()
    for _ in prepared(batches, ((step,) for step in range(args.steps)), workers):
        pass
    return args.steps / (time.perf_counter() - begin)


def many(clips: list[Clip], count: int) -> list[Clip]:
    """As many clips as wanted, of few files, of ten machines and both domains."""
    machines = [f"machine{number}" for number in range(10)]
    return [
        replace(clips[i % len(clips)], machine=machines[i % 10], domain="target" if i % 100 < 10 else "source")
        for i in range(count)
    ]


def compare(kinds: dict[str, Callable[[], float]], rounds: int) -> dict[str, dict[str, float]]:
    """Median, least and most of each kind; all are measured in turn."""
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(rounds + 1):
        for name, run in kinds.items():
            speed = run()
            if turn:  # the first round warms up
                found[name].append(speed)
    return {
        name: {"median": round(statistics.median(v), 1), "least": round(min(v), 1), "most": round(max(v), 1)}
        for name, v in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--formats", nargs="+", default=["wav", "flac", "ogg"])
    parser.add_argument("--clips", type=int, default=64, help="recordings of 10 s")
    parser.add_argument("--rate", type=int, default=48000, help="Hz, of the recordings")
    parser.add_argument("--batch-rate", type=int, default=16000, help="Hz")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a crop")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="batches in a round")
    parser.add_argument("--step-gmacs", type=float, default=5.0, help="multiply-adds of a step, in 1e9")
    parser.add_argument("--workers", type=int, default=1, help="threads that prepare batches")
    parser.add_argument("--many", type=int, nargs="+", default=[1000, 100000], help="clips that adaptation draws from")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for kind in args.formats:
            clips = write_clips(Path(temporary) / kind, kind, args.clips, args.rate)
            files = Mixture([ClipCorpus(clips)])
            shards = Mixture([write_shards(clips, Path(temporary) / f"{kind}_shards")])
            found = compare(
                {"files": lambda m=files: read(m, args), "shards": lambda m=shards: read(m, args)}, args.rounds
            )
            rows.append({"measured": "crops/s", "format": kind, **found})
            print(json.dumps(rows[-1]), flush=True)
        feeds = {name: Feed(shards, args, name) for name in ("worker", "device")}
        found = compare({name: lambda f=feed: train(f, args) for name, feed in feeds.items()}, args.rounds)
        rows.append({"measured": "clips/s", "on": args.device, "rates": [args.rate, args.batch_rate], **found})
        print(json.dumps(rows[-1]), flush=True)
        clips = write_clips(Path(temporary) / "stereo", "wav", args.clips, args.rate, channels=2)
        counts = sorted({args.workers, loader_threads(0, "cpu"), loader_threads(0, "cuda")})
        drawn = {count: many(clips, count) for count in args.many}
        for inputs in (["near", "far"], ["near", "residual"]):
            kinds = {
                f"{count} clips, {workers} threads": partial(adaptation, drawn[count], args, inputs, workers)
                for count in args.many
                for workers in counts
            }
            found = compare(kinds, args.rounds)
            rows.append({"measured": "batches/s", "inputs": inputs, **found})
            print(json.dumps(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "settings": vars(args), **run_record()}, indent=1, default=str))


if __name__ == "__main__":
    main()
