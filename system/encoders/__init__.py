"""Encoders by family."""

import os

from system.config import EncoderConfig
from system.encoders import fisher
from system.errors import WheeltapperError

FAMILIES = {"fisher": fisher}


def load_encoder(config: EncoderConfig | None, seed: int, path: str | os.PathLike | None = None):
    """An encoder from a checkpoint, or untrained where the configuration names none.

    Args:
        config: family, size and checkpoint; None for FISHER.
        seed: of untrained weights.
        path: checkpoint that goes before the configuration's.
    """
    family = config.family if config else "fisher"
    if family not in FAMILIES:
        raise WheeltapperError(f"encoder family: expected one of {', '.join(FAMILIES)}, found {family!r}")
    path = path or (config.checkpoint if config else "")
    if path:
        return FAMILIES[family].load(path)
    return FAMILIES[family].build(config.size, seed)
