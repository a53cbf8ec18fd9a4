"""Benchmarks the training of the official autoencoder baseline against matrix products, in one run.

Rounds alternate between: the matrix products of a training step only, on one core and on all cores; our training steps,
one network on one core and one network per core; and a plain implementation, vectors in float64 through a DataLoader,
automatic differentiation with its checks, one network on all cores. The share is our multiply-adds per second divided
by those of the products on as many cores, by wall clock and, for machines with other users, by processor time. Peak
memory is that of a separate process that trains one epoch at full size.

With a copy of the official program (a checkout of the repository dcase2023_task2_baseline_ae, DIR), whole epochs of its
training loop alternate with ours: its own way, on all cores, and thread for thread, on one.

Usage: bench_autoencoder.py [--clips 1000] [--frames 313] [--rounds 5] [--steps 40] [--official DIR] [--json OUT]
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from torch import Tensor, nn

from system.machine import peak_memory_mb
from system.machine import threads as usual_threads
from system.record import run_record
from system.references import dense
from system.references.autoencoder import Autoencoder, AutoencoderSettings, build

BANDS = 128
CONFIG = AutoencoderSettings()
PEER_MINUTES = 64.0  # the official program at 1,000 clips x 100 epochs, measured on two cores


def product_sizes(network: nn.Sequential, batch: int) -> list[tuple[int, int, int]]:
    """(rows, inner, columns) of all matrix products of one training step."""
    sizes = []
    for place, layer in enumerate(layer for layer in network if isinstance(layer, nn.Linear)):
        inputs, outputs = layer.in_features, layer.out_features
        sizes += [(batch, inputs, outputs), (outputs, batch, inputs)]
        sizes += [(batch, outputs, inputs)] if place else []  # nobody asks for the gradient of the input
    return sizes


def products(network: nn.Sequential, batch: int) -> Callable[[], None]:
    """All products of a step, as plainly as torch offers them."""
    operands = [
        (torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns))
        for rows, inner, columns in product_sizes(network, batch)
    ]

    def step() -> None:
        for left, right, out in operands:
            torch.mm(left, right, out=out)

    return step


def our_steps(frames: Tensor, seed: int) -> Callable[[], None]:
    """Training steps as ``Autoencoder.fit`` takes them, on random windows of ``frames`` (rows, BANDS)."""
    step = dense.Steps(build(CONFIG.frames * BANDS, CONFIG), CONFIG.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    width = torch.arange(CONFIG.frames)

    def one() -> None:
        starts = torch.randint(len(frames) - CONFIG.frames, (CONFIG.batch, 1), generator=generator)
        step(frames.index_select(0, (starts + width).view(-1)).view(CONFIG.batch, -1))

    return one


def plain_steps(frames: Tensor) -> Callable[[], None]:
    """The same in the straightforward way: a data set of vectors, a loader, automatic differentiation."""
    vectors = np.lib.stride_tricks.sliding_window_view(frames.numpy().astype(np.float64), CONFIG.frames, axis=0)
    vectors = np.ascontiguousarray(vectors.transpose(0, 2, 1)).reshape(len(vectors), -1)
    loader = torch.utils.data.DataLoader(vectors, batch_size=CONFIG.batch, shuffle=True)
    network = build(vectors.shape[1], CONFIG).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=CONFIG.learning_rate)
    batches = iter(loader)

    def one() -> None:
        with torch.autograd.set_detect_anomaly(True):
            batch = next(batches).float()
            loss = nn.functional.mse_loss(network(batch), batch, reduction="none").mean(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return one


def speeds(streams: list[Callable[[], None]], steps: int) -> tuple[float, float]:
    """Steps a second by the clock and by processor time, of all streams together, a thread for each."""

    def run(step: Callable[[], None]) -> None:
        for _ in range(steps):
            step()

    clock, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(len(streams)) as pool:
        list(pool.map(run, streams))
    done = len(streams) * steps
    return done / (time.perf_counter() - clock), done / (time.process_time() - processor)


def measure(args: argparse.Namespace) -> dict:
    """Steps per second of each way, round by round, and what follows from them."""
    cores = usual_threads()
    frames = torch.randn(max(args.steps * (args.rounds + 2), 64) * CONFIG.batch, BANDS)
    network = build(CONFIG.frames * BANDS, CONFIG)
    ours = [our_steps(frames, seed) for seed in range(cores)]
    all_products = [products(network, CONFIG.batch) for _ in range(cores)]
    ways: dict[str, tuple[list[Callable[[], None]], int]] = {
        "products, one core": (all_products[:1], 1),
        "ours, one core": (ours[:1], 1),
        "products, every core": (all_products, 1),
        "ours, every core": (ours, 1),
        "plain": ([plain_steps(frames)], cores),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(args.rounds + 1):
        for name, (streams, threads) in ways.items():
            torch.set_num_threads(threads)
            speed = speeds(streams, args.steps)
            if turn:  # the first round warms up
                found[name].append(speed)
    clock, processor = ({name: [pair[i] for pair in pairs] for name, pairs in found.items()} for i in (0, 1))
    macs = sum(rows * inner * columns for rows, inner, columns in product_sizes(network, CONFIG.batch))
    vectors = args.clips * (args.frames - CONFIG.frames + 1)
    total = CONFIG.epochs * -(-int(vectors * (1 - CONFIG.validation)) // CONFIG.batch)
    return {
        "mmacs_per_step": round(macs / 1e6, 1),
        "steps_of_a_training": total,
        "by_the_clock": _compare(clock, total, macs),
        "by_processor_time": _compare(processor, total, macs),
        "over_peer": {
            name: round(statistics.median(clock[name]) / (total / PEER_MINUTES / 60), 1)
            for name in ("products, every core", "ours, every core")
        },
    }


def _compare(found: dict[str, list[float]], total: int, macs: int) -> dict:
    places = ("one core", "every core")
    return {
        **{name: _row(values, total, macs) for name, values in found.items()},
        "share_of_products": {place: _ratio(found[f"ours, {place}"], found[f"products, {place}"]) for place in places},
        "times_plain": {place: _ratio(found[f"ours, {place}"], found["plain"]) for place in places},
    }


def _row(found: list[float], total: int, macs: int) -> dict:
    speed = statistics.median(found)
    return {
        "steps_per_second": round(speed, 1),
        "least_most": [round(min(found), 1), round(max(found), 1)],
        "gmacs_per_second": round(speed * macs / 1e9, 1),
        "minutes_of_a_training": round(total / speed / 60, 1),
    }


def _ratio(first: list[float], second: list[float]) -> dict:
    """Of neighbours in the same round."""
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return {"median": round(statistics.median(ratios), 2), "least_most": [round(min(ratios), 2), round(max(ratios), 2)]}


def train_once(clips: int, frames: int) -> dict:
    """One epoch at full size, with both scores' statistics: what a process of its own is started for."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    recordings = [generator.normal(-40, 5, (frames, BANDS)).astype(np.float32) for _ in range(clips)]
    domains = ["target" if number < 10 else "source" for number in range(clips)]
    begin = time.perf_counter()
    Autoencoder(AutoencoderSettings(epochs=1)).fit(recordings, domains=domains)
    return {"seconds_of_an_epoch": round(time.perf_counter() - begin, 1), "peak_memory_mb": peak_memory_mb()}


