"""Short-time spectra with a window of fixed duration, so that a bin means the same frequency at every rate."""

from functools import lru_cache

import torch
from torch import Tensor

from system.errors import WheeltapperError

WINDOW_MS = 25
HOP_MS = 10
# Mean and twice the standard deviation of the official corpus (FISHER's read-me; RMIS's datasets/spec.py).
FISHER_MEAN = -3.017344307886898
FISHER_SCALE = 2.1531635155379805 * 2
# The same of ECHO's corpus (ECHO's released code).
ECHO_MEAN = -5.874158
ECHO_SCALE = 5.223174 * 2


def frame_sizes(rate: int) -> tuple[int, int]:
    """Window and hop in samples for a rate in Hz; WheeltapperError where the hop would be shorter than a sample."""
    if HOP_MS * rate < 1000:
        raise WheeltapperError(f"rate: expected at least {1000 // HOP_MS} Hz, found {rate}")
    return WINDOW_MS * rate // 1000, HOP_MS * rate // 1000


def frame_count(samples: int, rate: int) -> int:
    """Frames that ``samples`` samples give without padding (0 where they are fewer than a window)."""
    window, hop = frame_sizes(rate)
    return max(0, 1 + (samples - window) // hop)


def log_magnitude(wave: Tensor, rate: int, floor: float = 1e-10, mean: float | Tensor | None = None) -> Tensor:
    """Logarithm of the magnitude spectrum, 25 ms Hann window, 10 ms hop, no padding (FISHER, section 3.1, eq. 1).

    Args:
        wave: (B, samples).
        rate: Hz.
        floor: added to the magnitude before the logarithm.
        mean: what is subtracted from the samples first, a number or (B, 1); None: each row's own mean.

    Returns:
        (B, frames, window // 2 + 1), natural logarithm. Recordings shorter than one window are padded with zeros to it.
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
    """FISHER's input: ``log_magnitude`` normalised by the corpus mean and twice its deviation. (B, T, F)."""
    return log_magnitude(wave, rate).sub_(FISHER_MEAN).div_(FISHER_SCALE)


def echo_spectrogram(wave: Tensor, rate: int, mean: float | Tensor | None = None) -> Tensor:
    """ECHO's input: ``log_magnitude`` with a floor of 1e-9, normalised as its released code does. (B, T, F)."""
    return log_magnitude(wave, rate, 1e-9, mean).sub_(ECHO_MEAN).div_(ECHO_SCALE)


@lru_cache(maxsize=32)
def _hann(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # what is cached must serve training too
        return torch.hann_window(size, device=device, dtype=dtype)
