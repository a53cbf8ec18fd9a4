"""Building modules without weights on the meta device, before a checkpoint is loaded into them.

Initialisation is skipped: on the meta device it goes through torch's compiler, which takes seconds to import.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def building_shapes() -> Iterator[None]:
    """Context in which modules are built with parameters and buffers that have shapes but no memory."""
    with torch.device("meta"), _Unfilled():
        yield


def shapes_alone() -> bool:
    """Whether modules are being built by ``building_shapes``; buffers then only need the right shape."""
    return torch.empty(0).is_meta


class _Unfilled(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "normal_":  # torch's own or nn.init's
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
