"""Fingerprints of recordings, by which copies are searched for without reading them again: levels and phases.

Shifting a sound turns the products of the phases of neighbouring frequencies all alike, so the magnitude of their
correlation tells whether recordings have phases in common, wherever they begin. They are taken in the pass that
measures the health of a recording, block by block.
"""

import itertools
import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np

from system import audio

SECONDS = 2.0  # in the middle of a recording, that are compared
HOP = 0.032  # s, from frame to frame
FRAMES, BAND, BANDS = 61, 500, 16  # of the middle: number in SECONDS, each 2 hops long; Hz, number
FLOOR = 1e-6  # of the mean power in a band of the middle: less is silence
COURSE_FRAME, COURSE_BAND, COURSE_BANDS = 4, 1000, 8  # of the whole: hops of a frame; Hz, number
COURSE_FLOOR = 1e-9  # power of a band in a frame of the whole below which there is silence
PHASES, APART = 2048, 4  # products of phases; frequencies from one factor to the other, beyond the window's reach
SILENCE = 1e-6  # of the largest magnitude of a spectrum: less is silence
BLOCK = 30.0  # seconds whose levels are taken at a time
KEPT = 1 << 28  # bytes of fingerprints in memory; more are in a temporary file


@dataclass(frozen=True)
class Fingerprint:
    """Courses of levels in dB, and phases.

    Attributes:
        middle: float32 (FRAMES, BANDS) of the middle of the recording, without the mean of each band.
        products: float16 (PHASES, 2), real and imaginary part of the products of its phases.
        course: float32 (frames, COURSE_BANDS) of the whole recording.
    """

    middle: np.ndarray
    products: np.ndarray
    course: np.ndarray


