import numpy as np
import pytest
from emulate_inputs import RATE, make_inputs, write_wave

from system.corpora.simulation import noise as noise_module
from system.corpora.simulation.noise import NoisePool, crossfade, split_noise
from system.errors import WheeltapperError


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def test_crossfade_keeps_power_and_ends():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 20000)).astype(np.float32)
    joined = crossfade(first, second, 8000)
    assert len(joined) == 32000
    np.testing.assert_array_equal(joined[:12000], first[:12000])
    np.testing.assert_array_equal(joined[-12000:], second[-12000:])
    assert np.mean(joined[12000:20000] ** 2) == pytest.approx(1, abs=0.06)


def test_noise_group_keeps_takes_together(inputs):
    for seed in range(5):
        train, test = split_noise(inputs[1], seed, sources=1, group=r"kind(\d)")
        assert (
            len({file.split("/")[0] for file in train.files}) == len({file.split("/")[0] for file in test.files}) == 1
        )
        assert len(train.files) + len(test.files) == 9


def test_long_noise_is_entered_anywhere_and_short_noise_is_strung_together(tmp_path):
    ramp = np.linspace(0.1, 0.9, 10 * RATE)
    write_wave(tmp_path / "long.wav", ramp, subtype="FLOAT")
    pool = NoisePool(tmp_path, ("long.wav",))
    rng = np.random.default_rng(0)
    starts = [pool.draw(rng, 1, RATE, RATE)[0][0] for _ in range(8)]
    slopes = [wave[-1] / wave[0] for wave in starts]  # tells the place: the ramp grows by a fixed step
    assert len({round(float(slope), 2) for slope in slopes}) > 4
    for k in range(3):
        write_wave(tmp_path / f"{k}.wav", 0.1 * rng.standard_normal(RATE // 2))
    waves, names = NoisePool(tmp_path, ("0.wav", "1.wav", "2.wav")).draw(rng, 2, 2 * RATE, RATE)
    assert waves.shape == (2, 2 * RATE)
    assert all(len(played) >= 4 for played in names)
    assert np.abs(np.square(waves.reshape(2, 8, -1)).mean(axis=2) - 1).max() < 0.3


def test_silent_noise_is_passed_over_and_all_silent_refused(tmp_path):
    write_wave(tmp_path / "silent.wav", np.zeros(RATE))
    write_wave(tmp_path / "loud.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE))
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert NoisePool(tmp_path, ("silent.wav", "loud.wav")).draw(rng, 1, RATE // 2, RATE)[1] == [["loud.wav"]]
    with pytest.raises(WheeltapperError, match=r"expected noise, found only silence"):
        NoisePool(tmp_path, ("silent.wav",)).draw(rng, 1, RATE // 2, RATE)


def test_noise_pieces_shorter_than_a_click_are_not_used(tmp_path):
    write_wave(tmp_path / "click.wav", 0.5 * np.ones(int(0.5 * noise_module.MIN_SECONDS * RATE)))
    with pytest.raises(WheeltapperError, match="pieces under"):
        NoisePool(tmp_path, ("click.wav",)).draw(np.random.default_rng(0), 1, RATE, RATE)
