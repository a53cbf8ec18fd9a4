"""What is particular to computing on a GPU: products in TF32, copies from pinned memory, networks without autocast."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def is_cuda(device: str) -> bool:
    """Whether a device such as ``cuda`` or ``cuda:1`` is a CUDA device."""
    return device.split(":")[0] == "cuda"


@contextlib.contextmanager
def products(tf32: bool, device: str) -> Iterator[None]:
    """Within, float32 products and convolutions of a CUDA device are computed in TF32, or in float32 throughout.

    Elsewhere torch would decide: by default TF32 in convolutions and float32 in products.
    """
    if not is_cuda(device):
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def can_pin(device: str) -> bool:
    """Whether memory can be pinned for copies to a device."""
    return is_cuda(device) and torch.cuda.is_initialized()


def pinned(values: Any) -> Any:
    """The same dicts, lists and tuples with their tensors in pinned memory, which a GPU copies while it computes."""
    if isinstance(values, Tensor):
        return values.pin_memory() if values.device.type == "cpu" else values
    if isinstance(values, dict):
        return {name: pinned(value) for name, value in values.items()}
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*map(pinned, values))
    return type(values)(map(pinned, values)) if isinstance(values, list | tuple) else values


def to_host(values: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors as float32 arrays, copied with one wait for a GPU, which meanwhile goes on with what came after them."""
    moved = {name: value.float().to("cpu", non_blocking=True) for name, value in values.items()}
    if any(value.is_cuda for value in values.values()) and torch.cuda.is_initialized():
        copied = torch.cuda.Event()
        copied.record()
        copied.synchronize()
    return {name: value.numpy() for name, value in moved.items()}


def without_autocast(method: Callable) -> Callable:
    """A method of a module whose products stay in the types of their tensors within autocast, on any device.

    Front ends and cosines need more than the eight bits of bf16.
    """

    @functools.wraps(method)
    def run(self: Any, first: Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return method(self, first, *args, **kwargs)

    return run
