"""The one training loop: a function of a module, batches and settings, on one process or several.

Every step draws its batch, masks and noise from (seed, step) alone, so that a run that was cut off goes on from its
last checkpoint exactly as if nothing had happened, and so that several processes, each with its part of the batch, do
together what one would do alone.
"""

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, send_to_device
from torch import Tensor, nn

from system import processes
from system.config import LoopConfig
from system.config.training import LOOP_FREE
from system.errors import WheeltapperError
from system.training.state import STATE, Events, Position, Row, StateFile, left, step_seed

Batch = dict[str, Any]
Value = TypeVar("Value")


def fit(
    module: nn.Module,
    make_batch: Callable[[int, int, int], Batch],
    config: LoopConfig,
    folder: str | os.PathLike,
    seed: int,
    device: str = "cpu",
    after_step: Callable[[int], Row] | None = None,
    progress: Callable[[int, Row], None] | None = None,
    watch: Callable[[int, Row], None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Trains a module, resuming from ``folder`` where an earlier run left a state.

    Under torchrun all processes call this alike; the folder must be one that all of them see.

    Args:
        module: ``module(batch)`` returns a dict of scalar tensors with ``loss`` among them, a mean over the clips. Only
            what requires gradients and the tensors that ``module.extra_state()``, if there is one, names are written to
            the state. ``module.learning_rate_factor(name)``, if there is one, is what a parameter's learning rate is
            multiplied by. In several processes: weights that are the same at the start, and each used in every loss.
        make_batch: (step, part, parts) to that part of the step's batch of ``config.batch_size`` clips: of ``parts``
            equal slices the one numbered ``part``. Runs ahead of the steps in ``config.workers`` threads at a time.
        config: optimisation settings. folder: for state, curve.csv and TensorBoard events.
        seed: of everything random in the steps. Torch's generator starts the same in every part of a step's batch.
        after_step: called in every process after each update with the step number, to the same effect; returns more
            figures to log, not the same ones each time if need be. May raise to stop.
        progress: called in the main process at the end of each step with its figures.
        watch: called in every process with the same figures before a state is written. May raise to stop.
        settings: plain values; a state that was written with others is refused, as one of another ``config`` is.

    Returns:
        The rows of curve.csv: step, figures (mean over the parts of the batch), learning_rate, gradient_norm (before
        it is clipped), seconds (since the very start), clips_per_second (since the row before).

    Raises WheeltapperError as soon as the loss or its gradient is not finite, in all processes, the last good state
    stays; LostPeer where another process is gone.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(config, device)
    parts = accelerator.num_processes * config.accumulate
    if config.batch_size % parts:
        raise WheeltapperError(
            f"loop.batch_size: expected a multiple of {accelerator.num_processes} processes x accumulate "
            f"{config.accumulate}, found {config.batch_size}"
        )
    groups = parameter_groups(module, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.betas[0], config.betas[1]))
    state = StateFile(folder, module, optimizer, accelerator.scaler, _settings(config, seed, settings))
    here = state.read()
    own = range(accelerator.process_index * config.accumulate, (accelerator.process_index + 1) * config.accumulate)
    keys = ((step, part, parts) for step in range(here.step, config.steps) for part in own)
    with (
        processes.lost_peer(lambda: _gone(state.path)),
        torch.random.fork_rng(devices=[]),
        contextlib.closing(prepared(make_batch, keys, config.workers)) as batches,
    ):
        _check_same_start(here, folder)
        if accelerator.is_main_process:
            state.clean()
        log = _Log(folder, here, config)
        update = _Update(accelerator, module, optimizer, config, folder)
        for step in range(here.step, config.steps):
            values, norm = update(batches, step, step_seed(seed, step))
            more = after_step(step) if after_step else {}
            if watch:
                watch(step, values | more)
            here.step = step + 1
            here.pending |= more
            last = here.step == config.steps
            if step % config.log_every == 0 or last:
                log.add(step, values, norm, accelerator.is_main_process)
            if accelerator.is_main_process and (here.step % config.save_every == 0 or last):
                state.write(here)
            if progress and accelerator.is_main_process:
                progress(step, values | more)
    module.eval()
    return here.rows


def prepared(make_batch: Callable[..., Value], keys: Iterable[tuple], workers: int) -> Generator[Value]:
    """``make_batch(*key)`` of every key in order, up to ``workers + 1`` of them ahead, in ``workers`` threads.

    What ``make_batch`` raises is raised when that batch's turn comes.
    """
    keys = iter(keys)
    threads = ThreadPoolExecutor(workers)
    try:
        waiting = deque(threads.submit(make_batch, *key) for key in islice(keys, workers + 1))
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(threads.submit(make_batch, *key) for key in islice(keys, 1))
            yield batch
    finally:
        threads.shutdown(cancel_futures=True)


class _Update:
    """One update of the weights from this process's parts of a batch."""

    def __init__(self, accelerator: Accelerator, module: nn.Module, optimizer, config: LoopConfig, folder: Path):
        self.accelerator, self.config, self.folder = accelerator, config, folder
        self.module, self.optimizer = accelerator.prepare(module, optimizer)
        self.module.train()

    def __call__(self, batches: Iterator[Batch], step: int, seed: int) -> tuple[Row, float]:
        """Figures, as means over the parts of all processes, and the norm of the gradient."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = group.get("factor", 1.0) * learning_rate(config, step)
        sums: list[Tensor] = []
        for number in range(config.accumulate):
            batch = send_to_device(next(batches), accelerator.device)
            torch.manual_seed(seed)
            last = number + 1 == config.accumulate
            with contextlib.nullcontext() if last else accelerator.no_sync(self.module):
                with accelerator.autocast():
                    figures = self.module(batch)
                accelerator.backward(figures["loss"])
            found = [figure.detach().double() for figure in figures.values()]
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        norm = accelerator.clip_grad_norm_(self.module.parameters(), config.clip_norm)
        # One exchange and one wait for the device a step, without which a process could not know that it has to stop.
        means = torch.stack([*(total / config.accumulate for total in sums), norm.double()])
        *values, norm = accelerator.reduce(means, "mean").tolist()
        values = dict(zip(figures, values, strict=True))
        self._check_finite("loss", values["loss"], step)
        if config.precision != "fp16":  # its scaler skips such steps by itself
            self._check_finite("gradient", norm, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return values, norm

    def _check_finite(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise WheeltapperError(
                f"{self.folder}: step {step}: expected a finite {name}, found {value}; a lower learning_rate than "
                f"{self.config.learning_rate} may help (the last good state stays in {STATE})"
            )


class _Log:
    """Turns figures into rows of the curve and TensorBoard's events."""

    def __init__(self, folder: Path, position: Position, config: LoopConfig):
        self.position, self.config = position, config
        self.events = Events(folder / "tensorboard", position.step)
        self.begin = self.latest = time.monotonic()
        self.before = position.rows[-1]["seconds"] if position.rows else 0.0
        self.steps = position.step

    def add(self, step: int, values: Row, norm: float, write: bool) -> None:
        """Adds a row of a step's figures and the pending ones; ``write``: to the events too."""
        now, done = time.monotonic(), step + 1 - self.steps
        row = {
            "step": step,
            **values,
            **self.position.pending,
            "learning_rate": learning_rate(self.config, step),
            "gradient_norm": norm,
            "seconds": round(self.before + now - self.begin, 2),
            "clips_per_second": round(done * self.config.batch_size / max(now - self.latest, 1e-9), 2),
        }
        self.position.rows.append(row)
        self.position.pending = {}
        self.latest, self.steps = now, step + 1
        if write:
            self.events.write(row)


def _accelerator(config: LoopConfig, device: str) -> Accelerator:
    if config.precision == "fp16" and device == "cpu":
        raise WheeltapperError("loop.precision: fp16 needs a GPU, found device cpu; expected no or bf16")
    processes.join(device)
    AcceleratorState._reset_state(True)  # else the first precision of a process would be its only one
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulate,
        # Buffers are the same everywhere, being functions of what is; DDP would send them again in each step.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
    )