class OfficialClips(torch.utils.data.Dataset):
    """Vectors as the official program's data set gives them, in float64: data, label, condition, name, number."""

    def __init__(self, recordings: list[np.ndarray], domains: list[str]):
        stacks = [np.lib.stride_tricks.sliding_window_view(x, CONFIG.frames, axis=0) for x in recordings]
        self.vectors = np.concatenate([x.transpose(0, 2, 1).reshape(len(x), -1) for x in stacks]).astype(np.float64)
        self.names = [f"{domain}.wav" for domain, x in zip(domains, stacks, strict=True) for _ in x]

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, number: int) -> tuple[np.ndarray, float, np.ndarray, str, int]:
        return self.vectors[number], 0.0, np.ones(1), self.names[number], number


def official_epoch(folder: Path, recordings: list[np.ndarray], domains: list[str], work: Path) -> Callable[[], None]:
    """One epoch of the official program's training, with its validation, its files and what it prints."""
    sys.path.insert(0, str(folder))
    from networks.dcase2023t2_ae.dcase2023t2_ae import DCASE2023T2AE
    from networks.dcase2023t2_ae.network import AENet

    clips = OfficialClips(recordings, domains)
    order = np.random.default_rng(0).permutation(len(clips)).tolist()
    held_out = int(CONFIG.validation * len(clips))
    model = DCASE2023T2AE.__new__(DCASE2023T2AE)  # whose constructor would look for the challenge's folders
    for name, part in (("valid_loader", order[:held_out]), ("train_loader", order[held_out:])):
        subset = torch.utils.data.Subset(clips, part)
        loader = torch.utils.data.DataLoader(subset, batch_size=CONFIG.batch, shuffle=name == "train_loader")
        setattr(model, name, loader)
    model.args = argparse.Namespace(epochs=CONFIG.epochs, log_interval=100)
    model.device, model.epoch, model.block_size, model.column_heading_list = torch.device("cpu"), 0, BANDS, [["loss"]]
    model.model = AENet(input_dim=CONFIG.frames * BANDS, block_size=BANDS)
    model.optimizer = torch.optim.Adam([{"params": model.model.parameters()}], lr=CONFIG.learning_rate)
    for name in ("log_path", "model_path", "checkpoint_path", "mse_score_distr_file_path"):
        setattr(model, name, work / name)

    def one() -> None:
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            model.train(1)

    return one


