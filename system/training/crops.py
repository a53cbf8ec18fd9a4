"""Random crops of recordings for training, each a function of its own random state."""

import math

import numpy as np

from system import audio
from system.manifest import Clip


def read_crop(clip: Clip, seconds: float, rate: int, generator: np.random.Generator) -> np.ndarray:
    """A random stretch of a recording, resampled.

    Recordings shorter than the crop are repeated: the sound of a running machine goes on, silence would be an event.

    Args:
        clip: recording. seconds: length wanted. rate: Hz of the result. generator: draws the place.

    Returns:
        float32 (channels, round(seconds * rate)).
    """
    wanted = round(seconds * rate)
    wave, _ = audio.read(clip.path, *place_crop(clip.samples, clip.rate, seconds, generator))
    return fit_length(audio.resample(wave, clip.rate, rate), wanted)


def place_crop(samples: int, rate: int, seconds: float, generator: np.random.Generator) -> tuple[int, int]:
    """First sample and number of samples of a random stretch of ``seconds``; the whole of a shorter recording.

    One sample more than ``seconds`` hold, where there is one, since resamplers round.
    """
    count = min(samples, math.ceil(seconds * rate) + 1)
    return int(generator.integers(0, samples - count + 1)), count


def fit_length(wave, samples: int):
    """Array or tensor (channels, any length above 0) to (channels, samples): cut, or repeated from its start."""
    if wave.shape[-1] < samples:
        repeats = -(-samples // wave.shape[-1])
        wave = np.tile(wave, (1, repeats)) if isinstance(wave, np.ndarray) else wave.repeat(1, repeats)
    return wave[:, :samples]
