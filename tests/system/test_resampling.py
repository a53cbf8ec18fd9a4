"""Change of the sampling rate against ideal band-limited signals, for common and for odd pairs of rates."""

import numpy as np
import pytest
import scipy.fft
import torch
import torchaudio

from system import audio
from system.errors import WheeltapperError

FLAT = 0.02  # dB
REJECTED = -80.0  # dB
DOWN = [(22050, 16000), (44100, 16000), (44101, 16000), (48000, 16000), (96000, 16000), (192000, 16000)]
UP = [(8000, 16000), (11025, 16000), (12001, 16000), (15999, 16000), (16000, 44101), (16000, 48000), (16000, 192000)]


def tones(hertz: np.ndarray, rate: int, samples: int) -> np.ndarray:
    """float32 (len(hertz), samples) of sines of half the full scale."""
    phase = 0.3 + np.arange(len(hertz))
    return (0.5 * np.sin(2 * np.pi * hertz[:, None] * np.arange(samples) / rate + phase[:, None])).astype(np.float32)


def inner(wave: np.ndarray) -> np.ndarray:
    """All but the ends, where a tone begins and stops."""
    cut = wave.shape[-1] // 5
    return wave[..., cut:-cut].astype(np.float64)


def decibels(found: np.ndarray, reference: float) -> np.ndarray:
    return 20 * np.log10(np.sqrt(np.mean(found**2, axis=-1)) / reference + 1e-12)