def against_official(folder: Path, clips: int, frames: int, rounds: int) -> dict:
    """Seconds of an epoch of both, by the clock and by processor time, and their ratios."""
    generator = np.random.default_rng(0)
    recordings = [generator.normal(-40, 5, (frames, BANDS)).astype(np.float32) for _ in range(clips)]
    domains = ["target" if number < 10 else "source" for number in range(clips)]
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as work:
        official = official_epoch(folder, recordings, domains, Path(work))

        def ours() -> None:
            with dense.one_thread():
                Autoencoder(AutoencoderSettings(epochs=1)).fit(recordings)

        ways = {
            "ours": (ours, usual_threads()),
            "official": (official, usual_threads()),
            "official, one thread": (official, 1),
        }
        for turn in range(rounds + 1):
            for name, (epoch, threads) in ways.items():
                torch.set_num_threads(threads)
                clock, processor = time.perf_counter(), time.process_time()
                epoch()
                if turn:  # the first round warms up
                    spent = time.perf_counter() - clock, time.process_time() - processor
                    found.setdefault(name, []).append(spent)
                torch.autograd.set_detect_anomaly(False)
    result: dict = {}
    for place, kind in enumerate(("clock", "processor")):
        times = {name: [pair[place] for pair in pairs] for name, pairs in found.items()}
        result[kind] = {
            **{name: {"median": round(statistics.median(own), 3), "all": own} for name, own in times.items()},
            "over_ours": {name: _ratio(own, times["ours"]) for name, own in times.items() if name != "ours"},
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=313, help="of a clip; 313 are 10 s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of each way in a round")
    parser.add_argument("--official", type=Path, metavar="DIR", help="copy of the official program")
    parser.add_argument("--train-once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.train_once:
        print(json.dumps(train_once(args.clips, args.frames)))
        return
    if args.official:
        result = against_official(args.official, args.clips, args.frames, args.rounds)
        print(json.dumps(result, indent=1))
        if args.json:
            args.json.write_text(json.dumps({**result, **run_record()}, indent=1))
        return
    command = [sys.executable, __file__, "--train-once", "--clips", str(args.clips), "--frames", str(args.frames)]
    once = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    result = {**measure(args), **json.loads(once.stdout)}
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps({**result, **run_record()}, indent=1))


if __name__ == "__main__":
    main()
