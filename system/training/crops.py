"""Random crops of recordings for training. A crop depends only on the random generator that it is given."""

import math

import numpy as np

from system import audio
from system.manifest import Clip


def read_crop(clip: Clip, seconds: float, rate: int, generator: np.random.Generator) -> np.ndarray:
    """Reads a random crop of a recording and resamples it.

    Recordings shorter than the crop are repeated, because a running machine continues and silence would be an event.

    Args:
        clip: recording, or a window of one.
        seconds: length of the crop.
        rate: sampling rate of the result in Hz.
        generator: source of the position.

    Returns:
        float32 (1 or 2, round(seconds * rate)): near and, if there is one, far channel.
    """
    wanted = round(seconds * rate)
    wave, _ = audio.read(clip.path, *draw_crop(clip, seconds, generator))
    return fit_length(audio.resample(clip.select(wave), clip.rate, rate), wanted)


def draw_crop(clip: Clip, seconds: float, generator: np.random.Generator) -> tuple[int, int]:
    """Draws what ``read_crop`` does: first sample and number of samples of a crop of a recording or window."""
    start, count = place_crop(clip.held, clip.rate, seconds, generator)
    return clip.start + start, count


def place_crop(samples: int, rate: int, seconds: float, generator: np.random.Generator) -> tuple[int, int]:
    """First sample and number of samples of a random crop of ``seconds``; all of a shorter recording.

    If possible the crop has one sample more than ``seconds``, because resampling rounds lengths.
    """
    count = min(samples, math.ceil(seconds * rate) + 1)
    return int(generator.integers(0, samples - count + 1)), count


def fit_length(wave, samples: int):
    """Cuts an array or tensor (channels, any length above 0) to (channels, samples), or repeats it from its start."""
    if wave.shape[-1] < samples:
        repeats = -(-samples // wave.shape[-1])
        wave = np.tile(wave, (1, repeats)) if isinstance(wave, np.ndarray) else wave.repeat(1, repeats)
    return wave[:, :samples]
