"""Pooling against plain NumPy, crops and grouping."""

import numpy as np
import pytest
import torch

from system import audio
from system.crops import group_by, near_and_far, read_crop
from system.encoders.base import Tokens
from system.errors import WheeltapperError
from system.pooling import pool_tokens, select

TOKENS = Tokens(torch.randn(2, 5, 6, 4), torch.randn(2, 3, 4))


def test_pooling():
    grid = TOKENS.grid.numpy()
    np.testing.assert_allclose(pool_tokens(TOKENS.grid, "mean"), grid.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(pool_tokens(TOKENS.grid, "band"), grid.mean(1).reshape(2, 24), atol=1e-6)
    assert select(TOKENS, "band") is TOKENS.grid
    cls = pool_tokens(select(TOKENS, "cls"), "cls")
    np.testing.assert_array_equal(cls, TOKENS.summary.numpy().reshape(2, 12))
    with pytest.raises(
        WheeltapperError, match="pool: expected one of mean, .*, rdp, found 'max'"
    ):
        pool_tokens(TOKENS.grid, "max")


def test_a_crop_is_a_stretch_of_the_recording(record):
    clip = record("a.wav", seconds=1.0)
    whole, _ = audio.read(clip.path)
    starts = set()
    for seed in range(6):
        crop = read_crop(clip, 0.25, 8000, np.random.default_rng(seed))
        assert crop.shape == (2, 2000)
        places = [s for s in range(6001) if np.array_equal(whole[:, s : s + 20], crop[:, :20])]
        assert len(places) == 1
        np.testing.assert_array_equal(crop, whole[:, places[0] : places[0] + 2000])
        starts.update(places)
    assert len(starts) > 3


@pytest.mark.parametrize(("rate", "new", "seconds"), [(16000, 8000, 0.3), (8000, 12000, 0.37), (44100, 16000, 0.2)])
def test_a_crop_at_another_rate(record, rate, new, seconds):
    crop = read_crop(record("a.wav", rate=rate), seconds, new, np.random.default_rng(0))
    assert crop.shape == (2, round(seconds * new))
    assert np.isfinite(crop).all()


def test_a_short_recording_is_repeated(record):
    clip = record("a.wav", seconds=0.1)
    whole, _ = audio.read(clip.path)
    crop = read_crop(clip, 0.25, 8000, np.random.default_rng(0))
    np.testing.assert_array_equal(crop, np.tile(whole, (1, 3))[:, :2000])


def test_channels():
    mono, three = np.ones((1, 4)), np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(near_and_far(mono), np.ones((2, 4)))
    np.testing.assert_array_equal(near_and_far(three), three[:2])


def test_groups(train_clips):
    assert group_by(train_clips, "machine") == {("fan",): [0, 1, 2, 3], ("pump",): [4, 5, 6, 7]}
    found = group_by(train_clips[::-1], "machine", "domain")
    assert list(found) == [("pump", "target"), ("pump", "source"), ("fan", "target"), ("fan", "source")]
    assert found["pump", "source"] == [1, 2, 3]
