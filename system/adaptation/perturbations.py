"""Perturbed copies of normal recordings, which resemble faults: an added tone, a weakened band."""

import numpy as np

LOW_HZ, HIGH_SHARE = 200.0, 0.9  # frequency range: from Hz to a share of half the sampling rate
TONE_DB = -20.0  # level of the tone relative to the recording
BAND_DB, BAND_SHARE = -12.0, 0.15  # gain of the band, and its half width relative to its centre frequency
SWELLS_HZ = (1.0, 8.0)


def perturb(wave: np.ndarray, rate: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Makes one copy of a waveform for each kind of perturbation, at random frequencies.

    Args:
        wave: float32 (samples,).
        rate: sampling rate in Hz.
        generator: source of the frequencies.

    Returns:
        ``tone``: with a quiet tone of slowly varying amplitude; ``band``: with a band of the spectrum weakened. Both
        float32 (samples,).
    """
    samples = len(wave)
    time, frequencies = np.arange(samples) / rate, np.fft.rfftfreq(samples, 1.0 / rate)
    swell = 1.0 + np.sin(2.0 * np.pi * generator.uniform(*SWELLS_HZ) * time)
    tone = swell * np.sin(2.0 * np.pi * _frequency(rate, generator) * time)
    added = tone * (_level(wave) / _level(tone) * 10.0 ** (TONE_DB / 20.0))
    centre = _frequency(rate, generator)
    gain = np.where(np.abs(frequencies - centre) < BAND_SHARE * centre, 10.0 ** (BAND_DB / 20.0), 1.0)
    weakened = np.fft.irfft(np.fft.rfft(wave) * gain, samples)
    return {"tone": (wave + added).astype(np.float32), "band": weakened.astype(np.float32)}


def _frequency(rate: int, generator: np.random.Generator) -> float:
    """A frequency in Hz, uniform on a logarithmic scale."""
    return float(np.exp(generator.uniform(np.log(LOW_HZ), np.log(HIGH_SHARE * rate / 2.0))))


def _level(wave: np.ndarray) -> float:
    """Root mean square, above zero."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) or 1e-12
