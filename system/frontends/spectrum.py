"""Statistics of the log spectrogram over time, as an embedding without a network or training."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from system.config import SpectrumConfig
from system.errors import WheeltapperError
from system.frontends.kaldi import filters_of
from system.frontends.log_bands import log_filterbank
from system.frontends.logmel import FLOOR, mel_filterbank, power_spectrum

SLOWEST_HZ = 0.5  # lowest modulation frequency
QUIETEST = 1e-9  # of a band's mean power: digital silence is not quieter than that in a power mean
NOISE_FLOOR = 3e-3  # of the mean power of the noise, added to that of each frame
MODULATION_FLOOR = 1e-6  # of the spectrum of an envelope with mean 1: what is below is no modulation
SMALLEST_MOMENT = 1e-12  # added to moments of envelopes with mean 1, so that those of a constant one are equal

Made = TypeVar("Made")


def describe(wave: np.ndarray, rate: int, config: SpectrumConfig) -> np.ndarray:
    """A statistic over time of each band of each channel, see ``Spectra.describe``.

    Args:
        wave: float32 (channels, samples).
        rate: sampling rate in Hz.
        config: bands and statistic.
    """
    return Spectra(wave, rate).describe(config)


class Spectra:
    """Spectrograms of a waveform, each of which is computed once for all statistics of it.

    Args:
        wave: float32 (channels, samples); one shorter than a window is padded with zeros.
        rate: sampling rate in Hz.
        far: float32 (samples,) of the far microphone, for ``weight: far``; None for equal weights.

    Example:
        >>> spectra = Spectra(np.zeros((1, 16000), np.float32), 16000)
        >>> spectra.describe(SpectrumConfig(statistic="crest", filterbank="log", bands=64)).shape
        (1, 64)
    """

    def __init__(self, wave: np.ndarray, rate: int, far: np.ndarray | None = None):
        if wave.ndim != 2 or wave.shape[-1] == 0:
            raise WheeltapperError(f"spectrum: expected a waveform (channels, samples), found shape {wave.shape}")
        self.wave, self.rate = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32)), rate
        self._far = None if far is None else Spectra(far[None], rate)
        self._made: dict[tuple, object] = {}

    @torch.no_grad()
    def describe(self, config: SpectrumConfig) -> np.ndarray:
        """A statistic over time of each band of each channel.

        A low quantile measures the machine while the noise pauses, because machines are steadier than noise (minimum
        statistics, Martin 2001).

        Args:
            config: bands, statistic and number of adjacent bands to merge.

        Returns:
            Float32 (channels, bands / merge); of the statistic ``modulation`` (channels, bands / merge *
            modulation_bands), a band's modulation bands side by side; of ``frames`` (channels, segments, bands /
            merge).

        Raises:
            WheeltapperError: unknown statistic, settings that do not go together, or filters above half the rate.
        """
        for problem in config.problems():
            raise WheeltapperError(problem)
        if config.statistic not in STATISTICS:
            raise WheeltapperError(f"statistic: expected one of {', '.join(STATISTICS)}, found {config.statistic!r}")
        found = STATISTICS[config.statistic](self, config)
        if config.statistic != "modulation":  # which merges powers
            found = found.reshape(*found.shape[:-1], -1, config.merge).mean(axis=-1)
        if config.remove_level:
            found = found - found.mean(axis=tuple(range(1, found.ndim)), keepdims=True)
        return found.astype(np.float32)

    def power(self, config: SpectrumConfig) -> Tensor:
        """Power spectrogram (channels, frequency bins, frames)."""
        return self._once(
            ("power", config.n_fft, config.hop), lambda: power_spectrum(self.wave, config.n_fft, config.hop)
        )

    def mean_power(self, config: SpectrumConfig) -> Tensor:
        """Mean power over time (channels, frequency bins)."""
        return self._once(("mean", config.n_fft, config.hop), lambda: self.power(config).mean(dim=2))

    def sorted_power(self, config: SpectrumConfig) -> np.ndarray:
        """``power`` in ascending order of each bin, which all quantiles are taken from."""
        return self._once(
            ("sorted", config.n_fft, config.hop), lambda: np.sort(self.power(config).contiguous().numpy(), axis=2)
        )

    def band_power(self, config: SpectrumConfig) -> Tensor:
        """Powers of the bands (channels, frames, bands), at least ``FLOOR``."""
        return self._once(
            ("bands", *_layout(config)),
            lambda: (self.power(config).transpose(1, 2) @ self.filters(config).T).clamp_(min=FLOOR),
        )

    def weights(self, config: SpectrumConfig) -> np.ndarray | None:
        """Weights (frames, bands) of the frames of each band, which sum to one; None for equal ones.

        What the noise adds to a band varies with its power, which the far microphone hears: means weighted by the
        inverse of the noise's power have the least variance. Neighbouring frames share their windows, hence the mean
        of three, and a floor keeps single silent frames from deciding alone.
        """
        far = self._far
        if config.weight == "equal" or far is None:
            return None
        return self._once(("weights", *_layout(config)), lambda: _inverse(far.band_power(config)[0]))

    def levels(self, config: SpectrumConfig) -> np.ndarray:
        """Levels of the bands (channels, frames, bands) in dB."""
        return self._once(("levels", *_layout(config)), lambda: (10.0 * self.band_power(config).log10()).numpy())

    def sorted_levels(self, config: SpectrumConfig) -> np.ndarray:
        """``levels`` in ascending order of each band (channels, bands, frames): what NumPy's quantile has to order."""
        return self._once(
            ("sorted levels", *_layout(config)),
            lambda: np.sort(np.ascontiguousarray(self.levels(config).swapaxes(1, 2)), axis=2),
        )

    def filters(self, config: SpectrumConfig) -> Tensor:
        """Filters (bands, frequency bins)."""
        n_fft, bands, low_hz, half = config.n_fft, config.bands, config.usual_low_hz, self.rate / 2.0
        high_hz = config.high_hz if config.high_hz < half else 0.0
        if low_hz >= (high_hz or half):
            raise WheeltapperError(
                f"low_hz: expected below {half:g} Hz, half the sampling rate of the recordings, found {low_hz:g}"
            )
        if config.filterbank == "mel":
            return mel_filterbank(self.rate, n_fft, bands, low_hz=low_hz, high_hz=high_hz)
        if config.filterbank == "log":
            return log_filterbank(self.rate, n_fft, bands, low_hz, high_hz)
        return filters_of(config.filterbank, self.rate, n_fft, bands, low_hz=low_hz, high_hz=high_hz)

    def band_levels(self, power: Tensor, config: SpectrumConfig) -> np.ndarray:
        """Levels of the bands (channels, bands) in dB of powers (channels, frequency bins)."""
        return (10.0 * (power @ self.filters(config).T).clamp_(min=FLOOR).log10_()).numpy()

    def _once(self, key: tuple, make: Callable[[], Made]) -> Made:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]


