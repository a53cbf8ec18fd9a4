"""Triangular filters whose centres are evenly spaced in octaves."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from system.errors import WheeltapperError


@lru_cache(maxsize=32)
def log_filterbank(rate: float, n_fft: int, bands: int, low_hz: float, high_hz: float = 0.0) -> Tensor:
    """Triangular filters of unit sum, so that a band is a weighted mean of powers; evenly spaced in log frequency.

    A filter reaches from the centre of the band below to that of the band above, but at least one frequency bin to
    either side. So a band narrower than a bin interpolates linearly between the powers of the two bins around its
    centre: no band is empty, and neighbouring bands differ.

    Args:
        rate: sampling rate in Hz.
        n_fft: length of the Fourier transform.
        bands: number of filters.
        low_hz: lower edge of the first filter, above 0.
        high_hz: upper edge of the last filter; 0, or more than half the rate, for half the rate.

    Returns:
        Float32 (bands, n_fft // 2 + 1), cached: do not modify.

    Raises:
        WheeltapperError: the edges are not in order.
    """
    high_hz = min(high_hz, rate / 2.0) if high_hz else rate / 2.0
    if not 0.0 < low_hz < high_hz:
        raise WheeltapperError(f"low_hz: expected a number between 0 and {high_hz:g} Hz, found {low_hz:g}")
    width = rate / n_fft
    bins = np.arange(n_fft // 2 + 1) * width
    edges = np.geomspace(low_hz, high_hz, bands + 2)
    low, centre, high = (edges[i : i + bands, None] for i in range(3))
    low, high = np.minimum(low, centre - width), np.maximum(high, centre + width)
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(min=0.0)
    with torch.inference_mode(False):  # cached tensors are used in training too
        return torch.from_numpy((triangles / triangles.sum(axis=1, keepdims=True)).astype(np.float32))
