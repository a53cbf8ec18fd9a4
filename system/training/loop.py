"""The training loop of all networks: a function of a module, batches and settings, on one process or several.

Batches, masks and noise of a step depend on (seed, step) only. An interrupted run therefore continues exactly as if it
had not been interrupted, and several processes, each with a part of the batch, compute the same as one to rounding.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, send_to_device
from torch import Tensor, nn

from system import processes
from system.accelerator import can_pin, pinned, products
from system.config import LoopConfig
from system.errors import WheeltapperError
from system.memory_errors import is_out_of_memory
from system.stage import LOOP_FREE
from system.training.arithmetic import settle
from system.training.checkpointing import Checkpointing, room
from system.training.loading import loader_threads, prepared
from system.training.state import STATE, Events, Position, Row, StateFile, left, step_seed
from system.training.streams import Streams

Batch = dict[str, Any]


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
    key: str = "loop",
    streams: int = 1,
) -> list[Row]:
    """Trains a module. Resumes from the state in ``folder`` if there is one.

    Under torchrun every process makes the same call; ``folder`` must be on a disk that all of them share.

    Args:
        module: ``module(batch)`` returns scalar tensors by name; ``loss`` is the mean over the clips. The state stores
            parameters that require gradients and the tensors named by the optional method ``extra_state()``. The
            optional method ``learning_rate_factor(name)`` scales a parameter's learning rate. With several processes
            the initial weights must be equal, and every weight must contribute to every loss, unless the optional
            property ``partly_used`` says that some do not. The optional method
            ``before_step(batches, seed)`` gets this process's parts of a batch before their gradients are computed.
        make_batch: function (step, part, parts) that returns slice ``part`` of ``parts`` equal slices of the step's
            batch of ``config.batch_size`` clips. It is called ahead of time in threads (``loader_threads``).
        config: optimisation settings; for ``precision`` auto see ``arithmetic.settle``, for ``checkpointing``
            ``checkpointing.Checkpointing``.
        folder: receives state, ``curve.csv`` and TensorBoard events.
        seed: of all random numbers. Torch's generator is in the same state for every part of a batch.
        device: cpu or cuda.
        after_step: called in every process after each update with the number of the step; must have the same effect in
            all. Returns additional figures to log, not necessarily the same each time. May raise to stop.
        progress: called in the main process at the end of each step with its number and figures.
        watch: called in every process with the same arguments before a state is written. May raise to stop.
        settings: plain values; a state that was written with other values, or another ``config``, is refused.
        key: where ``config`` stands in the configuration, for messages.
        streams: parts that are computed at once (see ``training.streams``), in a single process on a cpu; the module
            must draw its random numbers from ``streams.generator()``.

    Returns:
        The rows of ``curve.csv``: step, figures (means over the parts of the batch), learning_rate, gradient_norm
        (before clipping), seconds (since the first start), clips_per_second (since the previous row).

    Raises:
        WheeltapperError: the loss or its gradient is not finite (in all processes), or memory is used up (the last good
            state is kept), or the state in ``folder`` does not fit.
        LostPeer: another process has ended.

    Example:
        >>> rows = fit(task, make_batch, LoopConfig(steps=100, batch_size=16), "exp/run/adapt/main", seed=0)
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = settle(config, device, folder)
    number = config.accumulate * streams  # parts of a batch that this process computes
    accelerator = _accelerator(config, device, number, getattr(module, "partly_used", False))
    parts = accelerator.num_processes * number
    if config.batch_size % parts:
        raise WheeltapperError(
            f"{key}.batch_size: expected a multiple of {accelerator.num_processes} processes x accumulate "
            f"{number}, found {config.batch_size}"
        )
    optimizer = torch.optim.AdamW(
        parameter_groups(module, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.betas[0], config.betas[1]),
        fused=True,  # one pass over all weights: on a CPU too, where it takes a fifth of the time for small ones
    )
    state = StateFile(folder, module, optimizer, accelerator.scaler, _settings(config, seed, settings))
    here = state.read()
    own = range(accelerator.process_index * number, (accelerator.process_index + 1) * number)
    keys = ((step, part, parts) for step in range(here.step, config.steps) for part in own)

    def ready(*key: int) -> Batch:
        batch = make_batch(*key)
        return pinned(batch) if can_pin(device) else batch

    with (
        processes.lost_peer(lambda: _gone(state.path)),
        _memory(config, parts, device, key, state.path),
        products(config.precision == "tf32", device),
        torch.random.fork_rng(devices=[]),
        contextlib.closing(prepared(ready, keys, loader_threads(config.workers, device))) as batches,
        _Update(accelerator, module, optimizer, config, folder, streams) as update,
    ):
        _check_same_start(here, folder)
        if accelerator.is_main_process:
            state.clean()
        log = _Log(folder, here, config)
        blocks, first = Checkpointing(module, config.checkpointing, room(module, accelerator.device)), here.step
        for step in range(here.step, config.steps):
            at_once = config.checkpointing == "off" or (step > first and blocks.hold(streams))
            with contextlib.nullcontext() if at_once and streams > 1 else blocks.active():
                values, norm = update(batches, step, step_seed(seed, step), at_once)
            if step == first and accelerator.is_main_process and (note := blocks.note(key)):
                print(note, flush=True)
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


