"""Log-mel against explicit sums in NumPy, and values computed by hand."""

import numpy as np
import pytest
import torch

from system.errors import WheeltapperError
from system.frontends import logmel
from system.frontends.logmel import hz_to_mel, log_mel, mel_decibels, mel_filterbank, mel_to_hz


def slaney_hz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def filterbank_by_loops(rate: int, n_fft: int, bands: int) -> np.ndarray:
    top = 15 + 27 * np.log(rate / 2 / 1000) / np.log(6.4) if rate > 2000 else rate / 2 * 3 / 200
    edges = [slaney_hz(top * i / (bands + 1)) for i in range(bands + 2)]
    bank = np.zeros((bands, n_fft // 2 + 1))
    for band in range(bands):
        low, centre, high = edges[band : band + 3]
        for k in range(n_fft // 2 + 1):
            hz = k * rate / n_fft
            if low < hz <= centre:
                bank[band, k] = (hz - low) / (centre - low)
            elif centre < hz < high:
                bank[band, k] = (high - hz) / (high - centre)
        bank[band] *= 2 / (high - low)
    return bank


def log_mel_by_sums(wave: np.ndarray, rate: int, n_fft: int, hop: int, bands: int, power: float) -> np.ndarray:
    padded = np.concatenate([np.zeros(n_fft // 2), wave.astype(np.float64), np.zeros(n_fft // 2)])
    n = np.arange(n_fft)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / n_fft)
    dft = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), n) / n_fft)
    bank = filterbank_by_loops(rate, n_fft, bands)
    frames = []
    for t in range(1 + len(wave) // hop):
        magnitude = np.abs(dft @ (window * padded[t * hop : t * hop + n_fft]))
        frames.append(20 / power * np.log10(np.maximum(bank @ magnitude**power, np.finfo(float).eps)))
    return np.array(frames)


@pytest.mark.parametrize(("rate", "n_fft", "bands"), [(16000, 1024, 128), (44100, 1024, 128), (8000, 256, 20)])
def test_filterbank_equals_the_formula_in_loops(rate, n_fft, bands):
    np.testing.assert_allclose(mel_filterbank(rate, n_fft, bands), filterbank_by_loops(rate, n_fft, bands), atol=1e-7)


def test_mel_scale_at_its_known_points():
    # Linear below 1 kHz at 200/3 Hz a mel; 27 mel further stands 6.4 kHz.
    np.testing.assert_allclose(hz_to_mel(np.array([0.0, 200.0, 1000.0, 6400.0])), [0.0, 3.0, 15.0, 42.0], atol=1e-12)
    hz = np.linspace(0, 24000, 1001)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-8)


def test_filters_have_unit_area_and_are_computed_once():
    bank = mel_filterbank(16000, 16384, 40)
    np.testing.assert_allclose(bank.sum(dim=1) * 16000 / 16384, 1.0, rtol=0.01)
    assert mel_filterbank(16000, 16384, 40) is bank


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_spectrogram_equals_explicit_sums(power):
    rng = np.random.default_rng(3)
    wave = (rng.standard_normal((2, 3000)) * [[0.3], [0.01]]).astype(np.float32)
    found = log_mel(wave, 16000, n_fft=256, hop=100, bands=32, power=power)
    assert found.shape == (2, 31, 32)
    assert found.dtype == np.float32
    for channel in range(2):
        expected = log_mel_by_sums(wave[channel], 16000, 256, 100, 32, power)
        np.testing.assert_allclose(found[channel], expected, atol=2e-3)


def test_baseline_settings_on_a_tone_of_known_level():
    # Amplitude 0.5 at bin 64 of 1024 (1 kHz): |X| = 0.5 / 2 * sum of the window = 128 there, half of it in bins 63, 65.
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)[None].astype(np.float32)
    found = log_mel(wave, 16000)
    assert found.shape == (1, 32, 128)
    energy = np.zeros(513)
    energy[63:66] = 64.0**2, 128.0**2, 64.0**2
    expected = 10 * np.log10(filterbank_by_loops(16000, 1024, 128) @ energy + 1e-300)
    loud = expected > 0
    assert 1 <= loud.sum() <= 6
    np.testing.assert_allclose(found[0, 10][loud], expected[loud], atol=0.01)


def test_silence_lies_at_the_floor():
    np.testing.assert_allclose(log_mel(np.zeros((1, 2048), np.float32), 16000), 10 * np.log10(2.0**-52), rtol=1e-6)


def test_twice_the_amplitude_is_six_decibels_more():
    wave = np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32) * 0.1
    np.testing.assert_allclose(log_mel(2 * wave, 16000) - log_mel(wave, 16000), 20 * np.log10(2), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 0), (100,)])
def test_a_wave_without_samples_is_refused(shape):
    with pytest.raises(WheeltapperError, match=r"channels, samples"):
        log_mel(np.zeros(shape, np.float32), 16000)


def test_tensors_give_the_same_and_gradients_after_a_first_call_without():
    mel_filterbank.cache_clear()
    logmel._window.cache_clear()
    wave = np.random.default_rng(5).normal(0, 0.1, (2, 4000)).astype(np.float32)
    with torch.inference_mode():  # fills the caches
        expected = mel_decibels(torch.from_numpy(wave), 16000, 2048, 128).numpy()
    assert expected.shape == (2, 32, 128)
    np.testing.assert_array_equal(log_mel(wave, 16000, 2048, 128), expected)
    for channel in range(2):
        by_sums = log_mel_by_sums(wave[channel], 16000, 2048, 128, 128, 2.0)
        np.testing.assert_allclose(expected[channel], by_sums, atol=2e-3)
    leaf = torch.from_numpy(wave).requires_grad_()
    found = mel_decibels(leaf, 16000, 2048, 128)
    np.testing.assert_array_equal(found.detach(), expected)
    found.sum().backward()
    # Twice the amplitude is 6 dB: along the wave itself the slope is 20 / ln(10) for every value.
    slope = (leaf.grad * leaf.detach()).sum().item()
    assert slope == pytest.approx(found.numel() * 20 / np.log(10), rel=1e-3)
