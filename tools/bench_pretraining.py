"""Benchmarks pre-training against matrix products, in one run.

Rounds alternate between matrix products of the size of the student's MLP and training steps (forward, backward, update
of weights and teacher) on prepared batches. The share is the multiply-adds of a step (three times those of student and
decoder plus once those of the teacher) per second, divided by those of the products. Then the cost as rate, batch and
clones grow, and time(2N) / time(N) for N clips per step.

Usage: bench_pretraining.py [--conf FILE] [--rates 8000 16000 32000 48000] [--device cpu|cuda] [--rounds 5] [--json OUT]
"""

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from system.config import PretrainConfig, load
from system.encoders import load_encoder
from system.encoders.cost import multiply_adds
from system.machine import peak_memory_mb
from system.pretraining.batches import Batches
from system.pretraining.corpus import Mixture
from system.pretraining.distillation import Batch, SelfDistillation
from system.pretraining.objectives import build_objective
from system.record import run_record
from system.training.loop import parameter_groups

CONF = Path(__file__).resolve().parent.parent / "recipes" / "pretrain" / "conf" / "small.yaml"
TOP = 48000
MASKS = 6  # of a band, beside a configuration with one


class Noise:
    """A corpus of noise at the highest rate, so that reading costs nothing."""

    rates, samples, channels = np.array([TOP]), np.array([20 * TOP]), np.array([1])

    def __len__(self) -> int:
        return 1

    def crop(self, index: int, channel: int, start: int, samples: int) -> np.ndarray:
        return np.random.default_rng(start).normal(0, 0.1, samples).astype(np.float32)


class Setting(NamedTuple):
    name: str
    rate: int
    clips: int
    clones: int


class Trainer:
    """One configuration with a batch of one rate, ready to step."""

    def __init__(self, config, setting: Setting, device: str):
        pretrain: PretrainConfig = copy.deepcopy(config.pretrain)
        pretrain.loop.batch_size, pretrain.mask.clones = setting.clips, setting.clones
        pretrain.mask.max_bands = max(pretrain.mask.max_bands, setting.clones)
        pretrain.min_rate = pretrain.max_rate = setting.rate
        self.task: SelfDistillation = build_objective(load_encoder(config.encoder, 0), pretrain).to(device).train()
        self.optimizer = torch.optim.AdamW(parameter_groups(self.task, 0.05), lr=1e-4)
        self.batches, self.device = Batches(self.task, Mixture([Noise()]), pretrain, 0), device
        self.batch = self._to_device(self.batches(0))

    def _to_device(self, batch: Batch) -> Batch:
        from accelerate.utils import send_to_device

        return send_to_device(batch, self.device)

    def multiply_adds(self) -> int:
        """Of one step: backward counts twice forward, the teacher has no backward."""
        with torch.no_grad():
            whole = multiply_adds(self.task, self.batch)
            spectrograms = self.batch.get("spectrograms") or self.task.spectrograms(self.batch, self.device)
            rows, *codes = self.task.rows(spectrograms[0], self.batch)
            teacher = multiply_adds(self.task.targets, rows, *codes)
        return 3 * (whole - teacher) + teacher

    def steps_per_second(self, count: int) -> float:
        begin = time.perf_counter()
        for step in range(count):
            self.task(self.batch)["loss"].backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.task.update_statistics()
            self.task.update_teacher(step)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return count / (time.perf_counter() - begin)

    def batches_per_second(self, count: int) -> float:
        begin = time.perf_counter()
        for step in range(count):
            self.batches(step)
        return count / (time.perf_counter() - begin)


def product_rate(dim: int, rows: int, device: str, seconds: float) -> float:
    """Multiply-adds per second of x W, x (rows, dim), W (dim, 4 dim), and back, with torch's own threads."""
    wide, narrow = torch.randn(4 * dim, dim, device=device), torch.randn(dim, 4 * dim, device=device)
    x, done = torch.randn(rows, dim, device=device), 0
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds:
        for _ in range(8):
            torch.nn.functional.linear(torch.nn.functional.linear(x, wide), narrow)
        if device == "cuda":
            torch.cuda.synchronize()
        done += 64 * rows * dim * dim
    return done / (time.perf_counter() - begin)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of pre-training beside the machine's matrix products.")
    parser.add_argument("--conf", type=Path, default=CONF)
    parser.add_argument("--rates", type=int, nargs="+", default=[8000, 16000, 32000, 48000])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of a round")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    config = load(args.conf)
    clips, clones = config.pretrain.loop.batch_size, config.pretrain.mask.clones
    settings = [Setting(f"{rate // 1000} kHz", rate, clips, clones) for rate in args.rates]
    settings += [Setting("16 kHz, twice the clips", 16000, 2 * clips, clones)]
    others = MASKS if clones == 1 else 1
    settings += [Setting(f"16 kHz, {others} masks a band", 16000, clips, others)]
    trainers = {setting: Trainer(config, setting, args.device) for setting in settings}
    macs = {setting: trainer.multiply_adds() for setting, trainer in trainers.items()}
    steps: dict[Setting, list[float]] = {setting: [] for setting in settings}
    loads: dict[Setting, list[float]] = {setting: [] for setting in settings}
    products: list[float] = []
    for turn in range(args.rounds + 1):
        product = product_rate(load_encoder(config.encoder, 0).dim, 4096, args.device, 1.0)
        for setting, trainer in trainers.items():
            speed, loading = trainer.steps_per_second(args.steps), trainer.batches_per_second(2)
            if turn:  # the first round warms up
                steps[setting].append(speed)
                loads[setting].append(loading)
        if turn:
            products.append(product)
    print(f"matrix products: {spread([p / 1e9 for p in products])} G multiply-adds/s")
    rows = []
    for setting in settings:
        shares = [speed * macs[setting] / product for speed, product in zip(steps[setting], products, strict=True)]
        rows.append(
            {
                **setting._asdict(),
                "multiply_adds": macs[setting],
                "steps_per_second": steps[setting],
                "batches_per_second": loads[setting],
                "share": shares,
            }
        )
        print(
            f"{setting.name}: {setting.clips} clips x {setting.clones} masks, {macs[setting] / 1e9:.1f} G "
            "multiply-adds, "
            f"{spread(steps[setting])} steps/s, {spread([setting.clips * s for s in steps[setting]])} clips/s, "
            f"share {spread(shares)}; prepared {spread([setting.clips * s for s in loads[setting]])} clips/s"
        )
    base = next((setting for setting in settings if setting.rate == 16000), None)
    if base:
        double = settings[-2]
        ratios = [one / two for one, two in zip(steps[base], steps[double], strict=True)]
        print(f"time(2N) / time(N), N = {clips}: {spread(ratios)}")
    if args.json:
        record = {"rows": rows, "products": products, "peak_memory_mb": peak_memory_mb(), **run_record()}
        args.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