class _Update:
    """One update of the weights with this process's parts of a batch."""

    def __init__(
        self, accelerator: Accelerator, module: nn.Module, optimizer, config: LoopConfig, folder: Path, streams: int
    ):
        self.accelerator, self.config, self.folder = accelerator, config, folder
        self.before_step = getattr(module, "before_step", None)
        self.wide = torch.float32 if accelerator.device.type == "mps" else torch.float64  # mps has no doubles
        self.module, self.optimizer = accelerator.prepare(module, optimizer)
        self.module.train()
        self.streams = Streams(self.module, streams) if streams > 1 else None
        self.parts = config.accumulate * streams

    def __enter__(self) -> "_Update":
        if self.streams:
            self.streams.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.streams:
            self.streams.__exit__(*error)

    def __call__(self, batches: Iterator[Batch], step: int, seed: int, at_once: bool) -> tuple[Row, float]:
        """Returns the figures, averaged over the parts of all processes, and the norm of the gradient."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = group.get("factor", 1.0) * learning_rate(config, step)
        sums: list[Tensor] = []
        own: Iterable[Batch] = (
            send_to_device(batch, accelerator.device, non_blocking=True) for batch in islice(batches, self.parts)
        )
        if self.before_step:
            own = list(own)
            with accelerator.autocast():
                self.before_step(own, seed)
        each = self.streams(own, seed, self.parts) if self.streams and at_once else self._one_by_one(own, seed)
        for figures in each:
            found = [figure.detach().to(self.wide) for figure in figures.values()]
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        norm = accelerator.clip_grad_norm_(self.module.parameters(), config.clip_norm)
        # One exchange between processes and one synchronisation with the device per step, so that all stop together.
        means = torch.stack([*(total / self.parts for total in sums), norm.to(self.wide)])
        *values, norm = accelerator.reduce(means, "mean").tolist()
        values = dict(zip(figures, values, strict=True))
        self._check_finite("loss", values["loss"], step)
        if config.precision != "fp16":  # the loss scaler of fp16 skips such steps
            self._check_finite("gradient", norm, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return values, norm

    def _one_by_one(self, batches: Iterable[Batch], seed: int) -> Iterator[dict[str, Tensor]]:
        """Adds the gradients of a step's parts to the weights, one after another; yields the figures of each."""
        for number, batch in enumerate(batches):
            torch.manual_seed(seed)
            last = number + 1 == self.parts
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.module):
                with self.accelerator.autocast():
                    figures = self.module(batch)
                self.accelerator.backward(figures["loss"])
            yield figures

    def _check_finite(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise WheeltapperError(
                f"{self.folder}: step {step}: expected a finite {name}, found {value}; a lower learning_rate than "
                f"{self.config.learning_rate} may help (the last good state is kept in {STATE})"
            )


class _Log:
    """Writes figures to the rows of the curve and to TensorBoard events."""

    def __init__(self, folder: Path, position: Position, config: LoopConfig):
        self.position, self.config = position, config
        self.events = Events(folder / "tensorboard", position.step)
        self.begin = self.latest = time.monotonic()
        self.before = position.rows[-1]["seconds"] if position.rows else 0.0
        self.steps = position.step

    def add(self, step: int, values: Row, norm: float, write: bool) -> None:
        """Adds a row with a step's figures and the pending ones; ``write``: also to the events."""
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


def _accelerator(config: LoopConfig, device: str, parts: int, partly_used: bool) -> Accelerator:
    processes.join(device)
    AcceleratorState._reset_state(True)  # otherwise the first precision used in a process would stay in force
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="no" if config.precision == "tf32" else config.precision,
        gradient_accumulation_steps=parts,
        # Buffers are equal in all processes already; DDP would broadcast them in each step.
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=partly_used
            )
        ],
    )


def _settings(config: LoopConfig, seed: int, more: Mapping[str, Any] | None) -> dict[str, Any]:
    own = {name: value for name, value in asdict(config).items() if name not in LOOP_FREE}
    return {"seed": seed, "loop": own, **(more or {})}


def _check_same_start(here: Position, folder: Path) -> None:
    steps = processes.gather(here.step)
    if len(set(steps)) > 1:
        raise WheeltapperError(
            f"{folder}: expected one state for all processes, found states of {sorted(set(steps))} steps; use a "
            "folder that all machines share"
        )


@contextlib.contextmanager
def _memory(config: LoopConfig, parts: int, device: str, key: str, state: Path) -> Iterator[None]:
    """Turns errors of memory into one that says which settings to change, those first that leave the result as it is.

    Args:
        config: settings of the training.
        parts: of a batch.
        device: whose memory it is.
        key: where the settings stand in the configuration.
        state: file of the last saved state.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        advice = []
        if config.batch_size > parts and key.endswith("loop"):
            advice.append(f"raise {key}.accumulate, which is {config.accumulate}, as the result stays the same")
        if config.checkpointing == "off" and key.endswith("loop"):
            advice.append(f"set {key}.checkpointing, which is off, to auto")
        if config.batch_size > 1:
            advice.append(f"lower {key}.batch_size, which is {config.batch_size}")
        advice.append("use a device with more memory")
        raise WheeltapperError(
            f"out of memory on {device} in training: {', or '.join(advice[:2])}; {left(state)}"
        ) from error


def _gone(state: Path) -> str:
    return f"another process of this run has ended; {left(state)}"


def learning_rate(config: LoopConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    low = config.final_learning_rate
    return low + 0.5 * (config.learning_rate - low) * (1.0 + math.cos(math.pi * min(share, 1.0)))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: matrices with weight decay; biases, norms and tokens without.

    There are two groups for each value of ``module.learning_rate_factor(name)``.
    """
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
