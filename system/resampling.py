"""Change of the sampling rate, by one method for every pair of rates.

The spectrum of the whole waveform is multiplied by the frequency response of the low-pass filter and brought to the
new length. The filter is flat to 99.8 % of the band that both rates have, and zero from the band's end on, so that
nothing is mirrored into it; both within rounding (-110 dB of the loudest component). Spectrograms take logarithms, in
which a wider transition, inaudible otherwise, is a band that references at another rate do not lack.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from system.errors import WheeltapperError

if TYPE_CHECKING:
    import torch

FLAT = 0.998  # of the band that both rates have; from there the response falls to zero at the band's end
RINGING = 4096  # samples at the lower rate after which the filter's impulse response is below 2e-6
OFFICIAL = ("sinc_interp_hann", 6, 0.99)  # window, half-width and roll-off of torchaudio's default kernel
LARGEST_RATIO = 2_000_000  # product of the factors of two rates, up to which torchaudio's kernel fits in memory
LARGEST_STEP = 500  # new rate over rate; beyond, 99.8 % of the new band are empty and a clip fills the memory


def check_rates(rate: int, new_rate: int) -> None:
    """Raises WheeltapperError for a sampling rate (Hz) below 1, or a recording that would become absurdly long."""
    if min(rate, new_rate) < 1:
        raise WheeltapperError(f"rate: expected a number of Hz above zero, found {min(rate, new_rate)}")
    if new_rate > LARGEST_STEP * rate:
        raise WheeltapperError(
            f"rate: expected at least {math.ceil(new_rate / LARGEST_STEP)} Hz to resample to {new_rate} Hz, found "
            f"{rate} Hz; set a lower data.rate"
        )


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resamples a waveform.

    Args:
        wave: float32 (channels, samples); silence is assumed before and after it.
        rate: sampling rate in Hz.
        new_rate: sampling rate in Hz of the result.

    Returns:
        Float32 (channels, ceil(samples * new_rate / rate)).

    Raises:
        WheeltapperError: see ``check_rates``.
    """
    if rate == new_rate:
        return wave
    import scipy.fft

    samples, length, new_length = _lengths(wave.shape[-1], rate, new_rate)
    spectrum = scipy.fft.rfft(wave, length)
    response = _response(length, new_length)
    return scipy.fft.irfft(spectrum[..., : len(response)] * response, new_length)[..., :samples]


def resampler(rate: int, new_rate: int) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Function that resamples tensors (..., samples) like ``resample``, on their device and with gradients.

    Raises:
        WheeltapperError: see ``check_rates``.
    """
    check_rates(rate, new_rate)
    return partial(_resample_tensor, rate=rate, new_rate=new_rate)


def _resample_tensor(wave: "torch.Tensor", rate: int, new_rate: int) -> "torch.Tensor":
    import torch

    if rate == new_rate:
        return wave
    if wave.device.type == "cpu" and not wave.requires_grad:
        # SciPy's transform, unlike torch's, gives the same bits whatever the number of threads.
        return torch.from_numpy(resample(wave.numpy(), rate, new_rate))
    samples, length, new_length = _lengths(wave.shape[-1], rate, new_rate)
    response = torch.from_numpy(_response(length, new_length)).to(wave.device)
    spectrum = torch.fft.rfft(wave, length)
    return torch.fft.irfft(spectrum[..., : len(response)] * response, new_length)[..., :samples]


def _lengths(samples: int, rate: int, new_rate: int) -> tuple[int, int, int]:
    """Samples of the result, and lengths of the two transforms, which are to each other as the rates."""
    from scipy.fft import next_fast_len

    check_rates(rate, new_rate)
    common = math.gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    # Zeros at the end keep the ringing of each end from the other, since a transform is periodic.
    padded = samples + math.ceil(RINGING * rate / min(rate, new_rate))
    periods = next_fast_len(math.ceil(padded / down), real=True)
    return math.ceil(samples * up / down), down * periods, up * periods


@lru_cache(maxsize=8)
def _response(length: int, new_length: int) -> np.ndarray:
    """Frequency response of the low-pass filter, float32, for the frequencies of the shorter transform.

    One to ``FLAT``, then half a period of a cosine to zero; multiplied by the ratio of the lengths.
    """
    shorter = min(length, new_length)
    position = np.arange(shorter // 2 + 1) * (2.0 / shorter)
    falling = np.clip((position - FLAT) / (1.0 - FLAT), 0.0, 1.0)
    return ((0.5 + 0.5 * np.cos(np.pi * falling)) * (new_length / length)).astype(np.float32)


def official_name(new_rate: int) -> str:
    """Name of ``official_resampler`` in records of what was computed behind it; empty for the rate 0, none."""
    window, width, roll_off = OFFICIAL
    return f"torchaudio {window}, width {width}, roll-off {roll_off}, to {new_rate} Hz" if new_rate else ""


@lru_cache(maxsize=32)
def official_resampler(rate: int, new_rate: int) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Torchaudio's resampling by its default kernel, which published programs use: only where one is reproduced.

    It loses 0.8 to 5.8 dB between 81 and 100 % of the band of the lower rate. Rates with a large least common multiple
    (44,101 and 16,000 Hz), for which it would have gigabytes, are resampled by ``resampler``.

    Raises:
        WheeltapperError: see ``check_rates``.
    """
    import torch
    import torchaudio

    check_rates(rate, new_rate)
    if rate // math.gcd(rate, new_rate) * new_rate > LARGEST_RATIO * math.gcd(rate, new_rate):
        return resampler(rate, new_rate)
    with torch.inference_mode(False):  # cached tensors are used in training too
        kernels: dict[torch.device, torch.nn.Module] = {}

    def convert(wave: torch.Tensor) -> torch.Tensor:
        if wave.device not in kernels:
            with torch.inference_mode(False):
                kernels[wave.device] = torchaudio.transforms.Resample(rate, new_rate, *OFFICIAL).to(wave.device)
        return kernels[wave.device](wave)

    return convert
