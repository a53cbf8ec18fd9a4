"""Benchmarks each step from a two-channel recording to its features, relative to a log-mel spectrogram, in one run.

Ten seconds at 16 kHz by default, one thread. The steps alternate, so that other load on the machine affects all; the
result is the median.

    python tools/bench_front_ends.py [--seconds 10] [--rounds 15] [--json FILE]
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from system.config import EncoderConfig, SpectrumConfig
from system.embeddings.embed import frozen_network
from system.encoders import cards, load_encoder
from system.files import write_json
from system.frontends.farfield import subtract_far
from system.frontends.logmel import log_mel
from system.frontends.spectrum import describe
from system.record import run_record

RATE = 16000
REFERENCE = "log-mel spectrogram"
LOCAL = {"n_fft": 2048, "stretch": 3 * RATE}


def cases(wave: np.ndarray) -> dict[str, Callable[[], object]]:
    """Steps by name; ``wave``: float32 (2, samples)."""
    encoder = load_encoder(
        EncoderConfig("fisher", "nano", "default"), 0, cards.find_checkpoint("default", Path())
    ).eval()
    network = frozen_network(encoder, pool="band", rate=RATE)
    near = torch.from_numpy(wave[:1])

    @torch.inference_mode()
    def embed() -> object:
        return network(encoder.spectrogram(near, RATE))

    return {
        REFERENCE: lambda: log_mel(wave[:1], RATE),
        "spectrum, mean": lambda: describe(wave[:1], RATE, SpectrumConfig()),
        "spectrum, quantile": lambda: describe(wave[:1], RATE, SpectrumConfig(statistic="quantile", merge=2)),
        "subtraction, magnitude": lambda: subtract_far(wave, "magnitude"),
        "subtraction, one gain": lambda: subtract_far(wave),
        "subtraction, coherence": lambda: subtract_far(wave, coherence=True),
        "subtraction, balanced": lambda: subtract_far(wave, balance=0.5),
        "subtraction, 3 taps": lambda: subtract_far(wave, taps=3),
        "subtraction, local": lambda: subtract_far(wave, **LOCAL),
        "subtraction, local, 3 taps": lambda: subtract_far(wave, taps=3, **LOCAL),
        "default encoder, one input": embed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of the recording")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    wave = (0.1 * generator.standard_normal((2, int(args.seconds * RATE)))).astype(np.float32)
    steps = cases(wave)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(args.rounds + 1):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if number:  # the first round fills caches
                times[name].append(time.perf_counter() - begin)
    base = statistics.median(times[REFERENCE])
    print("| step | ms, median (quartiles) | ratio |\n|---|---|---|")
    for name, values in times.items():
        low, middle, high = (1e3 * value for value in statistics.quantiles(values, n=4))
        print(f"| {name} | {middle:.1f} ({low:.1f} to {high:.1f}) | {middle / 1e3 / base:.1f} |")
    if args.json:
        write_json(args.json, {"seconds": args.seconds, "times": times, **run_record()})


if __name__ == "__main__":
    main()
