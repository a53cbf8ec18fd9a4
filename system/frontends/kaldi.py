"""Log filter-bank energies as Kaldi computes them, for whole batches, with mel or evenly spaced filters.

Frames of 25 ms every 10 ms that lie within the signal; each loses its mean, is pre-emphasised (0.97), windowed, filled
to a power of two; the power spectrum goes through triangular filters between 20 Hz and half the rate.
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


def fbank(wave: Tensor, rate: int, window: str = "povey", filterbank: str = "mel", bins: int = BINS) -> Tensor:
    """Log filter-bank energies.

    Args:
        wave: (B, samples) in any scale. rate: Hz.
        window: ``povey`` (Hann to the power 0.85) or ``hanning``, both symmetric.
        filterbank: ``mel``, triangles equally spaced in mel (HTK's scale); ``even``, equally spaced in Hz, so that
            all frequencies get the same resolution (EFB paper).
        bins: filters.

    Returns:
        (B, frames, bins), natural logarithm of energies of at least 1.2e-7. A signal shorter than a frame is filled
        with zeros to one.

    Raises WheeltapperError for another window or filter bank.
    """
    size, hop = frame_sizes(rate)
    if wave.shape[-1] < size:
        wave = F.pad(wave, (0, size - wave.shape[-1]))
    # Pre-emphasis before cutting into frames: one pass over the signal instead of several over overlapping frames.
    mean = wave.unfold(-1, size, hop).mean(-1, keepdim=True)
    first = (1.0 - PREEMPHASIS) * (wave.unfold(-1, size, hop)[..., :1] - mean)
    wave = F.pad(wave[..., 1:] - PREEMPHASIS * wave[..., :-1], (1, 0))
    frames = wave.unfold(-1, size, hop) - (1.0 - PREEMPHASIS) * mean
    frames[..., :1] = first
    frames *= _window(window, size, wave.device)
    n_fft = 1 << (size - 1).bit_length()
    spectrum = torch.view_as_real(torch.fft.rfft(frames, n_fft))
    power = spectrum.square().sum(-1)
    filters = filters_of(filterbank, rate, n_fft, bins).to(wave.device, non_blocking=True)
    return (power @ filters.T).clamp_(min=FLOOR).log_()


@lru_cache(maxsize=16)
def filters_of(filterbank: str, rate: int, n_fft: int, bins: int = BINS) -> Tensor:
    """Triangular filters, peak 1, from 20 Hz to half the rate: float32 (bins, n_fft // 2 + 1), not to be changed.

    The sides of a ``mel`` triangle are straight in mel, those of an ``even`` one in Hz. WheeltapperError for another
    name.
    """
    if filterbank not in FILTERBANKS:
        raise WheeltapperError(f"filterbank: expected one of {', '.join(FILTERBANKS)}, found {filterbank!r}")
    scale = _mel if filterbank == "mel" else np.asarray
    points = scale(np.arange(n_fft // 2 + 1) * (rate / n_fft))
    edges = np.linspace(scale(LOW_HZ), scale(rate / 2.0), bins + 2)
    low, centre, high = (edges[i : i + bins, None] for i in range(3))
    triangles = np.minimum((points - low) / (centre - low), (high - points) / (high - centre)).clip(min=0.0)
    triangles[:, -1] = 0.0  # Kaldi leaves the bin at half the rate out
    with torch.inference_mode(False):
        return torch.from_numpy(triangles.astype(np.float32))


def _mel(hz):
    return 1127.0 * np.log1p(np.asarray(hz, dtype=np.float64) / 700.0)


@lru_cache(maxsize=16)
def _window(name: str, size: int, device: torch.device) -> Tensor:
    if name not in WINDOWS:
        raise WheeltapperError(f"window: expected one of {', '.join(WINDOWS)}, found {name!r}")
    hann = 0.5 - 0.5 * np.cos(2.0 * math.pi * np.arange(size) / (size - 1))
    values = hann**0.85 if name == "povey" else hann
    with torch.inference_mode(False):
        return torch.from_numpy(values.astype(np.float32)).to(device)
