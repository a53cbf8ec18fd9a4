"""Networks as shapes alone, on the meta device, until a file is known to have their weights.

Arithmetic on that device goes through torch's compiler, seconds of imports for numbers that nobody reads: it is left
out.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def building_shapes() -> Iterator[None]:
    """Modules made within the block have parameters and buffers without numbers and without memory."""
    with torch.device("meta"), _Unfilled():
        yield


def shapes_alone() -> bool:
    """Whether modules are being built as shapes: what they compute for their buffers need only have its shape."""
    return torch.empty(0).is_meta


class _Unfilled(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "normal_":  # torch's own or nn.init's
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
