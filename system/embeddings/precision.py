"""The arithmetic of an encoder that makes embeddings: chosen, set and read."""

from typing import TypeVar

import torch

from system.accelerator import is_cuda
from system.config import EMBED_PRECISIONS
from system.encoders.base import Encoder
from system.encoders.int8 import Int8Linear, quantize
from system.encoders.linear import Linear
from system.errors import WheeltapperError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}  # beside the integers of int8
SMALL = 4_000_000  # weights of a network below which bf16 saves too little for the digits that it costs

AnyEncoder = TypeVar("AnyEncoder", bound=Encoder)


def choose_precision(precision: str, device: str, encoder: Encoder) -> str:
    """The precision that a setting stands for.

    Args:
        precision: ``fp32``, ``bf16``, ``int8``, or ``auto``, which is bf16 if the device has instructions for it and
            the network has at least ``SMALL`` weights, otherwise fp32.
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
        if precision_of(encoder) != "int8" and not any(type(layer) is Linear for layer in encoder.modules()):
            raise WheeltapperError(f"precision: expected fp32, bf16 or auto with {encoder.family}, found int8")
    if precision != "auto":
        return precision
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    return "bf16" if weights >= SMALL and has_bf16(device) else "fp32"


def has_bf16(device: str) -> bool:
    """Whether a device has instructions for bf16, which is several times slower than fp32 without them."""
    if device == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return is_cuda(device) and torch.cuda.is_bf16_supported(including_emulation=False)


def set_precision(encoder: AnyEncoder, precision: str) -> AnyEncoder:
    """Converts an encoder to ``fp32``, ``bf16`` or ``int8``, in place. There is no way back from int8."""
    if precision == "int8" and precision_of(encoder) != "int8":
        quantize(encoder.float())
    return encoder.to(DTYPES[precision])


def precision_of(encoder: Encoder) -> str:
    """The precision in which an encoder computes."""
    if any(isinstance(layer, Int8Linear) for layer in encoder.modules()):
        return "int8"
    return "bf16" if encoder.dtype == torch.bfloat16 else "fp32"


def long_name(encoder: Encoder) -> str:
    """The precision of an encoder as records of embeddings name it: float32, bfloat16 or int8."""
    return "int8" if precision_of(encoder) == "int8" else str(encoder.dtype).removeprefix("torch.")
