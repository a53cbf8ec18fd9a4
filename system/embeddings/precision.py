"""The arithmetic of an encoder that makes embeddings: chosen, set and read."""

from typing import TypeVar

import torch
from torch import nn

from system.accelerator import is_cuda
from system.config import EMBED_PRECISIONS
from system.encoders.base import Encoder
from system.encoders.int8 import Int8Linear, quantize
from system.encoders.linear import Linear, inner_layers
from system.errors import WheeltapperError

LONG_NAMES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
SMALL = 192  # width of the tokens below which bf16 saves too little for the digits that it costs
FAITHFUL = ("FISHER", "BEATs")  # families whose official scores move by less than 0.1: bench_precision.py

AnyEncoder = TypeVar("AnyEncoder", bound=Encoder)


def choose_precision(precision: str, device: str, encoder: Encoder) -> str:
    """The precision that a setting stands for.

    Args:
        precision: ``fp32``, ``bf16``, ``int8``, or ``auto``, which is bf16 if the device has instructions for it, the
            family is one of ``FAITHFUL`` and the tokens have at least ``SMALL`` numbers, otherwise fp32.
        device: cpu, cuda or mps.
        encoder: that will compute.

    Returns:
        ``fp32``, ``bf16`` or ``int8``.

    Raises:
        WheeltapperError: unknown, or int8 on a GPU or with a network without linear layers.
    """
    if precision not in EMBED_PRECISIONS:
        raise WheeltapperError(f"precision: expected one of {', '.join(EMBED_PRECISIONS)}, found {precision!r}")
    if precision == "int8":
        if device != "cpu":
            raise WheeltapperError(
                f"precision: expected fp32, bf16 or auto on {device}, found int8, which is for CPUs; choose another "
                "precision or device cpu"
            )
        if precision_of(encoder) != "int8" and not any(type(layer) is Linear for *_, layer in inner_layers(encoder)):
            raise WheeltapperError(f"precision: expected fp32, bf16 or auto with {encoder.family}, found int8")
    if precision != "auto":
        return precision
    suits = encoder.family in FAITHFUL and encoder.dim >= SMALL
    return "bf16" if suits and has_bf16(device) else "fp32"


def device_of(precision: str, device: str) -> str:
    """The device on which an encoder computes in a precision: ``device``, and for int8, which is for CPUs, ``cpu``."""
    return "cpu" if precision == "int8" else device


def has_bf16(device: str) -> bool:
    """Whether a device has instructions for bf16, which is several times slower than fp32 without them."""
    if device == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return is_cuda(device) and torch.cuda.is_bf16_supported(including_emulation=False)


def set_precision(encoder: AnyEncoder, precision: str) -> AnyEncoder:
    """Lets an encoder compute in ``fp32``, ``bf16`` or ``int8``, in place. There is no way back.

    Of a transformer only the products within its blocks change: what the blocks add up and normalise stays in single
    precision, which leaves a thirteenth of the error (FISHER tiny) at the same speed. Networks without linear layers
    compute in bf16 throughout.
    """
    if precision == "int8" and precision_of(encoder) != "int8":
        quantize(encoder.float())
    elif precision == "fp32":
        encoder.float()
    elif precision == "bf16":
        layers: list[nn.Module] = [layer for *_, layer in inner_layers(encoder)]
        for layer in layers or [encoder]:
            layer.to(torch.bfloat16)
    return encoder


def precision_of(encoder: Encoder) -> str:
    """The precision in which an encoder computes."""
    if any(isinstance(layer, Int8Linear) for layer in encoder.modules()):
        return "int8"
    return "bf16" if any(weight.dtype == torch.bfloat16 for weight in encoder.parameters()) else "fp32"


def long_name(encoder: Encoder) -> str:
    """The precision of an encoder as records of embeddings name it: float32, bfloat16 or int8."""
    return LONG_NAMES[precision_of(encoder)]
