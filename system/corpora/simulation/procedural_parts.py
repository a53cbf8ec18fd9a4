"""Parts of the procedural sources: envelopes, pitch tracks, times of strikes, spectral colours and resonant bodies.

Continuous parameters are log-uniform over wide ranges. Slowly varying quantities are computed at CONTROL values per
second and interpolated linearly to samples.
"""

from functools import lru_cache

import numpy as np
from scipy import fft, signal

from system.corpora.simulation.acoustics import coloured_noise, fractional_impulses, smooth_response
from system.corpora.simulation.machines import harmonics, spread

CONTROL = 1000  # Hz
PERIOD = 16384  # points of a tabulated period
GRID = 2049  # bins of a random gain, evenly spaced from 0 to half the sampling rate
ENVELOPES = ("steady", "swelling", "gated", "chopped", "flutter", "bursts", "single")
PATTERNS = ("regular", "poisson", "pairs", "clusters", "bouncing", "single")
# Frequencies of modes relative to the lowest: free bar, church bell (Fletcher and Rossing 1998), round membrane.
LAWS = {
    "string": np.arange(1.0, 25.0),
    "bar": (2 * np.arange(1, 11) + 1.0) ** 2 / 9.0,
    "bell": np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.67, 3.0, 4.0, 5.3, 6.7, 8.2]) * 2,
    "drum": np.array([1.0, 1.59, 2.14, 2.30, 2.65, 2.92, 3.16, 3.50, 3.60, 4.06, 4.15, 4.60]),
}


def log_uniform(rng: np.random.Generator, low: float, high: float, size: int | None = None):
    """Log-uniform numbers in [low, high]; ``low`` if ``high`` is below."""
    drawn = low * np.exp(rng.uniform(0, np.log(max(high / low, 1.0)), size))
    return float(drawn) if size is None else drawn  # a NumPy float64 would convert float32 waveforms to float64


def unit(wave: np.ndarray) -> np.ndarray:
    """Normalises a waveform to unit power, with blocks of 512 samples weighted by power so that silence is ignored."""
    frames = np.add.reduceat(np.square(wave, dtype=np.float64), np.arange(0, len(wave), 512)) / 512
    total = frames.sum()
    return wave * np.float32(np.sqrt(total / np.square(frames).sum())) if total > 1e-15 else wave


