"""The one training loop: a function of a module, batches and settings.

Every step draws its batch, masks and noise from (seed, step) alone, so that a run that was cut off goes on from its
last checkpoint exactly as if nothing had happened.
"""

import csv
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from system.config import LoopConfig
from system.encoders import checkpoints
from system.errors import WheeltapperError
from system.stage import open_atomic

STATE = "state.pt"
CURVE = "curve.csv"

Batch = dict[str, Any]


def fit(
    module: nn.Module,
    make_batch: Callable[[int], Batch],
    config: LoopConfig,
    folder: str | os.PathLike,
    seed: int,
    device: str = "cpu",
    after_step: Callable[[int], dict[str, float]] | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Trains a module, resuming from ``folder`` where an earlier run left a state.

    Args:
        module: ``module(batch)`` returns a dict of scalar tensors with ``loss`` among them. Only what requires
            gradients and the tensors that ``module.extra_state()``, if there is one, names are written to the state.
        make_batch: step number to batch; runs one step ahead in a thread of its own and must not share state.
        config: optimisation settings. folder: for state, curve.csv and TensorBoard events.
        seed: of everything random in the steps.
        after_step: called after each update with the step number; returns more figures to log, may raise to stop.
        progress: called after each step.

    Returns:
        The rows of curve.csv: step, the logged figures, learning_rate, seconds.

    Raises WheeltapperError as soon as the loss or its gradient is not finite; the last good state stays.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from torch.utils.tensorboard import SummaryWriter

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    AcceleratorState._reset_state(True)  # else the first precision of a process would be its only one
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=config.precision)
    optimizer = torch.optim.AdamW(
        parameter_groups(module, config.weight_decay), lr=config.learning_rate, betas=tuple(config.betas)
    )
    first, rows = _resume(folder / STATE, module, optimizer)
    wrapped, optimizer = accelerator.prepare(module, optimizer)
    wrapped.train()
    begin, before = time.monotonic(), rows[-1]["seconds"] if rows else 0.0
    with (
        torch.random.fork_rng(devices=[]),
        ThreadPoolExecutor(1) as reader,
        SummaryWriter(str(folder / "tensorboard"), purge_step=first) as board,
    ):
        ahead = reader.submit(make_batch, first) if first < config.steps else None
        for step in range(first, config.steps):
            batch = _to(ahead.result(), accelerator.device)
            ahead = reader.submit(make_batch, step + 1) if step + 1 < config.steps else None
            torch.manual_seed(step_seed(seed, step))
            rate = learning_rate(config, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with accelerator.autocast():
                figures = wrapped(batch)
            _check_finite("loss", figures["loss"], config, folder, step)
            accelerator.backward(figures["loss"])
            norm = accelerator.clip_grad_norm_(wrapped.parameters(), config.clip_norm)
            if config.precision != "fp16":  # its scaler skips such steps by itself
                _check_finite("gradient", norm, config, folder, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            values = {name: float(value.detach()) for name, value in figures.items()}
            values |= after_step(step) if after_step else {}
            last = step + 1 == config.steps
            if step % config.log_every == 0 or last:
                seconds = before + time.monotonic() - begin
                rows.append({"step": step, **values, "learning_rate": rate, "seconds": round(seconds, 2)})
                for name, value in rows[-1].items():
                    if name != "step":
                        board.add_scalar(name, value, step)
            if (step + 1) % config.save_every == 0 or last:
                _save(folder, module, optimizer, step + 1, rows)
            if progress:
                progress(step, values)
    module.eval()
    return rows


def _check_finite(name: str, value: Tensor, config: LoopConfig, folder: Path, step: int) -> None:
    if not torch.isfinite(value):
        raise WheeltapperError(
            f"{folder}: step {step}: expected a finite {name}, found {value.item()}; a lower learning_rate than "
            f"{config.learning_rate} may help (the last good state stays in {STATE})"
        )


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    low = config.final_learning_rate
    return low + 0.5 * (config.learning_rate - low) * (1.0 + math.cos(math.pi * min(share, 1.0)))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices with weight decay; biases, norms and tokens without."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if p.ndim > 1 and "token" not in name]
    plain = [p for name, p in named if not (p.ndim > 1 and "token" not in name)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def step_seed(seed: int, step: int) -> int:
    """One seed per (seed, step), spread over 63 bits so that neighbouring steps and runs share no stream."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) >> 1


def write_curve(path: str | os.PathLike, rows: list[dict[str, float]]) -> None:
    """Writes the logged figures as csv."""
    with open_atomic(path) as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["step"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def kept_names(module: nn.Module) -> list[str]:
    """Names of the tensors that a state must hold: the trainable ones and those of ``module.extra_state()``."""
    extra = module.extra_state() if hasattr(module, "extra_state") else []
    return [name for name, p in module.named_parameters() if p.requires_grad] + list(extra)


def _save(folder: Path, module: nn.Module, optimizer, step: int, rows: list[dict[str, float]]) -> None:
    tensors = module.state_dict()
    state = {
        "step": step,
        "module": {name: tensors[name] for name in kept_names(module)},
        "optimizer": optimizer.state_dict(),
        "rows": rows,
    }
    write_curve(folder / CURVE, rows)
    checkpoints.save_torch(folder / STATE, state)


def _resume(path: Path, module: nn.Module, optimizer) -> tuple[int, list[dict[str, float]]]:
    if not path.is_file():
        return 0, []
    state = checkpoints.load_file(path)
    try:
        own = module.state_dict()
        with torch.no_grad():
            for name in kept_names(module):
                own[name].copy_(state["module"][name])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"]), list(state["rows"])
    except (KeyError, IndexError, AttributeError, ValueError, RuntimeError, TypeError) as error:
        raise WheeltapperError(f"{path}: does not fit this run ({error}); remove it to start the stage anew") from error


def _to(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
