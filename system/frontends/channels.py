"""Selection of a branch's input channels: near, far, or the residual after subtracting the far channel."""

import os
from collections.abc import Sequence

import numpy as np

from system.config import CHANNELS, SubtractionConfig
from system.errors import WheeltapperError
from system.frontends.farfield import subtract_far


def select_inputs(
    wave: np.ndarray, rate: int, inputs: Sequence[str], subtraction: SubtractionConfig, path: str | os.PathLike
) -> np.ndarray:
    """Selects the input channels of a branch from a recording.

    The single channel of a mono recording is used as near, far and residual, so that systems for two microphones also
    run on one.

    Args:
        wave: float32 (channels, samples); channel 0 is near, channel 1 is far.
        rate: sampling rate in Hz.
        inputs: names among ``near``, ``far`` and ``residual``.
        subtraction: settings of the far-channel subtraction.
        path: recording, for messages.

    Returns:
        Float32 (inputs, samples).

    Raises:
        WheeltapperError: unknown input, or a recording too short for the subtraction.
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