class Fingerprints:
    """Fingerprints by the paths of recordings; many are kept in a temporary file, so that memory stays bounded."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(KEPT)  # noqa: SIM115, it lives as long as this object
        self._places: dict[str, tuple[int, int]] = {}
        self._lock = Lock()

    def add(self, path: str, fingerprint: Fingerprint) -> None:
        """Keeps the fingerprint of a recording."""
        with self._lock:
            place = self._file.seek(0, os.SEEK_END)
            for values in (fingerprint.middle, fingerprint.products, fingerprint.course):
                self._file.write(values.tobytes())
            self._places[path] = (place, self._file.tell() - place)

    def get(self, path: str) -> Fingerprint:
        """The fingerprint of a recording, which is read where none was kept; raises WheeltapperError if it cannot."""
        if path not in self._places:
            return measure(path)
        with self._lock:
            place, size = self._places[path]
            self._file.seek(place)
            content = self._file.read(size)
        first = 4 * FRAMES * BANDS
        second = first + 4 * PHASES
        return Fingerprint(
            np.frombuffer(content[:first], np.float32).reshape(FRAMES, BANDS),
            np.frombuffer(content[first:second], np.float16).reshape(PHASES, 2),
            np.frombuffer(content[second:], np.float32).reshape(-1, COURSE_BANDS),
        )


def measure(path: str | os.PathLike) -> Fingerprint:
    """Fingerprint of a sound file."""
    with audio.SoundReader(path) as sound:
        meter = FingerprintMeter(sound.info)
        size = max(1, round(BLOCK * sound.info.rate))
        for start in range(0, sound.info.samples, size):
            meter.add(sound.read(start, min(size, sound.info.samples - start)))
        return meter.result()


def middle(samples: int, rate: int) -> tuple[int, int]:
    """First sample of the middle of a recording, and number of its samples."""
    count = min(round(SECONDS * rate), samples)
    return (samples - count) // 2, count


def hop(rate: int) -> int:
    """Samples from frame to frame of ``Fingerprint.course``."""
    return max(1, round(HOP * rate))


def loudest(wave: np.ndarray) -> np.ndarray:
    """The channel (samples,) of a waveform (channels, samples) that varies most."""
    return wave[wave.std(axis=1).argmax()] if len(wave) > 1 else wave[0]


@lru_cache(maxsize=64)
def hanning(size: int, first: int = 0) -> np.ndarray:
    """Periodic Hann window, float32 (size,), or with ``first=1`` the symmetric one without the zeros at its ends."""
    window = np.hanning(size + 1 + first)[first : first + size].astype(np.float32)
    window.setflags(write=False)
    return window


class FingerprintMeter:
    """Takes the fingerprint of a recording that comes in blocks; its memory does not grow with their number."""

    def __init__(self, info: audio.AudioInfo) -> None:
        self.info, self.done = info, 0
        self.hop = hop(info.rate)
        self.block = self.hop * round(BLOCK / HOP)
        self.start = 0  # of the next block
        self.held = np.zeros((info.channels, 0), np.float32)  # what came since
        self.levels = [np.zeros((0, COURSE_BANDS), np.float32)]
        self.parts: list[np.ndarray] = []  # of the middle

    def add(self, wave: np.ndarray) -> None:
        """Takes in the next samples, float32 (channels, samples)."""
        first, count = middle(self.info.samples, self.info.rate)
        begin, end = max(first - self.done, 0), min(first + count - self.done, wave.shape[1])
        if begin < end:
            self.parts.append(wave[:, begin:end])
        self.done += wave.shape[1]
        self.held = np.concatenate([self.held, wave], axis=1) if self.held.size else wave
        frame = COURSE_FRAME * self.hop
        needed = self.block + frame - self.hop
        while self.held.shape[1] >= (frame if self.done == self.info.samples else needed):
            self.levels.append(_course(loudest(self.held[:, :needed]), self.hop, self.info.rate))
            self.start += self.block
            self.held = self.held[:, self.block :]

    def result(self) -> Fingerprint:
        """The fingerprint of what was taken in, which is the whole recording."""
        part = self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts, axis=1)
        spectrum = phases(part, round(SECONDS * self.info.rate))
        return Fingerprint(_middle(loudest(part), self.info.rate), _products(spectrum), np.concatenate(self.levels))


def phases(wave: np.ndarray, length: int) -> np.ndarray:
    """Spectrum with magnitudes of one of a waveform, in its loudest channel.

    Args:
        wave: float32 (channels, samples).
        length: of the transform, the samples with zeros after them.

    Returns:
        complex64 (length // 2 + 1,); zeros where the channel is silent.
    """
    wave = loudest(wave)
    import scipy.fft  # takes a tenth of a second, and files to be scored have no fingerprint

    spectrum = scipy.fft.rfft(wave * hanning(len(wave), 1), length)
    size = np.abs(spectrum)
    return np.divide(spectrum, size, out=np.zeros_like(spectrum), where=size > SILENCE * size.max())


def _products(spectrum: np.ndarray) -> np.ndarray:
    """Products as of ``Fingerprint.products``, evenly spaced over a spectrum of phases."""
    places = (np.arange(PHASES) * (max(1, len(spectrum) - APART) / PHASES)).astype(int)
    products = spectrum[np.minimum(places + APART, len(spectrum) - 1)] * np.conj(spectrum[places])
    return products.view(np.float32).reshape(PHASES, 2).astype(np.float16)


def _powers(wave: np.ndarray, size: int, step: int) -> np.ndarray:
    """Power spectra of frames, float32 (frames, size // 2 + 1)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::step]
    import scipy.fft

    spectrum = scipy.fft.rfft(frames * hanning(size))
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    return power


def _middle(wave: np.ndarray, rate: int) -> np.ndarray:
    """Levels of a waveform (samples,), as of ``Fingerprint.middle``."""
    step = max(1, int(HOP * rate))
    wave = np.pad(wave, (0, max(0, (FRAMES + 1) * step - len(wave))))[: (FRAMES + 1) * step]
    power = _powers(wave, 2 * step, step)[:, :-1]
    band = np.minimum(np.arange(power.shape[1]) / (2 * step) * rate // BAND, BANDS).astype(int)
    sums = _band_sums(power, band, BANDS)
    floor = FLOOR * np.maximum(sums.mean(axis=0), np.finfo(np.float32).tiny)
    levels = 10.0 * np.log10(np.maximum(sums, floor))
    levels -= levels.mean(axis=0)
    levels[:, band.max() + 1 :] = 0.0  # without any frequencies
    return levels


def _course(wave: np.ndarray, step: int, rate: int) -> np.ndarray:
    """Levels of a waveform (samples,), as of ``Fingerprint.course``."""
    size = COURSE_FRAME * step
    band = np.minimum(np.arange(size // 2) / size * rate // COURSE_BAND, COURSE_BANDS - 1).astype(int)
    sums = _band_sums(_powers(wave, size, step)[:, : size // 2] / size, band, COURSE_BANDS)
    return 10.0 * np.log10(np.maximum(sums, np.float32(COURSE_FLOOR)))


def _band_sums(power: np.ndarray, band: np.ndarray, bands: int) -> np.ndarray:
    """Sums over the frequencies of each band, float32 (frames, bands).

    Args:
        power: (frames, frequencies).
        band: number of the band of each frequency, which never falls; those from ``bands`` on are left out.
    """
    edges = np.searchsorted(band, np.arange(bands + 1))
    sums = np.zeros((len(power), bands), np.float32)
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        if start < stop:
            power[:, start:stop].sum(axis=1, out=sums[:, number])
    return sums