def zero_padded(wave: np.ndarray, samples: int) -> np.ndarray:
    """Lossless change of the length of a period, by zeros above its spectrum (SciPy, double precision)."""
    spectrum = scipy.fft.rfft(np.asarray(wave, np.float64))
    padded = np.zeros((*wave.shape[:-1], samples // 2 + 1), complex)
    padded[..., : spectrum.shape[-1]] = spectrum
    padded[..., wave.shape[-1] // 2] /= 2.0  # half of the Nyquist frequency's energy is the negative frequency's
    return scipy.fft.irfft(padded, samples) * (samples / wave.shape[-1])


@pytest.mark.parametrize(("rate", "new"), DOWN + UP)
def test_tones_of_the_band_keep_level_phase_and_frequency(rate, new):
    band = min(rate, new) / 2
    hertz = band * np.array([0.001, 0.1, 0.5, 0.8125, 0.9, 0.95, 0.99])
    found = audio.resample(tones(hertz, rate, rate), rate, new)
    assert found.shape == (len(hertz), new)
    assert found.dtype == np.float32
    ideal = tones(hertz, new, new)
    np.testing.assert_allclose(decibels(inner(found), 0.5 / np.sqrt(2))[1:], 0.0, atol=FLAT)
    np.testing.assert_allclose(inner(found), inner(ideal), atol=2e-3)


@pytest.mark.parametrize(("rate", "new"), DOWN)
def test_tones_above_the_band_are_not_mirrored_into_it(rate, new):
    hertz = np.array([1.005, 1.01, 1.05, 1.15, 1.3]) * new / 2
    found = audio.resample(tones(hertz, rate, rate), rate, new)
    assert decibels(inner(found), 0.5 / np.sqrt(2)).max() < REJECTED


@pytest.mark.parametrize(("rate", "new"), UP)
def test_nothing_is_added_above_the_band(rate, new):
    found = audio.resample(tones(np.array([0.2, 0.95]) * rate / 2, rate, rate), rate, new)
    window = np.hanning(found.shape[1])
    power = np.abs(scipy.fft.rfft(found * window)) ** 2
    above = np.arange(power.shape[1]) * new / found.shape[1] > 1.005 * rate / 2
    assert 10 * np.log10(power[:, above].sum(1) / power.sum(1) + 1e-20).max() < REJECTED


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_clip_of_another_recorder_comes_back(rate):
    wave = np.random.default_rng(0).normal(0, 0.1, (2, 32000)).astype(np.float32)
    there = zero_padded(wave, 2 * rate).astype(np.float32)
    difference = inner(audio.resample(there, rate, 16000)) - inner(wave)
    # 0.2 % of the band is the transition: of white noise 0.1 % of the energy.
    assert decibels(difference, 0.1).max() < -28
    voiced = scipy.fft.rfft(wave)
    voiced[:, int(0.99 * voiced.shape[1]) :] = 0
    wave = scipy.fft.irfft(voiced).astype(np.float32)
    back = audio.resample(zero_padded(wave, 2 * rate).astype(np.float32), rate, 16000)
    np.testing.assert_allclose(inner(back), inner(wave), atol=1e-3 * np.abs(wave).max())


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000, 44101])
def test_band_noise_is_flat(rate):
    new, low = 16000, min(rate, 16000)
    noise = np.random.default_rng(1).normal(0, 0.1, (1, rate)).astype(np.float32)
    spectrum = np.abs(scipy.fft.rfft(audio.resample(noise, rate, new))[0]) / new
    reference = np.abs(scipy.fft.rfft(noise)[0]) / rate
    edges = np.linspace(0.05, 0.95, 19) * low / 2
    for start, stop in zip(edges[:-1].astype(int), edges[1:].astype(int), strict=True):
        change = 10 * np.log10(np.mean(spectrum[start:stop] ** 2) / np.mean(reference[start:stop] ** 2))
        assert abs(change) < 0.1, (start, change)


@pytest.mark.parametrize("new", [8000, 16000, 44101])
def test_lengths_round_up(new):
    for samples in (1, 2, 799, 800, 801):
        assert audio.resample(np.ones((2, samples), np.float32), 12000, new).shape == (2, -(-samples * new // 12000))


def test_to_the_same_rate_is_nothing():
    wave = np.ones((2, 10), np.float32)
    assert audio.resample(wave, 8000, 8000) is wave
    assert audio.resampler(8000, 8000)(torch.ones(2, 10)).shape == (2, 10)


@pytest.mark.parametrize("convert", [audio.resample, lambda wave, *rates: audio.resampler(*rates)(torch.tensor(wave))])
@pytest.mark.parametrize(
    ("rate", "new", "message"),
    [
        (8000, 0, "rate: expected a number of Hz above zero, found 0"),
        (8000, -8000, "rate: expected a number of Hz above zero, found -8000"),
        (1, 16000, "rate: expected at least 32 Hz to resample to 16000 Hz, found 1 Hz"),
        (10, 96000, "rate: expected at least 192 Hz"),
    ],
)
def test_impossible_rates(convert, rate, new, message):
    with pytest.raises(WheeltapperError, match=message):
        convert(np.ones((1, 10), np.float32), rate, new)


def test_channels_do_not_change_one_another():
    wave = np.random.default_rng(0).normal(0, 0.1, (3, 4000)).astype(np.float32)
    together = audio.resample(wave, 12001, 16000)
    for channel in range(3):
        np.testing.assert_array_equal(together[channel], audio.resample(wave[channel : channel + 1], 12001, 16000)[0])


@pytest.mark.parametrize(("rate", "new"), [(48000, 16000), (8000, 16000), (44101, 16000)])
def test_tensors_with_and_without_gradients_are_the_same(rate, new):
    wave = np.random.default_rng(0).normal(0, 0.1, (2, 4000)).astype(np.float32)
    expected = audio.resample(wave, rate, new)
    with torch.inference_mode():
        np.testing.assert_array_equal(audio.resampler(rate, new)(torch.from_numpy(wave)).numpy(), expected)
    learned = torch.from_numpy(wave).requires_grad_()
    found = audio.resampler(rate, new)(learned)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)
    found.square().sum().backward()
    assert learned.grad is not None
    assert torch.isfinite(learned.grad).all()
    assert learned.grad.abs().max() > 0


@pytest.mark.parametrize(("rate", "new"), [(44100, 16000), (16000, 32000)])
def test_the_resampling_of_published_programs_is_torchaudios(rate, new):
    wave = np.random.default_rng(0).normal(0, 0.1, (2, rate // 4)).astype(np.float32)
    expected = torchaudio.functional.resample(torch.from_numpy(wave).double(), rate, new).numpy()
    with torch.inference_mode():
        audio.official_resampler(rate, new)(torch.from_numpy(wave))  # the kernel is kept for training too
    learned = torch.from_numpy(wave).requires_grad_()
    found = audio.official_resampler(rate, new)(learned)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-6)
    found.square().sum().backward()
    assert learned.grad is not None
    assert audio.official_resampler(rate, new) is audio.official_resampler(rate, new)


def test_rates_whose_published_kernel_would_fill_the_memory():
    wave = np.random.default_rng(0).normal(0, 0.1, (1, 4410)).astype(np.float32)
    found = audio.official_resampler(44101, 16000)(torch.from_numpy(wave))
    np.testing.assert_array_equal(found.numpy(), audio.resample(wave, 44101, 16000))
