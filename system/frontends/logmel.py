"""Log-mel power spectrogram with the settings of the official Task 2 baseline.

Zero-padded, centred STFT with a periodic Hann window; Slaney's mel scale (linear below 1 kHz, logarithmic above);
triangles of unit area; decibels with the double-precision epsilon as floor.
"""

import sys
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from system.errors import WheeltapperError
from system.frontends.kaldi import filters_of

N_FFT = 1024
HOP = 512
BANDS = 128
FLOOR = sys.float_info.epsilon

# Slaney's Auditory Toolbox: 200/3 Hz per mel up to 1 kHz (15 mel), then 27 mel per factor of 6.4.
HZ_PER_MEL = 200.0 / 3.0
KNEE_HZ = 1000.0
KNEE_MEL = KNEE_HZ / HZ_PER_MEL
LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Converts Hz to Slaney's mel scale; any shape."""
    hz = np.asarray(hz, dtype=np.float64)
    return np.where(hz < KNEE_HZ, hz / HZ_PER_MEL, KNEE_MEL + np.log(np.maximum(hz, KNEE_HZ) / KNEE_HZ) / LOG_STEP)


def mel_to_hz(mel: np.ndarray | float) -> np.ndarray:
    """Inverse of ``hz_to_mel``."""
    mel = np.asarray(mel, dtype=np.float64)
    return np.where(
        mel < KNEE_MEL, mel * HZ_PER_MEL, KNEE_HZ * np.exp((np.maximum(mel, KNEE_MEL) - KNEE_MEL) * LOG_STEP)
    )


@lru_cache(maxsize=16)
def mel_filterbank(
    rate: int,
    n_fft: int = N_FFT,
    bands: int = BANDS,
    device: torch.device | str = "cpu",
    low_hz: float = 0.0,
    high_hz: float = 0.0,
) -> Tensor:
    """Triangular filters of unit area (in Hz), evenly spaced in mel, usually from 0 Hz to half the sampling rate.

    Args:
        rate: sampling rate in Hz.
        n_fft: length of the Fourier transform.
        bands: number of filters.
        device: device of the result.
        low_hz: lower edge of the first filter.
        high_hz: upper edge of the last filter; 0 for half the sampling rate.

    Returns:
        Float32 (bands, n_fft // 2 + 1), cached: do not modify.
    """
    bins = np.arange(n_fft // 2 + 1) * (rate / n_fft)
    edges = mel_to_hz(np.linspace(hz_to_mel(low_hz), hz_to_mel(high_hz or rate / 2.0), bands + 2))
    low, centre, high = (edges[i : i + bands, None] for i in range(3))
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(min=0.0)
    with torch.inference_mode(False):  # cached tensors are used in training too
        return torch.from_numpy((triangles * (2.0 / (high - low))).astype(np.float32)).to(device)


def log_mel(
    wave: np.ndarray,
    rate: int,
    n_fft: int = N_FFT,
    hop: int = HOP,
    bands: int = BANDS,
    power: float = 2.0,
    filterbank: str = "mel",
) -> np.ndarray:
    """Log-mel spectrogram in decibels.

    Args:
        wave: float32 (channels, samples), full scale 1.
        rate: sampling rate in Hz.
        n_fft: window in samples.
        hop: hop in samples.
        bands: number of mel bands from 0 Hz to half the sampling rate.
        power: exponent of the magnitude before the filters; the level is 20 / power * log10 of their output.
        filterbank: ``mel``, or ``even`` for triangles of peak 1 evenly spaced in Hz (EFB paper).

    Returns:
        Float32 (channels, frames, bands) in dB, frames = 1 + samples // hop.

    Raises:
        WheeltapperError: a wave without samples.
    """
    if wave.ndim != 2 or wave.shape[-1] == 0:
        raise WheeltapperError(f"log-mel: expected a waveform (channels, samples), found shape {wave.shape}")
    with torch.no_grad():
        signal = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
        return mel_decibels(signal, rate, n_fft, hop, bands, power, filterbank).numpy()


def mel_decibels(
    wave: Tensor,
    rate: int,
    n_fft: int = N_FFT,
    hop: int = HOP,
    bands: int = BANDS,
    power: float = 2.0,
    filterbank: str = "mel",
) -> Tensor:
    """``log_mel`` for tensors: takes float32 (B, samples), returns (B, 1 + samples // hop, bands) in dB."""
    energy = power_spectrum(wave, n_fft, hop)
    if power != 2.0:
        energy = energy.pow(power / 2.0)
    if filterbank == "mel":
        filters = mel_filterbank(rate, n_fft, bands, wave.device)
    else:
        filters = filters_of(filterbank, rate, n_fft, bands, wave.device)
    mel = energy.transpose(1, 2) @ filters.T
    return 20.0 / power * mel.clamp_(min=FLOOR).log10_()


def power_spectrum(wave: Tensor, n_fft: int = N_FFT, hop: int = HOP) -> Tensor:
    """Squared magnitudes (B, n_fft // 2 + 1, 1 + samples // hop) of the STFT of float32 (B, samples)."""
    spectrum = torch.stft(
        wave, n_fft, hop, window=_window(n_fft, wave.device), center=True, pad_mode="constant", return_complex=True
    )
    return spectrum.real.square().add_(spectrum.imag.square())


@lru_cache(maxsize=16)
def _window(n_fft: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.hann_window(n_fft, periodic=True, device=device)
