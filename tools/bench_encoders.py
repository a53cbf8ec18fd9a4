"""Benchmarks the encoders against matrix products, in one run.

For every encoder and rate, rounds alternate between matrix products of the size of the encoder's MLP and recordings of
10 s from wav files to embeddings. The share is the encoder's multiply-adds per second divided by those of the products.
Random weights.

Usage: bench_encoders.py [--encoders fisher-small echo-small beats-base] [--rates 16000 48000] [--batch-sizes 1 8]
                         [--precisions fp32 bf16 int8] [--device cpu|cuda] [--rounds 5] [--json OUT]
"""

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from system import audio
from system.embeddings.embed import embed_files
from system.embeddings.precision import choose_precision, set_precision
from system.encoders import Encoder, family_class
from system.encoders.cost import multiply_adds
from system.encoders.linear import Linear
from system.machine import peak_memory_mb, threads
from system.record import run_record

SECONDS = 10


def write_recordings(folder: Path, rate: int, count: int) -> list[Path]:
    """Wav files of SECONDS of noise."""
    generator = np.random.default_rng(0)
    paths = [folder / f"{rate}_{number}.wav" for number in range(count)]
    for path in paths:
        audio.write(path, generator.normal(0, 0.1, (1, SECONDS * rate)).clip(-1, 1), rate)
    return paths


def cost(encoder: Encoder, rate: int) -> int:
    """Multiply-adds of one recording."""
    with torch.no_grad():
        spectrogram = encoder.spectrogram(torch.zeros(1, SECONDS * rate), rate)
    return multiply_adds(encoder.embed_spectrogram, spectrogram.to(encoder.device))


def product_rate(
    rows: int, dim: int, hidden: int, workers: int, device: str, dtype: torch.dtype, seconds: float
) -> float:
    """Multiply-adds per second of x W with x (rows, dim), W (dim, hidden) and back, one stream of them per worker."""
    wide = Linear(dim, hidden, device=device, dtype=dtype)
    narrow = Linear(hidden, dim, device=device, dtype=dtype)

    @torch.inference_mode()
    def stream(_: int) -> int:
        x, done = torch.randn(rows, dim, device=device, dtype=dtype), 0
        while time.perf_counter() < end:
            for _ in range(8):
                narrow(wide(x))
            if device == "cuda":
                torch.cuda.synchronize()
            done += 16 * rows * dim * hidden
        return done

    end = time.perf_counter() + 0.1  # warm-up
    stream(0)
    with ThreadPoolExecutor(workers) as pool:
        begin = time.perf_counter()
        end = begin + seconds
        done = sum(pool.map(stream, range(workers)))
    return done / (time.perf_counter() - begin)


def clips_per_second(run: Callable[[], None], count: int) -> float:
    begin = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return count / (time.perf_counter() - begin)


def build(name: str) -> Encoder:
    """An untrained encoder by its command-line name."""
    family, _, size = name.partition("-")
    return family_class(family).build(size, 0)


def mlp_size(encoder: Encoder, rate: int) -> tuple[int, int, int]:
    """Tokens of one pass (at most a thousand), their width, and the hidden width of the MLP."""
    with torch.no_grad():
        spectrogram = encoder.spectrogram(torch.zeros(1, SECONDS * rate), rate)
        tokens = encoder(spectrogram.to(encoder.device)).grid
    per_row = tokens.shape[1] * tokens.shape[2] // encoder.bands(rate)
    return max(per_row, 1024 // per_row * per_row), tokens.shape[-1], 4 * tokens.shape[-1]


def least_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Least cosine of rows (N, D) that belong together."""
    products = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return float(products.min())


def measure(encoder: Encoder, paths: list[Path], rate: int, args: argparse.Namespace) -> list[dict]:
    """One row for each precision and batch size; all are measured in turn, round by round."""
    workers = threads()
    macs, (rows, dim, hidden) = cost(encoder, rate), mlp_size(encoder, rate)
    chosen = {choose_precision(precision, args.device, encoder) for precision in args.precisions}
    encoders = {precision: set_precision(copy.deepcopy(encoder), precision) for precision in sorted(chosen)}
    kinds = [(precision, batch) for precision in encoders for batch in args.batch_sizes]
    found = {kind: [] for kind in kinds}
    products = []
    for turn in range(args.rounds + 1):
        product = product_rate(rows, dim, hidden, workers, args.device, torch.float32, args.seconds)
        for precision, batch in kinds:
            speed = clips_per_second(
                lambda p=precision, b=batch: embed_files(
                    encoders[p], paths, workers=workers, device=args.device, batch_size=b
                ),
                len(paths),
            )
            if turn:  # the first round warms up
                found[precision, batch].append((speed, speed * macs / product))
        products += [product] if turn else []
    exact = embed_files(encoder, paths[:2], workers=workers, device=args.device)
    result = []
    for (precision, batch), values in found.items():
        speeds, shares = zip(*values, strict=True)
        now = embed_files(encoders[precision], paths[:2], workers=workers, device=args.device)
        result.append(
            {
                "rate": rate,
                "precision": precision,
                "batch_size": batch,
                "gmacs_per_clip": round(macs / 1e9, 2),
                "clips_per_second": round(statistics.median(speeds), 3),
                "share_of_product_rate": round(statistics.median(shares), 3),
                "share_least_most": [round(min(shares), 3), round(max(shares), 3)],
                "least_cosine_with_fp32": round(least_cosine(exact, now), 6),
                "product_size": [rows, dim, hidden],
                "product_gmacs_per_second": round(statistics.median(products) / 1e9, 1),
            }
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=["fisher-small", "echo-small", "beats-base"])
    parser.add_argument("--rates", nargs="+", type=int, default=[16000, 48000])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--precisions", nargs="+", default=["fp32"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=16, help="recordings in a round")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the matrix products in a round")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for rate in args.rates:
            paths = write_recordings(Path(folder), rate, args.clips)
            for name in args.encoders:
                for row in measure(build(name).to(args.device), paths, rate, args):
                    rows.append({"encoder": name, **row, "peak_memory_mb": peak_memory_mb()})
                    print(json.dumps(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, **run_record()}, indent=1))


if __name__ == "__main__":
    main()
