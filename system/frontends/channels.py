"""What a branch hears of a recording: one or two of the near channel, the far channel and the residual."""

import os
from collections.abc import Sequence

import numpy as np

from system.config import CHANNELS, SubtractionConfig
from system.errors import WheeltapperError
from system.frontends.farfield import subtract_far


def hear(
    wave: np.ndarray, rate: int, inputs: Sequence[str], subtraction: SubtractionConfig, path: str | os.PathLike
) -> np.ndarray:
    """The inputs of a branch.

    A mono recording is near, far and residual in one: a system for two microphones hears with one as if it had only
    ever known one.

    Args:
        wave: float32 (1 or more channels, samples), near first, then far. rate: Hz.
        inputs: of ``near``, ``far``, ``residual``. subtraction: how the residual is made.
        path: of the recording, for messages.

    Returns:
        float32 (inputs, samples).

    Raises WheeltapperError for an unknown input, or where the clip is too short to subtract in.
    """
    try:
        return np.concatenate([_channel(wave, rate, name, subtraction) for name in inputs])
    except WheeltapperError as error:
        raise WheeltapperError(f"{path}: {error}") from error


def _channel(wave: np.ndarray, rate: int, name: str, config: SubtractionConfig) -> np.ndarray:
    if name not in CHANNELS:
        raise WheeltapperError(f"inputs: expected some of {', '.join(CHANNELS)}, found {name!r}")
    if name == "near" or len(wave) == 1:
        return wave[:1]
    if name == "far":
        return wave[1:2]
    return subtract_far(
        wave[:2],
        config.method,
        config.n_fft,
        config.hop or None,
        config.taps,
        round(config.stretch * rate),
        config.balance,
        config.coherence,
    )
