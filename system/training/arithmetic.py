"""Arithmetic of training: float32, TF32 products, or mixed precision, as the device has it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from system.accelerator import is_cuda
from system.config import LoopConfig
from system.errors import WheeltapperError
from system.training.state import STATE, saved_setting

ON_A_GPU = ("tf32", "fp16")


def settle(config: LoopConfig, device: str, folder: str | os.PathLike) -> LoopConfig:
    """Settings with the arithmetic that ``precision: auto`` stands for.

    It is bf16 on a CUDA device that has it, TF32 on any other, and float32 elsewhere: on a CPU bf16 takes 0.6 to 0.8 of
    the time, but only where the processor has instructions for it, and a run should not depend on the processor. A
    training that was begun keeps to the arithmetic of its saved state, whatever device it goes on with, because two of
    them in one training would be neither.

    Args:
        config: optimisation settings.
        device: cpu, cuda or mps.
        folder: of the training, which may hold a state.

    Raises:
        WheeltapperError: an arithmetic that the device does not have.
    """
    chosen: str = config.precision
    if chosen == "auto":
        chosen = saved_setting(Path(folder) / STATE, "loop.precision") or _best(device)
        if chosen in ON_A_GPU and not is_cuda(device):
            raise WheeltapperError(
                f"{Path(folder) / STATE}: expected a GPU to go on with a training in {chosen}, found device {device}; "
                "remove it to start the stage again"
            )
    if chosen in ON_A_GPU and not is_cuda(device):
        raise WheeltapperError(f"loop.precision: {chosen} needs a GPU, found device {device}; expected no or bf16")
    return replace(config, precision=cast(Any, chosen))


def _best(device: str) -> str:
    if not is_cuda(device):
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "tf32"
