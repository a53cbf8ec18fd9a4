"""Kaldi's filter banks against torchaudio's, and against explicit sums in plain NumPy for both kinds of filters."""

import numpy as np
import pytest
import torch
from torchaudio.compliance import kaldi as torchaudio_kaldi

from system.errors import WheeltapperError
from system.frontends import kaldi
from system.frontends.kaldi import FLOOR, fbank, filters_of

SILENCE = np.log(np.finfo(np.float32).eps)


def noise(samples: int, batch: int = 1, scale: float = 0.1, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def torchaudio_fbank(wave: torch.Tensor, rate: int, window: str) -> torch.Tensor:
    settings = {"num_mel_bins": 128, "sample_frequency": rate, "window_type": window, "dither": 0.0}
    return torch.stack([torchaudio_kaldi.fbank(row[None], **settings) for row in wave])


def filters_by_loops(filterbank: str, rate: int, n_fft: int, bins: int) -> np.ndarray:
    scale = (lambda hz: 1127 * np.log(1 + hz / 700)) if filterbank == "mel" else float
    low, high = scale(20.0), scale(rate / 2)
    step = (high - low) / (bins + 1)
    bank = np.zeros((bins, n_fft // 2 + 1))
    for b in range(bins):
        left, centre, right = (low + (b + i) * step for i in range(3))
        for k in range(n_fft // 2):
            x = scale(k * rate / n_fft)
            if left < x <= centre:
                bank[b, k] = (x - left) / (centre - left)
            elif centre < x < right:
                bank[b, k] = (right - x) / (right - centre)
    return bank


def fbank_by_sums(wave: np.ndarray, rate: int, window: str, filterbank: str, bins: int) -> np.ndarray:
    size, hop = rate * 25 // 1000, rate // 100
    n_fft = 2 ** int(np.ceil(np.log2(size)))
    n = np.arange(size)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * n / (size - 1))
    taper = taper**0.85 if window == "povey" else taper
    dft = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), n) / n_fft)
    bank = filters_by_loops(filterbank, rate, n_fft, bins)
    rows = []
    for start in range(0, len(wave) - size + 1, hop):
        frame = wave[start : start + size].astype(np.float64)
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(dft @ (frame * taper)) ** 2
        rows.append(np.log(np.maximum(bank @ power, np.finfo(np.float32).eps)))
    return np.array(rows)


@pytest.mark.parametrize("scale", [0.1, 0.1 * 2**15])
@pytest.mark.parametrize("window", ["povey", "hanning"])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_equals_torchaudio(rate, window, scale):
    wave = noise(rate + 77, batch=2, scale=scale, seed=rate)
    found, expected = fbank(wave, rate, window), torchaudio_fbank(wave, rate, window)
    assert found.shape == expected.shape
    difference = (found - expected).abs()
    # Rounding alone: torchaudio in single precision is as far from itself in double precision.
    assert difference.mean() < 2e-5
    assert (difference > 1e-3).float().mean() < 1e-4
    assert difference.max() < 5e-3


@pytest.mark.parametrize("filterbank", ["mel", "even"])
@pytest.mark.parametrize("window", ["povey", "hanning"])
@pytest.mark.parametrize(("rate", "bins"), [(8000, 40), (16000, 128), (48000, 128)])
def test_equals_explicit_sums(rate, bins, window, filterbank):
    wave = noise(rate // 20 + 13, batch=2, seed=1) + torch.tensor([[0.0], [0.5]])
    found = fbank(wave, rate, window, filterbank, bins).numpy()
    for row in range(2):
        expected = fbank_by_sums(wave[row].numpy(), rate, window, filterbank, bins)
        np.testing.assert_allclose(found[row], expected, atol=1e-3)


@pytest.mark.parametrize("filterbank", ["mel", "even"])
@pytest.mark.parametrize(("rate", "n_fft", "bins"), [(8000, 256, 128), (16000, 512, 128), (48000, 2048, 64)])
def test_filters_equal_the_formula_in_loops(rate, n_fft, bins, filterbank):
    expected = filters_by_loops(filterbank, rate, n_fft, bins)
    np.testing.assert_allclose(filters_of(filterbank, rate, n_fft, bins), expected, atol=1e-6)


def test_even_filters_see_all_frequencies_alike():
    n_fft = 1 << 16
    hz = np.arange(n_fft // 2 + 1) * (16000 / n_fft)
    step = (8000 - 20) / 129
    even, mel = (filters_of(name, 16000, n_fft).numpy().astype(np.float64) for name in ("even", "mel"))
    centres = (even @ hz) / even.sum(1)
    np.testing.assert_allclose(centres, 20 + step * np.arange(1, 129), atol=0.3)
    np.testing.assert_allclose(even.sum(1) * 16000 / n_fft, step, rtol=1e-2)  # area of a triangle two steps wide
    assert mel[-1].sum() > 5 * mel[0].sum()
    np.testing.assert_allclose(even[:-1, :].max(1), 1.0, atol=0.02)


@pytest.mark.parametrize("filterbank", ["mel", "even"])
def test_a_tone_is_loudest_in_the_filter_around_it(filterbank):
    hz = 3000.0
    wave = torch.sin(2 * torch.pi * hz * torch.arange(8000) / 16000)[None]
    found = fbank(wave, 16000, filterbank=filterbank).mean((0, 1)).argmax().item()
    scale = (lambda f: 1127 * np.log(1 + f / 700)) if filterbank == "mel" else float
    place = (scale(hz) - scale(20.0)) / (scale(8000.0) - scale(20.0)) * 129 - 1
    assert abs(found - place) <= 1


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (399, 1), (400, 1), (559, 1), (560, 2), (16000, 98)])
def test_frames_lie_within_the_signal(samples, frames):
    assert fbank(noise(samples), 16000).shape == (1, frames, 128)


