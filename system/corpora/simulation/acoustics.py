"""Room acoustics for simulated and emulated recordings: impulse responses, filters and levels.

Waveforms are float32 (samples,) or (channels, samples) at a sampling rate in Hz. A response is an impulse response
(taps,), or a magnitude over the bins of a real FFT.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, signal
from scipy.interpolate import CubicSpline

SPEED_OF_SOUND = 343.0  # m/s, air at 20 degrees Celsius
LOWEST = 20.0  # Hz, cut-off of the high-pass filter of room responses
SILENCE = 1e-5  # root mean square below which a recording (full scale 1) is silent: a third of a 16-bit step


def generator(seed: int, *names: object) -> np.random.Generator:
    """Random generator that depends on the seed and the names only, so that clips are independent of each other."""
    text = "|".join(str(name) for name in (seed, *names))
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little"))


def fractional_impulses(delays: np.ndarray, gains: np.ndarray, length: int, taps: int = 16) -> np.ndarray:
    """Sum of band-limited unit impulses at fractional delays (Hann-windowed sinc; Laakso et al. 1996).

    Args:
        delays: (K,) in samples; parts outside [0, length) are dropped.
        gains: (K,).
        length: length of the result in samples.
        taps: even number of taps per impulse.

    Returns:
        Float32 (length,).
    """
    delays = np.asarray(delays, dtype=np.float64)
    gains = np.broadcast_to(np.asarray(gains, dtype=np.float64), delays.shape)
    whole = np.floor(delays).astype(np.int64)
    offset = np.arange(1 - taps // 2, taps // 2 + 1)
    distance = offset - (delays - whole)[:, None]  # (K, taps), samples from the impulse
    kernel = np.sinc(distance) * (0.5 + 0.5 * np.cos(2 * np.pi * distance / (taps + 1)))
    index = whole[:, None] + offset
    inside = (index >= 0) & (index < length)
    values = (gains[:, None] * kernel)[inside]
    return np.bincount(index[inside], weights=values, minlength=length)[:length].astype(np.float32)


@lru_cache(maxsize=256)
def wall_reflection(room: tuple[float, float, float], rt60: float) -> float:
    """Pressure reflection coefficient of the walls of a shoebox room with a given reverberation time.

    Image sources in a direction u are reflected s(u) = sum_i |u_i| / L_i times per metre, so the energy decays as the
    mean of exp(-a s c t) over all directions, with a = -2 ln(reflection). Eyring's formula, which uses the mean of s,
    gives times up to 1.6 times too long, because directions along the longest side decay last. The time is measured on
    the backward integral between -5 and -25 dB (ISO 3382, T20).

    Args:
        room: sides in metres.
        rt60: reverberation time in seconds.
    """
    cosine, angle = np.meshgrid((np.arange(40) + 0.5) / 40, (np.arange(40) + 0.5) / 40 * np.pi / 2)
    sine = np.sqrt(1 - cosine**2)
    hits = (sine * np.cos(angle) / room[0] + sine * np.sin(angle) / room[1] + cosine / room[2]).ravel()
    depth = np.linspace(0, 12 / hits.min(), 2000)  # a c t, in metres
    decay = 10 * np.log10((np.exp(-depth[:, None] * hits) / hits).mean(axis=1) / (1 / hits).mean())
    early, late = np.interp((5.0, 25.0), -decay, depth)
    return float(np.exp(-0.5 * 3 * (late - early) / (SPEED_OF_SOUND * rt60)))


def image_source_response(
    room: np.ndarray,
    source: np.ndarray,
    microphone: np.ndarray,
    rt60: float,
    rate: int,
    rng: np.random.Generator,
    jitter: float = 0.05,
) -> np.ndarray:
    """Impulse response of a shoebox room by the image-source method (Allen and Berkley 1979).

    All walls have the same reflection coefficient, see ``wall_reflection``. All images but the direct path are
    displaced at random by a few centimetres, which avoids the sweeping echoes of a perfect box.

    Args:
        room: (3,) sides in metres.
        source: (3,) position in metres, inside the room.
        microphone: (3,) position in metres, inside the room.
        rt60: reverberation time in seconds; also the length of the response.
        rate: sampling rate in Hz.
        rng: generator of the displacements.
        jitter: standard deviation of the displacement along the line of sight, in metres.

    Returns:
        Float32 (ceil(rt60 * rate),); the direct path has the amplitude 1 / distance and its delay.
    """
    room = np.asarray(room, dtype=np.float64)
    reflection = wall_reflection(tuple(room), rt60)
    reach = SPEED_OF_SOUND * rt60
    squares, orders = [], []
    for size, place, ear in zip(room, np.asarray(source, float), np.asarray(microphone, float), strict=True):
        period = np.arange(-int(np.ceil(reach / (2 * size))), int(np.ceil(reach / (2 * size))) + 1)
        images = np.concatenate([place + 2 * period * size, -place + 2 * period * size])
        squares.append((images - ear) ** 2)
        orders.append(np.concatenate([2 * np.abs(period), np.abs(period - 1) + np.abs(period)]))
    square = squares[0][:, None, None] + squares[1][:, None] + squares[2]
    order = orders[0][:, None, None] + orders[1][:, None] + orders[2]
    near = square < reach**2
    distance, order = np.sqrt(square[near]), order[near]
    distance += np.where(order > 0, jitter * rng.standard_normal(len(distance)), 0.0)
    distance = np.maximum(distance, 0.05)
    length = int(np.ceil(rt60 * rate))
    response = fractional_impulses(distance * rate / SPEED_OF_SOUND, reflection**order / distance, length)
    # All images are positive and add up at 0 Hz, unlike in real rooms; Allen and Berkley use a high-pass filter too.
    return signal.sosfilt(signal.butter(2, LOWEST, "high", fs=rate, output="sos"), response).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Scene:
    """Impulse responses from a machine and noise sources to the near and the far microphone in a room.

    All responses are scaled by one factor, so that the path from the machine to the near microphone has unit energy.

    Args:
        machine: (2, taps), near microphone first.
        noises: (sources, 2, taps).
    """

    machine: np.ndarray
    noises: np.ndarray

    @property
    def taps(self) -> int:
        return self.machine.shape[-1]

    def render_machine(self, wave: np.ndarray) -> np.ndarray:
        """The machine at both microphones, float32 (2, samples), without edges; ``wave`` is (samples + taps - 1,)."""
        return self._convolve(wave[None], None, slice(0, 1))

    def render_noises(self, waves: np.ndarray, gains: np.ndarray | None = None) -> np.ndarray:
        """The sum of the noise sources at both microphones.

        Args:
            waves: (sources, samples + taps - 1).
            gains: (sources, bins) magnitude of a filter for each source, or None.

        Returns:
            Float32 (2, samples), without edges.
        """
        return self._convolve(waves, gains, slice(1, None))

    def _convolve(self, waves: np.ndarray, gains: np.ndarray | None, which: slice) -> np.ndarray:
        samples = waves.shape[-1]
        size = fft.next_fast_len(samples, real=True)
        total = np.zeros((2, size // 2 + 1), dtype=np.complex64)
        for k, paths in enumerate(_spectra(self, size)[which]):
            spectrum = fft.rfft(waves[k].astype(np.float32, copy=False), size)
            if gains is not None:
                spectrum *= _stretch(gains[k], len(spectrum))
            total += spectrum * paths
        # Circular convolution only affects the first taps - 1 samples, which are dropped.
        return fft.irfft(total, size)[:, self.taps - 1 : samples]


@lru_cache(maxsize=8)
def _spectra(scene: Scene, size: int) -> np.ndarray:
    """Transfer functions (1 + sources, 2, size // 2 + 1) of a scene, the machine first."""
    return fft.rfft(np.concatenate([scene.machine[None], scene.noises]).astype(np.float32), size)


def draw_scene(
    rng: np.random.Generator,
    rate: int,
    rt60: float,
    sources: int = 3,
    near_metres: tuple[float, float] = (0.25, 0.45),
    far_metres: tuple[float, float] = (2.0, 3.5),
) -> Scene:
    """Draws a hall with machine, microphones and noise sources, and computes the impulse responses.

    The hall measures 12-18 m by 9-13 m by 4.5-7 m. Noise sources are 1.5 to 4 m from the near and 0.8 to 4 m from the
    far microphone, so that both receive much direct sound. Attenuation and delay of the machine at the far microphone
    follow from the geometry.

    Args:
        rng: random generator.
        rate: sampling rate in Hz.
        rt60: reverberation time in seconds.
        sources: number of noise sources.
        near_metres: limits of the distance from the machine to the near microphone.
        far_metres: limits of the distance from the machine to the far microphone.
    """
    room = rng.uniform((12.0, 9.0, 4.5), (18.0, 13.0, 7.0))
    machine = room * rng.uniform((0.35, 0.35, 0.0), (0.65, 0.65, 0.0)) + (0.0, 0.0, rng.uniform(0.8, 1.5))
    near = _place(rng, room, [(machine, *near_metres)])
    far = _place(rng, room, [(machine, *far_metres)])
    noises = [_place(rng, room, [(near, 1.5, 4.0), (far, 0.8, 4.0)]) for _ in range(sources)]
    paths = [
        [image_source_response(room, place, ear, rt60, rate, rng) for ear in (near, far)]
        for place in (machine, *noises)
    ]
    responses = np.array(paths, dtype=np.float32)
    responses /= np.sqrt(np.square(responses[0, 0]).sum())
    return Scene(machine=responses[0], noises=responses[1:])


def _place(rng: np.random.Generator, room: np.ndarray, limits: list[tuple[np.ndarray, float, float]]) -> np.ndarray:
    """Draws a point at least 0.3 m from every wall, whose distances (metres) to the given points are within limits."""
    anchor, low, high = limits[0]
    for _ in range(10_000):
        direction = rng.standard_normal(3) * (1.0, 1.0, 0.4)
        point = anchor + direction / np.linalg.norm(direction) * rng.uniform(low, high)
        inside = np.all(point > 0.3) and np.all(point < room - 0.3)
        if inside and all(lo <= np.linalg.norm(point - other) <= hi for other, lo, hi in limits):
            return point
    raise ValueError(f"no place in a room of {room} m meets {limits}")


def smooth_response(rng: np.random.Generator, spread_db: float, bins: int, rate: int) -> np.ndarray:
    """Draws a random gain that is smooth over log frequency: one Gaussian knot per octave, with a cubic spline.

    Args:
        rng: random generator.
        spread_db: standard deviation in dB.
        bins: length of the result, evenly spaced from 0 to rate / 2.
        rate: sampling rate in Hz.

    Returns:
        Float32 (bins,) magnitude.
    """
    top = np.log2(rate / 2)
    knots = np.arange(top, np.log2(40.0), -1.0)[::-1]
    values = spread_db * rng.standard_normal(len(knots))
    # The spline is evaluated on a grid of 1/24 octave; linear interpolation in between is good enough and much cheaper.
    grid = np.arange(knots[0], top + 1 / 24, 1 / 24)
    curve = CubicSpline(knots, values, bc_type="natural")(np.minimum(grid, knots[-1]))
    place = np.log2(np.maximum(np.linspace(0.0, rate / 2, bins), 2.0 ** knots[0]))
    return (10.0 ** (np.interp(place, grid, curve) / 20)).astype(np.float32)


def long_term_spectrum(wave: np.ndarray, rate: int, octaves: float = 1 / 3, n_fft: int = 1024) -> np.ndarray:
    """Power spectrum averaged over the waveform (Welch) and smoothed over a fraction of an octave.

    Args:
        wave: (samples,), not silent (see SILENCE).
        rate: sampling rate in Hz.
        octaves: width of the smoothing.
        n_fft: length of the Fourier transform.

    Returns:
        Float64 (n_fft // 2 + 1,) with mean 1, or zeros if no window has sound.
    """
    _, density = signal.welch(wave, rate, nperseg=min(n_fft, len(wave)), nfft=n_fft, detrend=False)
    bins = np.arange(1, len(density))
    low = np.maximum(np.floor(bins * 2 ** (-octaves / 2)).astype(int), 1)
    high = np.minimum(np.ceil(bins * 2 ** (octaves / 2)).astype(int), len(density) - 1)
    total = np.concatenate([[0.0], np.cumsum(density)])
    smooth = (total[high + 1] - total[low]) / (high + 1 - low)
    smooth = np.concatenate([smooth[:1], smooth])
    # A click behind the last whole window leaves no density, although the waveform is not silent.
    return smooth / max(float(smooth.mean()), 1e-20)


def equaliser(found: np.ndarray, wanted: np.ndarray, bins: int, limit_db: float = 30.0) -> np.ndarray:
    """Gain that converts one long-term spectrum to another.

    Args:
        found: (F,) power spectrum as returned by ``long_term_spectrum``.
        wanted: (F,) target power spectrum.
        bins: length of the result, evenly spaced from 0 to half the sampling rate.
        limit_db: largest deviation of the gain from its median, so that bands without sound are not amplified.

    Returns:
        Float32 (bins,) magnitude.
    """
    floor = 1e-12
    level = 10 * np.log10((wanted + floor) / (found + floor))
    level = np.clip(level, np.median(level) - limit_db, np.median(level) + limit_db)
    place = np.linspace(0, len(level) - 1, bins)
    return (10.0 ** (np.interp(place, np.arange(len(level)), level) / 20)).astype(np.float32)


def coloured_noise(rng: np.random.Generator, samples: int, gain: np.ndarray, channels: int = 1) -> np.ndarray:
    """Gaussian noise of unit power with a given amplitude spectrum.

    Args:
        rng: random generator.
        samples: length.
        gain: (bins,) amplitude spectrum.
        channels: number of independent channels.

    Returns:
        Float32 (channels, samples).
    """
    size = fft.next_fast_len(samples, real=True)
    bins = size // 2 + 1
    # Uniform numbers are several times faster to draw; as a sum over all bins, the waveform is Gaussian anyway.
    spectrum = (rng.random((channels, 2 * bins), dtype=np.float32) - np.float32(0.5)).view(np.complex64)
    spectrum *= gain.astype(np.float32)[_nearest(len(gain), bins)]
    wave = fft.irfft(spectrum, size)[:, :samples]
    wave /= np.sqrt(np.square(wave).mean(axis=1, keepdims=True) + 1e-20)
    return wave


def _stretch(gain: np.ndarray, bins: int) -> np.ndarray:
    if len(gain) == bins:
        return gain.astype(np.float32, copy=False)
    return np.interp(np.linspace(0, 1, bins), np.linspace(0, 1, len(gain)), gain).astype(np.float32)


@lru_cache(maxsize=16)
def _nearest(bins: int, new_bins: int) -> np.ndarray:
    return np.round(np.linspace(0, bins - 1, new_bins)).astype(np.int32)


def power(wave: np.ndarray) -> float:
    """Mean square over all channels and samples."""
    return float(np.square(wave, dtype=np.float64).mean())


def noise_gain(machine: np.ndarray, noise: np.ndarray, snr_db: float) -> float:
    """Factor for the noise with which 10 log10(power(machine) / power(factor * noise)) = ``snr_db``."""
    return float(np.sqrt(power(machine) / (power(noise) * 10 ** (snr_db / 10))))
