"""Linear layers in 8-bit integers, for inference on a CPU."""

import torch
from torch import Tensor, nn

from system.encoders.linear import Linear, inner_layers

LARGEST = 127.0  # of the integers; -128 is not used, so that the range is symmetric
TINY = 1e-12  # least step, for rows of zeros


class Int8Linear(nn.Module):
    """A linear layer whose weights are integers times a step for each output.

    Inputs are rounded to integers times a step for each token, which follows from its largest value.
    """

    weight: Tensor
    step: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Linear):
        super().__init__()
        weight = layer.weight.detach()
        step = weight.abs().amax(1).div_(LARGEST).clamp_min_(TINY)
        self.register_buffer("weight", (weight / step[:, None]).round_().to(torch.int8).T.contiguous())
        self.register_buffer("step", step)
        self.register_buffer("bias", layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        rows = x.flatten(0, -2)
        step = rows.abs().amax(-1, keepdim=True).div_(LARGEST).clamp_min_(TINY)
        sums = torch._int_mm((rows / step).round_().to(torch.int8), self.weight)
        return torch.addcmul(self.bias, sums * self.step, step).unflatten(0, x.shape[:-1])


def quantize(encoder: nn.Module) -> nn.Module:
    """Replaces the layers ``Linear`` in the blocks of an encoder in single precision by ``Int8Linear``, in place."""
    for parent, name, layer in inner_layers(encoder):
        if type(layer) is Linear:
            setattr(parent, name, Int8Linear(layer))
    return encoder
