"""Waveforms of clips as models take them: the near and the far channel of a window, at one sampling rate."""

import numpy as np

from system import audio
from system.manifest import Clip
from system.training.crops import fit_length


def read(clip: Clip) -> tuple[np.ndarray, int]:
    """Reads the near and, if there is one, the far channel of a clip, or of its window; a shorter one is repeated.

    Returns:
        Waveform, float32 (1 or 2, samples), and its sampling rate in Hz.

    Raises:
        WheeltapperError: the recording cannot be read, see ``audio.read``, or lacks a channel.
    """
    if not clip.window:
        wave, rate = audio.read(clip.path)
        return clip.select(wave), rate
    wave, rate = audio.read(clip.path, clip.start, clip.held)
    return fit_length(clip.select(wave), clip.window), rate


def load(clip: Clip, rate: int) -> np.ndarray:
    """``read``, resampled to ``rate`` Hz: float32 (1 or 2, samples)."""
    wave, native = read(clip)
    return audio.resample(wave, native, rate)
