"""Estimates time and disk space for embedding all of RMIS, by measurement and extrapolation.

For each encoder and each rate of RMIS's data sets, recordings of 10 s of noise are embedded from wav files into the
store of embeddings. The rounds alternate, so that other load on the machine affects all; the result is the median. With
the volumes of the data sets (FISHER paper, table 1) it gives hours on this machine and gigabytes. Random weights. The
cost of the store itself is measured separately, with rows that cost nothing.

    python tools/bench_store.py [--encoders default fisher-tiny ...] [--clips 4] [--rounds 3] [--rows N] [--json FILE]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from system import audio
from system.benchmarks.embedders import Embedder, rmis
from system.benchmarks.embedders import statistics as spectral
from system.benchmarks.protocols import STATISTICS
from system.embeddings.store import EmbeddingStore
from system.encoders import Encoder, cards, family_class
from system.files import write_json
from system.machine import peak_memory_mb, threads
from system.manifest import Clip
from system.record import run_record

SECONDS = 10
# Hours by data set and rate.
VOLUMES = {
    16000: {"DCASE 2020 to 2025": 153 + 165 + 139 + 50 + 49 + 45},
    25600: {"SDUST": 25 + 17},
    44100: {"IIEE": 1},
    48000: {"IICA, WTPG": 47 + 14},
    50000: {"MaFaulDa": 3 + 16},
    51200: {"UMGED": 59 + 176 + 117 + 117},
    64000: {"PU": 3 + 6},
}


def write_clips(folder: Path, rate: int, count: int) -> list[Clip]:
    """Recordings of noise."""
    generator, clips = np.random.default_rng(rate), []
    for number in range(count):
        path = folder / f"{rate}_{number}.wav"
        audio.write(path, generator.normal(0, 0.1, (1, SECONDS * rate)).clip(-1, 1), rate)
        known = {"channels": 1, "rate": rate, "samples": SECONDS * rate, "digest": audio.digest(path)}
        clips.append(Clip("noise", "noise", "00", "train", path.name, str(path), **known))
    return clips


def embedder(name: str) -> Embedder:
    """Of an encoder with random weights, or of statistics."""
    if name in STATISTICS:
        return spectral(name)
    family, _, size = name.partition("-")
    if name == "default":
        family, size = cards.card(name).family, cards.card(name).size
    encoder: Encoder = family_class(family).build(size, 0)
    return rmis(encoder, SECONDS)


def fill(store: EmbeddingStore, embed: Embedder, workers: int) -> tuple[float, int]:
    """Seconds of a filled store, and numbers of a row."""
    begin = time.perf_counter()
    store.fill(embed, workers)
    rows = store.finish()
    return time.perf_counter() - begin, rows.shape[1]


def store_alone(folder: Path, rows: int, dim: int) -> dict[str, float]:
    """Rows a second that are written and joined, and that are looked through when a run goes on."""
    clips = [Clip("x", "x", "00", "train", str(n), str(n), rate=1, samples=1, digest=f"{n:032x}") for n in range(rows)]
    row = np.random.default_rng(0).normal(size=dim).astype(np.float32)
    store = EmbeddingStore(folder, "alone", {"dim": dim}, clips)
    times = [time.perf_counter()]
    for work in (lambda: store.fill(lambda clip: row), store.missing, store.finish, store.read):
        work()
        times.append(time.perf_counter())
    seconds = dict(zip(("write", "resume", "join", "open"), np.diff(times).tolist(), strict=True))
    return {"rows": rows, "dim": dim, "megabytes": rows * dim * 4 / 1e6, **seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and room that RMIS's embeddings take.")
    parser.add_argument("--encoders", nargs="+", default=["default", "fisher-tiny", "echo-tiny", "log-mel-mean-std"])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    workers = threads()
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        clips = {rate: write_clips(folder, rate, args.clips) for rate in VOLUMES}
        embedders = {name: embedder(name) for name in args.encoders}
        times: dict[tuple[str, int], list[float]] = {}
        dims: dict[tuple[str, int], int] = {}
        for turn in range(args.rounds):
            for key in ((name, rate) for name in args.encoders for rate in VOLUMES):
                name, rate = key
                store = EmbeddingStore(folder / str(turn), f"{name}-{rate}", embedders[name].facts, clips[rate])
                seconds, dims[key] = fill(store, embedders[name], workers)
                times.setdefault(key, []).append(seconds / args.clips)
        alone = store_alone(folder, args.rows, 2304)
    print(f"{'encoder':18s} {'Hz':>6s} {'numbers':>8s} {'s a clip':>24s} {'hours':>6s} {'takes h':>8s} {'GB':>7s}")
    for name in args.encoders:
        total = {"hours": 0.0, "gigabytes": 0.0, "volume": 0.0}
        for rate, volumes in VOLUMES.items():
            taken, dim = times[name, rate], dims[name, rate]
            middle, volume = statistics.median(taken), sum(volumes.values())
            count = volume * 3600 / SECONDS
            hours, gigabytes = count * middle / 3600, count * dim * 4 / 1e9
            for key, value in (("hours", hours), ("gigabytes", gigabytes), ("volume", volume)):
                total[key] += value
            spread = f"{middle:.3f} ({min(taken):.3f} to {max(taken):.3f})"
            print(f"{name:18s} {rate:6d} {dim:8d} {spread:>24s} {volume:6.0f} {hours:8.2f} {gigabytes:7.3f}")
            found.setdefault(name, {})[rate] = {"dim": dim, "seconds": taken, "hours": hours, "gigabytes": gigabytes}
        print(
            f"{name:18s} {'all':>6s} {'':33s} {total['volume']:6.0f} {total['hours']:8.2f} {total['gigabytes']:7.3f}\n"
        )
        found[name]["all"] = total
    rates = ", ".join(f"{alone['rows'] / alone[key]:,.0f} rows/s to {key}" for key in ("write", "resume", "join"))
    print(f"store alone, {alone['rows']} rows of {alone['dim']} ({alone['megabytes']:.0f} MB): {rates}")
    print(f"peak memory {peak_memory_mb()} MB")
    if args.json:
        write_json(args.json, {"workers": workers, "encoders": found, "store": alone, "record": run_record()})


if __name__ == "__main__":
    main()
