"""Encoders by family. Nothing here imports torch before an encoder is asked for."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from system.config import EncoderConfig
from system.config.families import FAMILIES
from system.errors import WheeltapperError

if TYPE_CHECKING:
    from system.encoders.base import Encoder


def __getattr__(name: str) -> Any:
    if name != "Encoder":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from system.encoders.base import Encoder

    return Encoder


def family_class(name: str) -> "type[Encoder]":
    """The class of a family; WheeltapperError for an unknown one."""
    if name not in FAMILIES:
        raise WheeltapperError(f"encoder family: expected one of {', '.join(FAMILIES)}, found {name!r}")
    found = FAMILIES[name]
    if isinstance(found, type):
        return found
    module, kind = found
    return getattr(importlib.import_module(f"system.encoders.{module}"), kind)


def load_encoder(config: EncoderConfig, seed: int, path: str | os.PathLike | None = None) -> "Encoder":
    """An encoder from a checkpoint, or untrained where neither argument names one.

    Args:
        config: family, size, checkpoint and front end.
        seed: of untrained weights.
        path: checkpoint that goes before the configuration's.
    """
    kind = family_class(config.family)
    path = path or config.checkpoint
    settings = {"num_heads": config.heads} if config.heads else {}
    encoder = kind.load(path, settings) if path else kind.build(config.size, seed)
    return encoder.set_front_end(config.filterbank, config.simam)
