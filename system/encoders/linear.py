"""Linear layers that are faster at inference on a CPU: oneDNN adds bias and GELU while it multiplies."""

from collections.abc import Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The operation that torch's compiler puts in for a linear layer with what follows it; takes plain weights too.
_fused = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


class Linear(nn.Linear):
    """``nn.Linear``, faster at inference on a CPU. With weights in bf16 it takes inputs of any type."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        x = _rounded(x, self.weight)
        return _linear(x, self.weight, self.bias) if _is_fast(x, self.weight) else super().forward(x)


def linear_gelu(layer: nn.Module, x: Tensor) -> Tensor:
    """``gelu(layer(x))`` with the exact GELU; one pass over the outputs less if ``layer`` is a ``Linear``."""
    if type(layer) is Linear and _is_fast(x := _rounded(x, layer.weight), layer.weight):
        return _linear(x, layer.weight, layer.bias, "gelu", "none")
    return F.gelu(layer(x))


def inner_layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Parent, name and layer of the linear layers within blocks.

    A network's own ones, such as a patch embedding, are left out: they read the spectrogram, whose digits count.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if parent is not network and isinstance(child, nn.Linear):
                yield parent, name, child


def _rounded(x: Tensor, weight: Tensor) -> Tensor:
    return x.to(torch.bfloat16) if weight.dtype == torch.bfloat16 else x


def _linear(x: Tensor, weight: Tensor, bias: Tensor, activation: str = "none", algorithm: str = "") -> Tensor:
    return _fused(x.contiguous(), weight, bias, activation, [], algorithm)  # type: ignore[misc]  # _is_fast knows it


def _is_fast(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN computes a product: without gradients, on the CPU, in a data type that it has instructions for."""
    return (
        not torch.is_grad_enabled()
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dim() > 1
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and _supports(x.dtype)
    )


@cache
def _supports(dtype: torch.dtype) -> bool:
    if _fused is None or not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
