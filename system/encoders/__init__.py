"""Registry of encoder families. torch is imported only when an encoder is requested."""

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
    """Encoder class of a family.

    Args:
        name: key of ``FAMILIES``, such as ``fisher``.

    Raises:
        WheeltapperError: unknown family.
    """
    if name not in FAMILIES:
        raise WheeltapperError(f"encoder family: expected one of {', '.join(FAMILIES)}, found {name!r}")
    found = FAMILIES[name]
    if isinstance(found, type):
        return found
    module, kind = found
    return getattr(importlib.import_module(f"system.encoders.{module}"), kind)


def load_encoder(config: EncoderConfig, seed: int, path: str | os.PathLike | None = None) -> "Encoder":
    """Loads an encoder from a checkpoint, or builds an untrained one if no checkpoint is named.

    Args:
        config: family, size, checkpoint, noise-aware layers and front end.
        seed: seed of the random weights of an untrained encoder.
        path: checkpoint to use instead of ``config.checkpoint``.

    Returns:
        The encoder in evaluation mode.

    Raises:
        WheeltapperError: unknown family or front end, or a checkpoint that cannot be loaded.

    Example:
        >>> path = cards.find_checkpoint("default", "checkpoints")
        >>> encoder = load_encoder(EncoderConfig("fisher", "nano", "default"), seed=0, path=path)
        >>> embeddings = encoder.embed(waves, rate=16000)  # (B, samples) -> (B, D)
    """
    kind = family_class(config.family)
    path = path or config.checkpoint
    settings = {"num_heads": config.heads} if config.heads else {}
    encoder = kind.load(path, settings) if path else kind.build(config.size, seed)
    if config.noise_aware:
        from system.encoders import noise_aware

        noise_aware.load(encoder, config.noise_aware)
    return encoder.set_front_end(config.filterbank, config.simam)
