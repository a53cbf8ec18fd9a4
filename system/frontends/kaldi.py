"""Log filter-bank energies as in Kaldi, for batches, with mel or evenly spaced filters.

Frames of 25 ms with a hop of 10 ms, without padding at the ends. Of each frame the mean is removed; then pre-emphasis
(0.97), window, zero-padding to a power of two, power spectrum, and triangular filters from 20 Hz to half the rate.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from system.errors import WheeltapperError
from system.frontends.stft import frame_sizes

BINS = 128
LOW_HZ = 20.0
PREEMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)
WINDOWS = ("povey", "hanning")
FILTERBANKS = ("mel", "even")
BLOCK = 1 << 18  # samples that a CPU transforms at once


def fbank(wave: Tensor, rate: int, window: str = "povey", filterbank: str = "mel", bins: int = BINS) -> Tensor:
    """Log filter-bank energies.

    Args:
        wave: float32 (B, samples) at any scale.
        rate: sampling rate in Hz.
        window: ``povey`` (Hann to the power 0.85) or ``hanning``, both symmetric.
        filterbank: ``mel`` for triangles evenly spaced in mel (HTK's scale), ``even`` for triangles evenly spaced in
            Hz, which resolve all frequencies equally (EFB paper).
        bins: number of filters.

    Returns:
        (B, frames, bins), natural logarithm of energies of at least 1.2e-7. A signal shorter than a frame is padded
        with zeros after its mean is removed.

    Raises:
        WheeltapperError: unknown window or filter bank.
    """
    size, hop = frame_sizes(rate)
    n_fft = 1 << (size - 1).bit_length()
    wave = wave - wave.mean(-1, keepdim=True)  # no effect on frames, but better precision with a large offset
    if wave.shape[-1] < size:
        wave = F.pad(wave, (0, size - wave.shape[-1]))
    # Pre-emphasis is applied to the signal, not to its overlapping frames, so (1 - 0.97) times the mean remains to be
    # removed. A frame's first sample differs from Kaldi's, but both windows begin with zero. The window array includes
    # the zero padding to a power of two.
    mean = wave.unfold(-1, size, hop).mean(-1, keepdim=True)
    emphasised = F.pad(torch.sub(wave[..., 1:], wave[..., :-1], alpha=PREEMPHASIS), (1, n_fft - size))
    taper = _window(window, size, n_fft, wave.device)
    filters = filters_of(filterbank, rate, n_fft, bins, wave.device)
    frames = emphasised.unfold(-1, n_fft, hop)
    # In pieces that stay in a CPU's cache.
    step = max(1, BLOCK // (len(wave) * n_fft)) if wave.device.type == "cpu" else frames.shape[1]
    pieces = zip(frames.split(step, 1), mean.split(step, 1), strict=True)
    return torch.cat([_log_energies(*piece, taper, filters) for piece in pieces], 1)


def _log_energies(frames: Tensor, mean: Tensor, taper: Tensor, filters: Tensor) -> Tensor:
    """Log energies (B, T, bins) of pre-emphasised frames (B, T, n_fft) and their means before it (B, T, 1)."""
    spectrum = torch.fft.rfft((frames * taper).addcmul_(mean, taper, value=PREEMPHASIS - 1.0))
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return F.linear(power, filters).clamp_(min=FLOOR).log_()


@lru_cache(maxsize=16)
def filters_of(
    filterbank: str,
    rate: int,
    n_fft: int,
    bins: int = BINS,
    device: torch.device | str = "cpu",
    low_hz: float = LOW_HZ,
    high_hz: float = 0.0,
) -> Tensor:
    """Triangular filters with peak 1.

    Args:
        filterbank: ``mel`` for triangles that are linear in mel, ``even`` for triangles that are linear in Hz.
        rate: sampling rate in Hz.
        n_fft: length of the Fourier transform.
        bins: number of filters.
        device: device of the result.
        low_hz: lower edge of the first filter.
        high_hz: upper edge of the last filter; 0 for half the sampling rate.

    Returns:
        Float32 (bins, n_fft // 2 + 1), cached: do not modify.

    Raises:
        WheeltapperError: unknown filter bank.
    """
    if filterbank not in FILTERBANKS:
        raise WheeltapperError(f"filterbank: expected one of {', '.join(FILTERBANKS)}, found {filterbank!r}")
    scale = _mel if filterbank == "mel" else np.asarray
    points = scale(np.arange(n_fft // 2 + 1) * (rate / n_fft))
    edges = np.linspace(scale(low_hz), scale(high_hz or rate / 2.0), bins + 2)
    low, centre, high = (edges[i : i + bins, None] for i in range(3))
    triangles = np.minimum((points - low) / (centre - low), (high - points) / (high - centre)).clip(min=0.0)
    with torch.inference_mode(False):
        return torch.from_numpy(triangles.astype(np.float32)).to(device)


def band_centres(
    filterbank: str, rate: int, bins: int = BINS, low_hz: float = LOW_HZ, high_hz: float = 0.0
) -> np.ndarray:
    """Peak frequencies (bins,) in Hz of the filters of ``filters_of``."""
    high_hz = high_hz or rate / 2.0
    if filterbank == "even":
        return np.linspace(low_hz, high_hz, bins + 2)[1:-1]
    return 700.0 * np.expm1(np.linspace(_mel(low_hz), _mel(high_hz), bins + 2)[1:-1] / 1127.0)


def _mel(hz):
    return 1127.0 * np.log1p(np.asarray(hz, dtype=np.float64) / 700.0)


@lru_cache(maxsize=16)
def _window(name: str, size: int, n_fft: int, device: torch.device) -> Tensor:
    """Window, padded with zeros to n_fft."""
    if name not in WINDOWS:
        raise WheeltapperError(f"window: expected one of {', '.join(WINDOWS)}, found {name!r}")
    hann = 0.5 - 0.5 * np.cos(2.0 * math.pi * np.arange(size) / (size - 1))
    values = np.pad(hann**0.85 if name == "povey" else hann, (0, n_fft - size))
    with torch.inference_mode(False):
        return torch.from_numpy(values.astype(np.float32)).to(device)