def test_short_signals_are_filled_with_zeros():
    wave = noise(100)
    wave = wave - wave.mean()
    filled = torch.nn.functional.pad(wave, (0, 300))
    torch.testing.assert_close(fbank(wave, 16000), fbank(filled, 16000), atol=1e-4, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.3, -1.0, 0.3 * 2**15])
@pytest.mark.parametrize("samples", [1, 4000])
def test_a_constant_is_silence(level, samples):
    found = fbank(torch.full((1, samples), level), 16000)
    np.testing.assert_allclose(found, SILENCE, rtol=1e-6)
    assert np.finfo(np.float32).eps == FLOOR


def test_an_offset_changes_nothing():
    wave = noise(8000, scale=0.01)
    torch.testing.assert_close(fbank(wave + 0.5, 16000), fbank(wave, 16000), atol=2e-3, rtol=0)


def test_a_batch_and_pieces_equal_single_frames_at_once(monkeypatch):
    wave = noise(9000, batch=3)
    whole = fbank(wave, 16000)
    for row in range(3):
        torch.testing.assert_close(fbank(wave[row : row + 1], 16000)[0], whole[row], atol=1e-4, rtol=0)
    monkeypatch.setattr(kaldi, "BLOCK", 3 * 512 * 7)
    torch.testing.assert_close(fbank(wave, 16000), whole, atol=1e-4, rtol=0)
    monkeypatch.setattr(kaldi, "BLOCK", 1)
    torch.testing.assert_close(fbank(wave, 16000), whole, atol=1e-4, rtol=0)


def test_filters_are_computed_once():
    assert filters_of("even", 16000, 512) is filters_of("even", 16000, 512)


def test_the_wave_is_left_as_it_was():
    wave = noise(4000)
    before = wave.clone()
    fbank(wave, 16000)
    assert torch.equal(wave, before)


def test_gradients_after_a_first_call_without():
    filters_of.cache_clear()
    kaldi._window.cache_clear()
    wave = noise(1000)
    with torch.inference_mode():  # fills the caches
        expected = fbank(wave, 16000).clone()
    leaf = wave.clone().requires_grad_()
    found = fbank(leaf, 16000)
    torch.testing.assert_close(found.detach(), expected)
    found.mean().backward()
    step = 1e-3 * leaf.grad / leaf.grad.norm()
    up, down = (fbank(wave + sign * step, 16000).double().mean() for sign in (1, -1))
    slope = (up - down).item() / 2e-3
    assert slope == pytest.approx(leaf.grad.norm().item(), rel=0.02)


def test_unknown_names():
    with pytest.raises(WheeltapperError, match="window: expected one of povey, hanning, found 'hamming'"):
        fbank(noise(1000), 16000, window="hamming")
    with pytest.raises(WheeltapperError, match="filterbank: expected one of mel, even, found 'bark'"):
        fbank(noise(1000), 16000, filterbank="bark")
    with pytest.raises(WheeltapperError, match="rate: expected at least 100 Hz"):
        fbank(noise(1000), 50)
