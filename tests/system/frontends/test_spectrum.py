"""Statistics over time against NumPy."""

from itertools import pairwise
from typing import get_args, get_type_hints

import numpy as np
import pytest

from system.config import SpectrumConfig
from system.errors import WheeltapperError
from system.frontends.kaldi import filters_of
from system.frontends.log_bands import log_filterbank
from system.frontends.logmel import log_mel
from system.frontends.spectrum import STATISTICS, Spectra, describe

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
    [
        ({"merge": 3}, "merge: expected a divisor of 128 bands, found 3"),
        ({"statistic": "mode"}, "statistic: expected one of mean, .*, found 'mode'"),
        ({"order": "statistic_first", "statistic": "crest"}, "order: expected bands_first with statistic crest"),
        ({"remove_level": True, "statistic": "change"}, "remove_level: expected false with statistic change"),
        ({"filterbank": "log", "high_hz": 10.0}, "high_hz: expected above 20 Hz, the lower edge, found 10"),
        ({"low_hz": 9000.0}, "low_hz: expected below 8000 Hz, half the sampling rate of the recordings, found 9000"),
        ({"statistic": "modulation", "hop": RATE}, "hop: expected below 16000 samples for statistic modulation"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(WheeltapperError, match=message):
        describe(wave(), RATE, SpectrumConfig(**settings))


def triangles(rate: int, n_fft: int, bands: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Triangles over the frequencies of the bins, one band after another; each at least a bin wide to either side."""
    edges = low_hz * (high_hz / low_hz) ** (np.arange(bands + 2) / (bands + 1))
    width, found = rate / n_fft, np.zeros((bands, n_fft // 2 + 1))
    for band in range(bands):
        low, centre, high = edges[band : band + 3]
        low, high = min(low, centre - width), max(high, centre + width)
        for number in range(n_fft // 2 + 1):
            hz = number * width
            if low < hz < high:
                found[band, number] = (hz - low) / (centre - low) if hz < centre else (high - hz) / (high - centre)
    return found / found.sum(1, keepdims=True)


def power_of(sound: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Power spectrogram (channels, frames, bins) in double precision."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.pad(sound.astype(float), ((0, 0), (n_fft // 2, n_fft // 2)))
    starts = range(0, padded.shape[1] - n_fft + 1, hop)
    return np.stack([np.abs(np.fft.rfft(padded[:, i : i + n_fft] * window)) ** 2 for i in starts], axis=1)


def db(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power)


def low_quantile(values: np.ndarray, level: float) -> np.ndarray:
    """Of values (channels, frames, ...) over the frames, between two of them by linear interpolation."""
    values = np.sort(values, axis=1)
    place = level * (values.shape[1] - 1)
    below, share = int(place), place - int(place)
    return (1 - share) * values[:, below] + share * values[:, below + 1]


def envelope_spectrum(power: np.ndarray, frame_rate: float, bands: int) -> np.ndarray:
    """In dB, (channels, bands of the sound, bands of the modulation), by sums of cosines and sines."""
    frames = power.shape[1]
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(frames) + 0.5) / frames)
    envelope = (power / power.mean(1, keepdims=True) - 1) * taper[:, None]
    angles = 2 * np.pi * np.arange(frames // 2 + 1)[:, None] * np.arange(frames) / frames
    parts = (np.einsum("kt,ctb->cbk", wave(angles), envelope) ** 2 for wave in (np.cos, np.sin))
    return db(sum(parts) / (taper**2).sum() @ triangles(frame_rate, frames, bands, 0.5, frame_rate / 2).T)


def segment_means(power: np.ndarray, count: int) -> np.ndarray:
    edges = np.arange(count + 1) * power.shape[1] / count
    return np.stack([power[:, int(a) : int(np.ceil(b))].mean(1) for a, b in pairwise(edges)], 1)


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 512), (8192, 2048)])
def test_every_statistic_against_numpy(n_fft, hop):
    generator = np.random.default_rng(1)
    sound = (wave() * np.exp(generator.normal(size=(2, 40)).cumsum(1).repeat(RATE // 40, 1) / 4)).astype(np.float32)
    power, filters = power_of(sound, n_fft, hop), triangles(RATE, n_fft, 24, 10, 4000)
    bands = power @ filters.T
    levels, ratio = db(bands), bands / bands.mean(1, keepdims=True) - 1
    expected = {
        "mean": levels.mean(1),
        "quantile": low_quantile(levels, 0.95),
        "power_mean": db(bands.mean(1)),
        "deviation": levels.std(1),
        "crest": levels.max(1) - db(bands.mean(1)),
        "change": (levels[:, 1:] - levels[:, :-1]).std(1),
        "modulation": envelope_spectrum(bands, RATE / hop, 5).reshape(2, -1),
        "kurtosis": db((ratio**4).mean(1) / (ratio**2).mean(1) ** 2),
        "frames": db(segment_means(bands, 7)),
    }
    assert set(expected) == set(STATISTICS) == set(get_args(get_type_hints(SpectrumConfig)["statistic"]))
    layout = {"n_fft": n_fft, "hop": hop, "bands": 24, "filterbank": "log", "low_hz": 10.0, "high_hz": 4000.0}
    configs = {
        name: SpectrumConfig(**layout, statistic=name, level=0.95, modulation_bands=5, segments=7) for name in expected
    }
    found = {name: describe(sound, RATE, config) for name, config in configs.items()}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=2e-3, err_msg=name)
        assert found[name][0].size == configs[name].row_size, name
    shared = Spectra(sound, RATE)
    for name in reversed(expected):
        assert shared.describe(configs[name]).tobytes() == found[name].tobytes(), name
    merged = describe(sound, RATE, SpectrumConfig(**layout, statistic="modulation", modulation_bands=5, merge=3))
    threes = bands.reshape(2, bands.shape[1], -1, 3).mean(3)
    np.testing.assert_allclose(merged, envelope_spectrum(threes, RATE / hop, 5).reshape(2, -1), atol=2e-3)


@pytest.mark.parametrize("statistic", ["mean", "quantile", "power_mean"])
def test_the_statistic_of_each_bin_before_the_bands(statistic):
    sound = wave()
    power = power_of(sound, 1024, 512)
    bins = {
        "mean": np.exp(np.log(power).mean(1)),
        "quantile": low_quantile(power, 0.1),
        "power_mean": power.mean(1),
    }[statistic]
    expected = db(bins @ triangles(RATE, 1024, 32, 20, RATE / 2).T)
    config = {"bands": 32, "filterbank": "log", "statistic": statistic, "order": "statistic_first"}
    np.testing.assert_allclose(describe(sound, RATE, SpectrumConfig(**config)), expected, atol=1e-3)
    found = describe(sound, RATE, SpectrumConfig(**config, remove_level=True, merge=2))
    merged = expected.reshape(2, -1, 2).mean(2)
    np.testing.assert_allclose(found, merged - merged.mean(1, keepdims=True), atol=1e-3)


def test_the_level_of_a_clip_is_removed_from_all_its_frames():
    config = SpectrumConfig(statistic="frames", segments=4, remove_level=True)
    found = describe(wave(), RATE, config)
    np.testing.assert_allclose(found, describe(10 * wave(), RATE, config), atol=1e-3)
    np.testing.assert_allclose(found.mean((1, 2)), 0.0, atol=1e-4)
    assert np.abs(found.mean(2)).max() > 0.01  # a frame louder than the others stays louder


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("sound", [wave(1)[:, :10], np.zeros((1, 4000), np.float32)], ids=["short", "silent"])
def test_short_and_silent_recordings_have_finite_rows(statistic, sound):
    config = SpectrumConfig(8192, 4096, 96, "log", 10.0, 4000.0, statistic, segments=5)
    found = describe(sound, RATE, config)
    assert found.size == config.row_size
    assert np.isfinite(found).all()


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize(("n_fft", "bands", "low_hz"), [(1024, 128, 20.0), (8192, 96, 10.0), (512, 64, 1.0)])
def test_log_bands_at_every_rate(rate, n_fft, bands, low_hz):
    filters = log_filterbank(rate, n_fft, bands, low_hz).numpy().astype(float)
    np.testing.assert_allclose(filters, triangles(rate, n_fft, bands, low_hz, rate / 2), atol=1e-6)
    np.testing.assert_allclose(filters.sum(1), 1.0, rtol=1e-5)  # flat noise has the same level in all bands
    # A narrow band is the power at its centre, read off a line between two bins.
    centres = np.geomspace(low_hz, rate / 2, bands + 2)
    bins, width = np.arange(n_fft // 2 + 1), rate / n_fft
    narrow = np.flatnonzero(np.diff(centres)[1:] < width)
    np.testing.assert_allclose(filters[narrow] @ bins, centres[narrow + 1] / width, rtol=1e-4)
    means = filters @ bins
    assert (np.diff(means) > 0).all()
    assert (np.abs(np.diff(filters, axis=0)).sum(1) > 1e-4).all()


def test_filters_above_half_the_rate_are_cut():
    sound = wave(1)
    for filterbank in ("mel", "even", "log"):
        layout = {"filterbank": filterbank, "bands": 16, "low_hz": 100.0}
        cut = describe(sound, RATE, SpectrumConfig(**layout, high_hz=20000.0))
        np.testing.assert_array_equal(cut, describe(sound, RATE, SpectrumConfig(**layout)))
        assert (cut != describe(sound, RATE, SpectrumConfig(**layout, high_hz=5000.0))).all()


def band_powers(sound: np.ndarray) -> np.ndarray:
    """(frames, bands) of one channel by the spectrogram in dB."""
    return 10.0 ** (log_mel(sound[None], RATE)[0].astype(float) / 10.0)


@pytest.mark.parametrize("exponent", [-1.0, 0.5, 2.0, 4.0])
@pytest.mark.parametrize("weight", ["equal", "far"])
def test_power_means_with_weights_of_the_far_microphone(exponent, weight):
    near, far = wave() * np.array([[1.0], [0.3]], np.float32)
    far = (far * np.linspace(0.1, 3.0, RATE)).astype(np.float32)
    power, noise = band_powers(near), band_powers(far)
    smooth = np.stack([noise[max(0, t - 1) : t + 2].mean(axis=0) for t in range(len(noise))])
    weights = 1.0 / (smooth + 0.003 * smooth.mean(axis=0)) if weight == "far" else np.ones_like(noise)
    weights /= weights.sum(axis=0)
    expected = 10.0 * np.log10((weights * power**exponent).sum(axis=0) ** (1.0 / exponent))
    settings = SpectrumConfig(statistic="power_mean", exponent=exponent, weight=weight)
    np.testing.assert_allclose(Spectra(near[None], RATE, far).describe(settings)[0], expected, rtol=1e-4)
    deviation = np.sqrt((weights * (10 * np.log10(power)) ** 2).sum(0) - ((weights * 10 * np.log10(power)).sum(0)) ** 2)
    settings = SpectrumConfig(statistic="deviation", weight=weight)
    np.testing.assert_allclose(Spectra(near[None], RATE, far).describe(settings)[0], deviation, rtol=1e-3)


def test_weights_hear_the_machine_while_the_far_noise_pauses():
    machine, noise = 0.01 * wave(1)[0], wave(1)[0]
    noise = noise * (np.arange(RATE) % 4000 < 2000)
    near = (machine + 0.5 * noise).astype(np.float32)
    quiet = describe(machine[None], RATE, SpectrumConfig(statistic="power_mean"))
    error = {}
    for weight in ("equal", "far"):
        found = Spectra(near[None], RATE, noise).describe(SpectrumConfig(statistic="power_mean", weight=weight))
        error[weight] = np.abs(found - quiet).mean()
    assert error["equal"] > 25.0  # dB
    assert error["far"] < 15.0


def test_a_mono_recording_has_equal_weights():
    sound = wave(1)
    for name in ("mean", "power_mean", "deviation", "change"):
        equal, far = (SpectrumConfig(statistic=name, weight=weight) for weight in ("equal", "far"))
        np.testing.assert_array_equal(describe(sound, RATE, far), describe(sound, RATE, equal))
