"""Selection of a branch's input channels: near, far, or the residual after subtracting the far channel."""

import os
from collections.abc import Sequence
from dataclasses import astuple

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
    return Channels(wave, rate, path).select(inputs, subtraction)


class Channels:
    """Input channels of a recording, of which each is made once for all branches.

    Args:
        wave: float32 (channels, samples); channel 0 is near, channel 1 is far.
        rate: sampling rate in Hz.
        path: recording, for messages.
    """

    def __init__(self, wave: np.ndarray, rate: int, path: str | os.PathLike):
        self.wave, self.rate, self.path = wave, rate, path
        self._made: dict[tuple, np.ndarray] = {}

    @property
    def far(self) -> np.ndarray | None:
        """Samples (samples,) of the far microphone; None of a mono recording."""
        return self.wave[1] if len(self.wave) > 1 else None

    def ways(self, inputs: Sequence[str], subtraction: SubtractionConfig) -> tuple[tuple, ...]:
        """How each input is made: equal for inputs with equal samples, whatever else their branches are set to."""
        return tuple(self._way(name, subtraction) for name in inputs)

    def select(self, inputs: Sequence[str], subtraction: SubtractionConfig) -> np.ndarray:
        """Float32 (inputs, samples); see ``select_inputs``."""
        try:
            for name, way in zip(inputs, self.ways(inputs, subtraction), strict=True):
                if way not in self._made:
                    self._made[way] = _channel(self.wave, self.rate, name, subtraction)
        except WheeltapperError as error:
            raise WheeltapperError(f"{self.path}: {error}") from error
        return np.concatenate([self._made[way] for way in self.ways(inputs, subtraction)])

    def _way(self, name: str, subtraction: SubtractionConfig) -> tuple:
        if name in CHANNELS and len(self.wave) == 1:
            return ("near",)
        return (name, *astuple(subtraction)) if name == "residual" else (name,)


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