def _layout(config: SpectrumConfig) -> tuple:
    return config.n_fft, config.hop, config.bands, config.filterbank, config.low_hz, config.high_hz


def _mean(spectra: Spectra, config: SpectrumConfig) -> np.ndarray:
    if config.order == "bands_first":
        return _average(spectra.levels(config), spectra.weights(config))
    logarithm = spectra.power(config).clamp(min=FLOOR).log_().mean(dim=2)
    return spectra.band_levels(logarithm.exp_(), config)


def _quantile(spectra: Spectra, config: SpectrumConfig) -> np.ndarray:
    if config.order == "bands_first":
        return np.quantile(spectra.sorted_levels(config), config.level, axis=2)
    power = spectra.sorted_power(config)
    below, share = divmod(config.level * (power.shape[2] - 1), 1.0)
    pair = power[..., int(below) : int(below) + 2]  # of the highest there is one
    return spectra.band_levels(
        torch.from_numpy(pair[..., 0] + np.float32(share) * (pair[..., -1] - pair[..., 0])), config
    )


def _power_mean(spectra: Spectra, config: SpectrumConfig) -> np.ndarray:
    weights = spectra.weights(config)
    if weights is None and config.exponent == 1.0:
        return spectra.band_levels(spectra.mean_power(config), config)  # a sum over bins and a mean over time commute
    power = spectra.band_power(config).numpy().astype(np.float64)
    usual = power.mean(axis=1, keepdims=True)
    mean = _average(np.maximum(power / usual, QUIETEST) ** config.exponent, weights)
    return 10.0 * (np.log10(mean) / config.exponent + np.log10(usual[:, 0]))


