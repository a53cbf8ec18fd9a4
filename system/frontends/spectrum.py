"""A recording described by statistics of its log-mel spectrogram over time: no network, nothing to learn."""

import numpy as np

from system.config import SpectrumConfig
from system.errors import WheeltapperError
from system.frontends.logmel import log_mel


def describe(wave: np.ndarray, rate: int, config: SpectrumConfig) -> np.ndarray:
    """One number for each band of each channel, in dB.

    A low quantile over time hears what is left when the noise pauses: a machine is steadier than what surrounds it
    (minimum statistics, Martin 2001).

    Args:
        wave: float32 (channels, samples). rate: Hz.

    Returns:
        float32 (channels, bands / merge).

    Raises WheeltapperError for an unknown statistic, or where ``merge`` does not divide ``bands``.
    """
    if config.bands % config.merge:
        raise WheeltapperError(f"merge: expected a divisor of {config.bands} bands, found {config.merge}")
    spectrogram = log_mel(wave, rate, config.n_fft, config.hop, config.bands, filterbank=config.filterbank)
    if config.statistic == "mean":
        found = spectrogram.mean(axis=1)
    elif config.statistic == "quantile":
        found = np.quantile(spectrogram, config.level, axis=1)
    else:
        raise WheeltapperError(f"statistic: expected mean or quantile, found {config.statistic!r}")
    return found.reshape(len(wave), -1, config.merge).mean(axis=2).astype(np.float32)
