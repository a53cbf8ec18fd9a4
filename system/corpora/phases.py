"""Phases of recordings, which copies of a sound have in common, and takes of a machine only at a few frequencies.

Generalised cross-correlation with phase transform (Knapp and Carter 1976).
"""

import os

import numpy as np
import scipy.fft

from system import audio

COHERENCE = 0.5  # of phases, from which clips are copies; takes of a machine that repeats itself exactly reach 0.4
PART = 4096  # frequencies that are compared first; between two shifts of so few, 0.64 of the coherence is left
FLOOR = 1e-6  # of the largest magnitude: less is silence


def phases(path: str | os.PathLike, start: int, samples: int, length: int) -> np.ndarray:
    """Spectrum with magnitudes of one of a part of a recording, in its loudest channel.

    Args:
        path: sound file.
        start: first sample.
        samples: that are read.
        length: of the transform, the samples with zeros after them.

    Returns:
        complex64 (length // 2 + 1,); zeros where the channel is silent.
    """
    wave = loudest(audio.read(path, start, samples)[0])
    spectrum = scipy.fft.rfft(wave * np.hanning(len(wave) + 2)[1:-1].astype(np.float32), length)
    size = np.abs(spectrum)
    return np.divide(spectrum, size, out=np.zeros_like(spectrum), where=size > FLOOR * size.max())


def loudest(wave: np.ndarray) -> np.ndarray:
    """The channel (samples,) of a waveform (channels, samples) that varies most."""
    return wave[wave.std(axis=1).argmax()]


def agree(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the ``coherence`` of two spectra of phases is that of copies; a part of the band rules out most pairs."""
    start = min(len(one), len(other)) // 8
    part = slice(start, start + PART)
    quick = np.abs(scipy.fft.ifft(one[part] * np.conj(other[part]))).max()
    return bool(quick >= COHERENCE / 2) and coherence(one, other) >= COHERENCE


def coherence(one: np.ndarray, other: np.ndarray) -> float:
    """Agreement of two spectra of phases, the magnitude of the mean of their products at the best shift, in [0, 1].

    Args:
        one: complex (frequencies,), magnitudes 1 or 0.
        other: the same of another recording; of another sampling rate where its length is another.
    """
    count = min(len(one), len(other))
    product = one[:count] * np.conj(other[:count])
    return float(np.abs(scipy.fft.irfft(product)).max()) * (count - 1) / count
