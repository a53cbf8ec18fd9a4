"""Statistics over time against NumPy."""

import numpy as np
import pytest

from system.config import SpectrumConfig
from system.errors import WheeltapperError
from system.frontends.kaldi import filters_of
from system.frontends.logmel import log_mel
from system.frontends.spectrum import describe

RATE = 16000


def wave(channels: int = 2) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((channels, RATE))).astype(np.float32)


def test_mean_and_quantile_of_merged_bands():
    sound = wave()
    spectrogram = log_mel(sound, RATE).astype(float)
    mean = describe(sound, RATE, SpectrumConfig())
    np.testing.assert_allclose(mean, spectrogram.mean(1), rtol=1e-5)
    found = describe(sound, RATE, SpectrumConfig(statistic="quantile", level=0.25, merge=2))
    low = np.sort(spectrogram, axis=1)
    place = 0.25 * (low.shape[1] - 1)
    below, share = int(place), place - int(place)
    quantile = (1 - share) * low[:, below] + share * low[:, below + 1]
    np.testing.assert_allclose(found, (quantile[:, 0::2] + quantile[:, 1::2]) / 2, rtol=1e-5)
    assert found.shape == (2, 64)


def test_a_low_quantile_hears_between_the_noises():
    quiet = 0.01 * wave(1)
    noisy = quiet.copy()
    noisy[:, : RATE // 2] += wave(1)[:, : RATE // 2]
    config = {name: SpectrumConfig(statistic=name, level=0.25) for name in ("mean", "quantile")}
    change = {name: np.abs(describe(noisy, RATE, c) - describe(quiet, RATE, c)).mean() for name, c in config.items()}
    assert change["mean"] > 15.0  # dB: half of the frames by 40
    assert change["quantile"] < 6.0


def test_even_bands():
    sound = wave(1)
    filters = filters_of("even", RATE, 512, 32).numpy().astype(float)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    padded = np.pad(sound[0].astype(float), 256)
    frames = np.stack([padded[i : i + 512] for i in range(0, len(padded) - 511, 256)])
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    found = describe(sound, RATE, SpectrumConfig(n_fft=512, hop=256, bands=32, filterbank="even"))
    np.testing.assert_allclose(found[0], (10 * np.log10(power @ filters.T)).mean(0), rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"merge": 3}, "expected a divisor of 128 bands, found 3"), ({"statistic": "mode"}, "found 'mode'")],
)
def test_refusals(settings, message):
    with pytest.raises(WheeltapperError, match=message):
        describe(wave(), RATE, SpectrumConfig(**settings))
