"""A small network to train, and training runs in separate processes that can be killed."""

import contextlib
import csv
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from system.bin import main
from system.config import LoopConfig
from system.training.loop import fit

CONFIG = LoopConfig(
    steps=24, batch_size=8, learning_rate=0.02, warmup_steps=2, save_every=1, log_every=1, clip_norm=0.5
)
# Imports modules once that every process would otherwise import.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["system.training.loop", "system.adaptation", "torch._dynamo", "tensorboard.summary.writer.record_writer"]
)


class Student(nn.Module):
    """A network that predicts a slow copy of itself, with noise from the batch and from the step."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))
        self.slow = nn.Linear(6, 4).requires_grad_(False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def extra_state(self):
        return ["slow.weight", "slow.bias"]

    def forward(self, batch):
        error = self.net(batch["x"] + batch["noise"] + 0.1 * torch.randn(6)) - self.slow(batch["x"])
        return {"loss": error.square().mean() * batch.get("scale", 1.0), "spread": error.detach().mean()}

    def after_step(self, step: int) -> dict[str, float]:
        with torch.no_grad():
            self.slow.bias.lerp_(self.net[-1].bias, 0.1)
        return {"slow": float(self.slow.bias.sum()), **({"probe": step / 2} if step % 5 == 3 else {})}


def make_batch(step: int, part: int, parts: int) -> dict:
    """Each clip has its own seed, so it does not depend on the part of the batch."""
    size = CONFIG.batch_size // parts
    clips = [torch.Generator().manual_seed(100 * step + clip) for clip in range(part * size, (part + 1) * size)]
    return {name: torch.stack([torch.randn(6, generator=clip) for clip in clips]) for name in ("x", "noise")}


def train(folder, config: LoopConfig = CONFIG, watch=None, poison: int | None = None) -> None:
    """Trains a student; ``poison``: the step at which the loss is NaN in one process."""

    def batch(step: int, part: int, parts: int) -> dict:
        return make_batch(step, part, parts) | ({"scale": torch.nan} if (step, part) == (poison, parts - 1) else {})

    module = Student()
    fit(module, batch, config, folder, 3, after_step=module.after_step, watch=watch)


def train_and_die(folder, config: LoopConfig, index: int, step: int) -> None:
    """Trains a student; the process with this index kills itself at this step."""

    def watch(now: int, values: dict) -> None:
        if (index, step) == (int(os.environ.get("RANK", "0")), now):
            os.kill(os.getpid(), signal.SIGKILL)

    train(folder, config, watch)


def in_processes(count: int, target, *args, seconds: float = 120.0) -> list[tuple[int, str]]:
    """Runs ``target(*args)`` in ``count`` connected processes; returns exit statuses and errors."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun has
    pipes = [SERVER.Pipe(duplex=False) for _ in range(count)]
    running = [
        SERVER.Process(target=_one, args=(index, count, store.port, pipes[index][1], target, args))
        for index in range(count)
    ]
    for process in running:
        process.start()
    for _, sender in pipes:
        sender.close()
    for process in running:
        process.join(seconds)
        if process.is_alive():
            process.kill()
    return [(p.exitcode, _received(receiver)) for p, (receiver, _) in zip(running, pipes, strict=True)]


def _one(index: int, count: int, port: int, sender, target, args) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if count > 1:
        names = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ.update({name: str(value) for name, value in names.items()})
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
        os.environ.update({"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"})
    try:
        target(*args)
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")
        os._exit(1)
    sender.send("")


def run_command(arguments: list[str], folder: Path) -> None:
    """A command line in a process of ``in_processes``; its output goes to ``<folder>/<number>.{out,err}``."""
    place = folder / os.environ["RANK"]
    with (
        open(place.with_suffix(".out"), "w") as out,
        open(place.with_suffix(".err"), "w") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        sys.exit(main(arguments))


def _received(receiver) -> str:
    try:
        return receiver.recv()
    except EOFError:
        return ""


def curve(folder: Path) -> list[dict[str, str]]:
    """The rows of curve.csv without times."""
    with open(folder / "curve.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "clips_per_second")} for row in csv.DictReader(file)
        ]
