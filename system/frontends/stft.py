"""Log-magnitude spectra with a window of fixed duration, so that a bin is the same frequency at every sampling rate."""

from functools import lru_cache

import torch
from torch import Tensor

from system.errors import WheeltapperError

WINDOW_MS = 25
HOP_MS = 10
# Mean and twice the standard deviation over the authors' corpus (FISHER's README; RMIS's datasets/spec.py).
FISHER_MEAN = -3.017344307886898
FISHER_SCALE = 2.1531635155379805 * 2
# The same over ECHO's corpus (ECHO's released code).
ECHO_MEAN = -5.874158
ECHO_SCALE = 5.223174 * 2


def frame_sizes(rate: int) -> tuple[int, int]:
    """Window and hop in samples.

    Args:
        rate: sampling rate in Hz.

    Raises:
        WheeltapperError: the hop would be shorter than a sample.
    """
    if HOP_MS * rate < 1000:
        raise WheeltapperError(f"rate: expected at least {1000 // HOP_MS} Hz, found {rate}")
    return WINDOW_MS * rate // 1000, HOP_MS * rate // 1000


def frame_count(samples: int, rate: int) -> int:
    """Number of frames in ``samples`` samples, without padding; 0 if shorter than a window."""
    window, hop = frame_sizes(rate)
    return max(0, 1 + (samples - window) // hop)


def log_magnitude(wave: Tensor, rate: int, floor: float = 1e-10, mean: float | Tensor | None = None) -> Tensor:
    """Logarithm of the magnitude spectrum, 25 ms Hann window, 10 ms hop, no padding (FISHER, section 3.1, eq. 1).

    Args:
        wave: (B, samples).
        rate: sampling rate in Hz.
        floor: added to the magnitude before the logarithm.
        mean: subtracted from the samples first, a number or (B, 1); None for the mean of each row.

    Returns:
        (B, frames, window // 2 + 1), natural logarithm. Recordings shorter than a window are padded with zeros.
    """
    window, hop = frame_sizes(rate)
    wave = wave - (wave.mean(dim=-1, keepdim=True) if mean is None else mean)
    if wave.shape[-1] < window:
        wave = torch.nn.functional.pad(wave, (0, window - wave.shape[-1]))
    spectrum = torch.stft(
        wave, window, hop, window=_hann(window, wave.device, wave.dtype), center=False, return_complex=True
    )
    return spectrum.abs().add_(floor).log_().transpose(1, 2)


def fisher_spectrogram(wave: Tensor, rate: int) -> Tensor:
    """FISHER's input (B, T, F): ``log_magnitude`` normalised by mean and twice the deviation of the corpus."""
    return log_magnitude(wave, rate).sub_(FISHER_MEAN).div_(FISHER_SCALE)


def echo_spectrogram(wave: Tensor, rate: int, mean: float | Tensor | None = None) -> Tensor:
    """ECHO's input (B, T, F): ``log_magnitude`` with a floor of 1e-9, normalised as in its released code."""
    return log_magnitude(wave, rate, 1e-9, mean).sub_(ECHO_MEAN).div_(ECHO_SCALE)


@lru_cache(maxsize=32)
def _hann(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # cached tensors are used in training too
        return torch.hann_window(size, device=device, dtype=dtype)
