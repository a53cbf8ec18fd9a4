"""Statistics of the log-mel spectrogram over time, as an embedding without a network or training."""

import numpy as np

from system.config import SpectrumConfig
from system.errors import WheeltapperError
from system.frontends.logmel import log_mel


def describe(wave: np.ndarray, rate: int, config: SpectrumConfig) -> np.ndarray:
    """Mean or quantile over time of each band of each channel, in dB.

    A low quantile measures the machine while the noise pauses, because machines are steadier than noise (minimum
    statistics, Martin 2001).

    Args:
        wave: float32 (channels, samples).
        rate: sampling rate in Hz.
        config: bands, statistic and number of adjacent bands to merge.

    Returns:
        Float32 (channels, bands / merge).

    Raises:
        WheeltapperError: unknown statistic, or ``merge`` does not divide ``bands``.
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
