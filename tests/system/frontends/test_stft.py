"""FISHER's front end against one discrete Fourier transform a frame."""

import numpy as np
import pytest
import torch
from numpy_fisher import log_magnitude as plain_log_magnitude

from system.errors import WheeltapperError
from system.frontends import stft


def test_a_rate_too_low_for_a_frame():
    assert stft.frame_sizes(100) == (2, 1)
    with pytest.raises(WheeltapperError, match="rate: expected at least 100 Hz, found 99"):
        stft.log_magnitude(torch.zeros(1, 500), 99)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.normal(0, 0.1, samples) + 0.05).astype(np.float32)


@pytest.mark.parametrize(
    ("rate", "window", "hop"),
    [(8000, 200, 80), (16000, 400, 160), (25600, 640, 256), (44100, 1102, 441), (51200, 1280, 512), (64000, 1600, 640)],
)
def test_frame_sizes(rate, window, hop):
    assert stft.frame_sizes(rate) == (window, hop)
    assert stft.frame_count(10 * rate, rate) == 998
    assert stft.frame_count(window, rate) == 1
    assert stft.frame_count(window - 1, rate) == 0
    assert stft.frame_count(window + hop - 1, rate) == 1
    assert stft.frame_count(window + hop, rate) == 2


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_log_magnitude(rate):
    wave = noise(rate // 10)
    found = stft.log_magnitude(torch.from_numpy(wave)[None], rate)[0].numpy()
    expected = plain_log_magnitude(wave, rate)
    assert found.shape == expected.shape == (stft.frame_count(len(wave), rate), stft.frame_sizes(rate)[0] // 2 + 1)
    # The lowest bins only contain rounding of the mean: compare magnitudes there, logarithms elsewhere.
    np.testing.assert_allclose(found[:, 2:], expected[:, 2:], atol=2e-3)
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-5)


def test_rows_are_centred_each_for_itself():
    wave = torch.from_numpy(np.stack([noise(800, 1), noise(800, 2) + 0.5]))
    together = stft.log_magnitude(wave, 8000)
    for row, alone in zip(together, wave, strict=True):
        torch.testing.assert_close(row, stft.log_magnitude(alone[None] + 3.0, 8000)[0], atol=0.02, rtol=0)
    torch.testing.assert_close(together[0], stft.log_magnitude(wave[:1], 8000)[0])


def test_fisher_normalisation():
    wave = torch.from_numpy(noise(1600))[None]
    expected = (stft.log_magnitude(wave, 16000).numpy() + 3.017344307886898) / (2 * 2.1531635155379805)
    np.testing.assert_allclose(stft.fisher_spectrogram(wave, 16000).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_silence_is_the_floor():
    found = stft.log_magnitude(torch.zeros(1, 1000), 8000)
    np.testing.assert_allclose(found.numpy(), np.log(1e-10), rtol=1e-6)
    assert torch.isfinite(stft.fisher_spectrogram(torch.full((1, 1000), 0.5), 8000)).all()


@pytest.mark.parametrize("samples", [1, 57, 199])
def test_shorter_than_a_window(samples):
    wave = noise(samples)
    found = stft.log_magnitude(torch.from_numpy(wave)[None], 8000)
    padded = np.pad(wave - wave.mean(), (0, 200 - samples))
    expected = np.log(np.abs(np.fft.rfft(padded * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)))) + 1e-10)
    assert found.shape == (1, 1, 101)
    np.testing.assert_allclose(np.exp(found[0, 0].numpy()), np.exp(expected), atol=1e-6)


def test_the_cached_window_serves_training_after_inference():
    stft._hann.cache_clear()
    with torch.inference_mode():
        stft.log_magnitude(torch.zeros(1, 400), 8000)
    wave = torch.from_numpy(noise(400))[None].requires_grad_()
    stft.log_magnitude(wave, 8000).sum().backward()
    assert torch.isfinite(wave.grad).all()