def _settings(config: LoopConfig, seed: int, more: Mapping[str, Any] | None) -> dict[str, Any]:
    own = {name: value for name, value in asdict(config).items() if name not in LOOP_FREE}
    return {"seed": seed, "loop": own, **(more or {})}


def _check_same_start(here: Position, folder: Path) -> None:
    steps = processes.gather(here.step)
    if len(set(steps)) > 1:
        raise WheeltapperError(
            f"{folder}: expected one state for all processes, found states of {sorted(set(steps))} steps; it must be "
            "a folder that all machines share"
        )


def _gone(state: Path) -> str:
    return f"another process of this run is gone; {left(state)}"


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    low = config.final_learning_rate
    return low + 0.5 * (config.learning_rate - low) * (1.0 + math.cos(math.pi * min(share, 1.0)))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices with weight decay; biases, norms and tokens without. Two for each
    ``factor`` of the learning rate, where ``module.learning_rate_factor(name)`` gives several."""
    factor_of = getattr(module, "learning_rate_factor", lambda name: 1.0)
    groups: dict[float, list[dict[str, Any]]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = factor_of(name)
        pair = groups.setdefault(
            factor, [{"params": [], "weight_decay": decay, "factor": factor} for decay in (weight_decay, 0.0)]
        )
        pair[0 if parameter.ndim > 1 and "token" not in name else 1]["params"].append(parameter)
    return [group for pair in groups.values() for group in pair]