@lru_cache(maxsize=64)
def _places(points: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    place = np.linspace(0, points - 1, samples)
    index = np.minimum(place.astype(np.int32), points - 2)
    return index, (place - index).astype(np.float32)


def draw_out(values: np.ndarray, samples: int) -> np.ndarray:
    """Interpolates (points,) linearly to float32 (samples,); first and last values are kept."""
    values = np.asarray(values, dtype=np.float32)
    index, fraction = _places(len(values), samples)
    return values[index] + fraction * np.diff(values)[index]


def filtered(wave: np.ndarray, *gains: np.ndarray) -> list[np.ndarray]:
    """Filters a waveform (samples,) with each of the magnitude gains (GRID,), circularly."""
    spectrum = fft.rfft(wave.astype(np.float32, copy=False))
    return [fft.irfft(spectrum * draw_out(gain, len(spectrum)), len(wave)) for gain in gains]


def knots(rng: np.random.Generator, seconds: float, spacing: float, values=None) -> np.ndarray:
    """Control track through random values every ``spacing`` seconds; standard normal, or drawn by ``values(count)``."""
    count = max(2, int(np.ceil(seconds / spacing)) + 1)
    drawn = rng.standard_normal(count) if values is None else values(count)
    points = control_points(seconds)
    return np.interp(np.arange(points) / CONTROL / spacing, np.arange(count), drawn)


def control_points(seconds: float) -> int:
    return int(np.ceil(seconds * CONTROL)) + 1


def envelope(rng: np.random.Generator, seconds: float, kind: str = "") -> np.ndarray:
    """Random amplitude envelope at CONTROL values per second, non-negative; an empty ``kind`` is drawn at random."""
    kind = kind or rng.choice(ENVELOPES, p=(0.2, 0.2, 0.12, 0.18, 0.1, 0.12, 0.08))
    points = control_points(seconds)
    t = np.arange(points) / CONTROL
    if kind == "steady":
        return 10 ** (rng.uniform(0, 2) * knots(rng, seconds, 0.7) / 20)
    if kind == "swelling":
        depth = log_uniform(rng, 2, 12)
        return 10 ** (np.clip(depth * knots(rng, seconds, log_uniform(rng, 0.15, 2.5)), -40, 12) / 20)
    if kind == "gated":
        period = log_uniform(rng, 0.08, 3)
        turns = t / period + rng.uniform() + rng.uniform(0, 0.1) * knots(rng, seconds, period)
        levels = 10 ** (rng.uniform(0, 3) * rng.standard_normal(int(turns.max()) + 3) / 20)
        is_on = (turns % 1 < rng.uniform(0.15, 0.85)) * levels[np.floor(turns).astype(int) + 1]
        width = int(log_uniform(rng, 2, 120))
        return np.convolve(is_on, np.ones(width) / width, mode="same")[:points]
    if kind == "chopped":
        hertz = log_uniform(rng, 0.7, 130)
        wander = rng.uniform(0, 0.1) * knots(rng, seconds, 0.5)
        turns = np.cumsum(hertz * (1 + wander)) / CONTROL + rng.uniform()
        sharp = log_uniform(rng, 0.7, 20)
        return 1 - rng.uniform(0.3, 1) * (1 - (0.5 + 0.5 * np.cos(2 * np.pi * turns)) ** sharp)
    if kind == "flutter":
        shape = log_uniform(rng, 0.2, 3)
        return knots(rng, seconds, 1 / log_uniform(rng, 3, 150), lambda count: rng.gamma(shape, 1 / shape, count))
    starts = np.zeros(points)
    if kind == "bursts":
        count = 1 + rng.poisson(log_uniform(rng, 0.3, 6) * seconds)
        np.add.at(starts, rng.integers(0, points, count), rng.lognormal(0, 0.5, count))
    else:
        starts[int(points * rng.uniform(0, 0.7))] = 1.0
    attack, decay = log_uniform(rng, 0.001, 0.4), log_uniform(rng, 0.02, 1.2)
    hit = np.minimum(t / attack, 1) * np.exp(-np.maximum(t - attack, 0) / decay)
    return np.maximum(signal.fftconvolve(starts, hit)[:points], 0)


def track(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Random track of pitch or speed in octaves, at CONTROL values per second."""
    points = control_points(seconds)
    t = np.arange(points) / CONTROL
    kind = rng.choice(("steady", "wander", "vibrato", "glide", "ramp", "steps"), p=(0.3, 0.25, 0.12, 0.13, 0.12, 0.08))
    course = log_uniform(rng, 1e-4, 0.01) * knots(rng, seconds, 0.25)
    if kind == "wander":
        return course + log_uniform(rng, 0.005, 0.2) * knots(rng, seconds, log_uniform(rng, 0.1, 2))
    if kind == "vibrato":
        turns = log_uniform(rng, 0.3, 15) * t + rng.random()
        return course + log_uniform(rng, 0.003, 0.3) * np.sin(2 * np.pi * turns)
    if kind == "glide":
        return course + rng.uniform(0.1, 0.7) * knots(rng, seconds, log_uniform(rng, 0.3, 4))
    if kind == "ramp":  # run-up or coast-down towards a final speed
        return course + rng.uniform(-2, 1) * np.exp(-t / log_uniform(rng, 0.2, 4))
    if kind == "steps":
        turn = np.floor(t / log_uniform(rng, 0.1, 1.5)).astype(int)
        return course + rng.uniform(0.05, 0.6) * rng.standard_normal(turn.max() + 1)[turn]
    return course


def phase_of(rng: np.random.Generator, hertz: float, course: np.ndarray, samples: int, rate: int) -> np.ndarray:
    """Phase in radians, float64 (samples,), with frequency ``hertz`` * 2^course."""
    speed = draw_out(hertz * 2.0**course, samples)
    return rng.uniform(0, 2 * np.pi) + 2 * np.pi / rate * np.cumsum(speed, dtype=np.float64)


def stack(rng: np.random.Generator, phase: np.ndarray, hertz: float, rate: int, levels: np.ndarray) -> np.ndarray:
    """Harmonics of a phase with random deviations from the given levels.

    Harmonics above the band are omitted; ``hertz`` is the highest frequency of the fundamental.
    """
    count = min(len(levels), int(0.47 * rate / hertz))
    if count < 1:
        return np.zeros(len(phase), dtype=np.float32)
    # Table look-up of one period costs the same for any number of harmonics; with PERIOD points, the interpolation
    # error is below -80 dB.
    period = harmonics(np.linspace(0, 2 * np.pi, PERIOD + 1), spread(rng, levels[:count], rng.uniform(0, 8)))
    turns = phase * (0.5 / np.pi)
    place = (turns - np.floor(turns)) * PERIOD
    index = np.minimum(place.astype(np.int32), PERIOD - 1)
    return period[index] + (place - index).astype(np.float32) * np.diff(period)[index]


def moments(
    rng: np.random.Generator, seconds: float, per_second: float, pattern: str = ""
) -> tuple[np.ndarray, np.ndarray, str]:
    """Random strikes: times (K,) in seconds, strengths (K,), and the name of the pattern; at least one strike."""
    pattern = pattern or rng.choice(PATTERNS, p=(0.34, 0.22, 0.14, 0.16, 0.06, 0.08))
    period = 1 / per_second
    if pattern == "single":
        times = rng.uniform(0, 0.6, 1) * seconds
    elif pattern == "poisson":
        times = rng.uniform(0, seconds, 1 + rng.poisson(per_second * seconds))
    elif pattern == "bouncing":
        gaps = period * log_uniform(rng, 0.5, 2) * rng.uniform(0.75, 0.97) ** np.arange(60)
        times = rng.uniform(0, 0.5) * seconds + np.cumsum(np.maximum(gaps, 0.004))
    else:
        times = np.arange(rng.uniform(0, period), seconds, period)
        if pattern == "regular":
            times = times + period * log_uniform(rng, 3e-4, 0.06) * rng.standard_normal(len(times))
        elif pattern == "pairs":
            gap = period * np.append(0, np.cumsum(rng.uniform(0.06, 0.3, rng.integers(1, 4))))
            times = (times[:, None] + gap * (1 + 0.02 * rng.standard_normal((len(times), 1)))).ravel()
        else:
            starts = rng.uniform(0, seconds, max(1, len(times) // 4))
            gap = period * log_uniform(rng, 0.1, 0.7)
            sizes = rng.geometric(0.25, len(starts))
            times = np.concatenate([s + gap * np.arange(n) for s, n in zip(starts, sizes, strict=True)])
            times = times + 0.15 * gap * rng.standard_normal(len(times))
    times = times[(times >= 0) & (times < seconds)]
    if not len(times):
        times = np.array([0.3 * seconds])
    strengths: np.ndarray = rng.lognormal(0, log_uniform(rng, 0.02, 1.0), len(times))
    if pattern == "bouncing":
        strengths = rng.uniform(0.85, 0.98) ** np.arange(len(times))
    return times, strengths, str(pattern)


def colour(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Random magnitude gain (GRID,): tilt, low-pass, one band, or several narrow peaks."""
    f = np.maximum(np.linspace(0, rate / 2, GRID), 10.0)
    kind = rng.choice(("tilt", "knee", "band", "peaks"), p=(0.3, 0.25, 0.25, 0.2))
    if kind == "tilt":
        gain = (f / 1000) ** (-rng.uniform(-4, 9) / 6.02)
    elif kind == "knee":
        gain = (1 + (f / log_uniform(rng, 40, rate / 3)) ** 2) ** (-rng.uniform(1, 15) / 12.04)
    elif kind == "band":
        gain = bell(f, log_uniform(rng, 60, 0.45 * rate), log_uniform(rng, 0.1, 4)) + 10 ** (rng.uniform(-80, -20) / 20)
    else:
        gain = np.full(GRID, 10 ** (rng.uniform(-50, -15) / 20))
        for centre in log_uniform(rng, 60, 0.45 * rate, int(rng.integers(1, 9))):
            gain = gain + rng.uniform(0.1, 1) * bell(f, centre, log_uniform(rng, 0.02, 0.6))
    gain = gain * (f / (f + log_uniform(rng, 10, 80))) ** 2
    return gain * smooth_response(rng, rng.uniform(0, 6), GRID, rate)


def bell(f: np.ndarray, centre: float, octaves: float) -> np.ndarray:
    """Bell-shaped gain around ``centre`` Hz with a width in octaves, on a log frequency axis."""
    return np.exp(-0.5 * (np.log2(f / centre) / (octaves / 2)) ** 2)


def noise(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """Gaussian noise with a random spectrum and unit power, float32 (samples,)."""
    return coloured_noise(rng, samples, colour(rng, rate))[0]


def impulses(rng: np.random.Generator, times: np.ndarray, gains: np.ndarray, samples: int, rate: int) -> np.ndarray:
    """Band-limited impulses at times in seconds, float32 (samples,)."""
    loud = gains > 1e-3 * gains.max(initial=0.0)
    return fractional_impulses(times[loud] * rate, gains[loud], samples)


def body(
    rng: np.random.Generator,
    rate: int,
    modes: tuple[int, int],
    hertz: tuple[float, float],
    decay: tuple[float, float],
) -> np.ndarray:
    """Random resonant body: rows of (frequency in Hz, decay time to 1/e in seconds, gain), all within the band.

    Args:
        rng: random generator.
        rate: sampling rate in Hz.
        modes: limits of the number of modes.
        hertz: limits of the frequency of the lowest mode.
        decay: limits of the decay time of the lowest mode.
    """
    count = int(rng.integers(modes[0], modes[1] + 1))
    lowest = log_uniform(rng, hertz[0], min(hertz[1], 0.4 * rate))
    law = rng.choice((*LAWS, "loose"))
    if law == "loose":
        ratios = np.append(1.0, log_uniform(rng, 1, 16, count))
    else:
        ratios = LAWS[law] ** rng.uniform(0.85, 1.15)
        ratios = ratios * 2 ** (rng.uniform(0, 0.03) * rng.standard_normal(len(ratios)))
    ratios = np.sort(ratios)[:count]
    frequencies = lowest * ratios / ratios[0]
    seconds = log_uniform(rng, *decay) * (ratios / ratios[0]) ** -rng.uniform(0, 1.2)
    gains = (ratios / ratios[0]) ** -rng.uniform(-0.3, 1.2) * 10 ** (rng.normal(0, 5, len(ratios)) / 20)
    keep = frequencies < 0.47 * rate
    return np.stack([frequencies, seconds * rng.uniform(0.6, 1.4, len(ratios)), gains], axis=1)[keep]


def resonate(excitation: np.ndarray, modes: np.ndarray, rate: int) -> np.ndarray:
    """Filters an excitation (samples,) with parallel damped modes, as returned by ``body``.

    Each mode is a two-pole resonator; its impulse response has about unit energy times the gain.
    """
    wave = np.zeros(len(excitation))
    excitation = excitation.astype(np.float64)
    for hertz, seconds, gain in modes:
        radius, angle = np.exp(-1 / (seconds * rate)), 2 * np.pi * hertz / rate
        scale = gain * np.sqrt(4 * max(1 - radius, 1e-9))
        wave += signal.lfilter([0, scale * np.sin(angle)], [1, -2 * radius * np.cos(angle), radius**2], excitation)
    return wave.astype(np.float32)