def _deviation(spectra: Spectra, config: SpectrumConfig) -> np.ndarray:
    return _spread(spectra.levels(config), spectra.weights(config))


def _crest(spectra: Spectra, config: SpectrumConfig) -> np.ndarray:
    return spectra.levels(config).max(axis=1) - _power_mean(spectra, config)


def _change(spectra: Spectra, config: SpectrumConfig) -> np.ndarray:
    levels, weights = spectra.levels(config), spectra.weights(config)
    steps = np.diff(levels if levels.shape[1] > 1 else levels.repeat(2, axis=1), axis=1)
    if weights is not None and len(weights) > 1:  # a step is as certain as the worse of its two frames
        weights = np.minimum(weights[1:], weights[:-1])
        weights = weights / weights.sum(axis=0)
    return _spread(steps, weights)


def _inverse(power: Tensor) -> np.ndarray:
    """Weights (frames, bands) that sum to one over frames: the inverse of the noise's power (frames, bands)."""
    near = functional.avg_pool1d(power.T.double()[None], 3, 1, 1, count_include_pad=False)[0].T.numpy()
    found = 1.0 / (near + NOISE_FLOOR * near.mean(axis=0))
    return found / found.sum(axis=0)


def _average(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Mean (channels, bands) over the frames of values (channels, frames, bands)."""
    return values.mean(axis=1) if weights is None else np.einsum("ctb,tb->cb", values, weights)


def _spread(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Standard deviation (channels, bands) over the frames of values (channels, frames, bands)."""
    if weights is None:
        return values.std(axis=1, dtype=np.float64)
    centred = values - _average(values, weights)[:, None]
    return np.sqrt(_average(np.square(centred), weights))


def _kurtosis(spectra: Spectra, config: SpectrumConfig) -> np.ndarray:
    """10 log10 of the kurtosis of each band's power: 0 dB of a constant or symmetric two-valued one, at most the
    logarithm of the number of frames."""
    squares = np.square(_modulated(spectra.band_power(config).numpy()))
    fourth = np.square(squares).mean(axis=1) + SMALLEST_MOMENT
    return 10.0 * np.log10(fourth / (np.square(squares.mean(axis=1)) + SMALLEST_MOMENT))


def _modulation(spectra: Spectra, config: SpectrumConfig) -> np.ndarray:
    """Envelope spectra (channels, bands / merge * modulation_bands) in dB."""
    frame_rate = spectra.rate / config.hop
    if frame_rate <= 2.0 * SLOWEST_HZ:
        most = spectra.rate / (2.0 * SLOWEST_HZ)
        raise WheeltapperError(f"hop: expected below {most:g} samples for statistic modulation, found {config.hop}")
    power = spectra.band_power(config).numpy()
    envelope = _modulated(power.reshape(*power.shape[:2], -1, config.merge).mean(axis=3))
    frames = envelope.shape[1]
    taper = np.square(np.sin(np.pi * (np.arange(frames) + 0.5) / frames))[:, None]
    transformed = np.fft.rfft(envelope * taper, axis=1)
    density = (np.square(transformed.real) + np.square(transformed.imag)) / np.square(taper).sum()
    filters = log_filterbank(frame_rate, frames, config.modulation_bands, SLOWEST_HZ).numpy()
    found = density.swapaxes(1, 2) @ filters.T
    return 10.0 * np.log10(np.maximum(found, MODULATION_FLOOR)).reshape(len(found), -1)


def _modulated(power: np.ndarray) -> np.ndarray:
    """Envelopes (channels, frames, bands) divided by their mean over time, less one."""
    power = power.astype(np.float64)
    return power / power.mean(axis=1, keepdims=True) - 1.0


def _frames(spectra: Spectra, config: SpectrumConfig) -> np.ndarray:
    """Levels (channels, segments, bands) in dB of the mean power of each segment; of fewer frames some repeat."""
    power = spectra.band_power(config).transpose(1, 2)
    return (10.0 * functional.adaptive_avg_pool1d(power, config.segments).log10_()).transpose(1, 2).numpy()


STATISTICS: dict[str, Callable[[Spectra, SpectrumConfig], np.ndarray]] = {
    "mean": _mean,
    "quantile": _quantile,
    "power_mean": _power_mean,
    "deviation": _deviation,
    "crest": _crest,
    "change": _change,
    "modulation": _modulation,
    "kurtosis": _kurtosis,
    "frames": _frames,
}
