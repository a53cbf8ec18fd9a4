"""Pooling against plain NumPy, crops and grouping."""

import numpy as np
import pytest
import torch

from system import audio
from system.config import POOLS
from system.encoders.base import Tokens
from system.encoders.pooling import Pooling, pool_tokens, select
from system.errors import WheeltapperError
from system.manifest import group_by
from system.training.crops import read_crop

GENERATOR = torch.Generator().manual_seed(0)
TOKENS = Tokens(torch.randn(2, 5, 6, 4, generator=GENERATOR), torch.randn(2, 3, 4, generator=GENERATOR))


def test_pooling():
    grid = TOKENS.grid.numpy()
    np.testing.assert_allclose(pool_tokens(TOKENS.grid, "mean"), grid.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(pool_tokens(TOKENS.grid, "band"), grid.mean(1).reshape(2, 24), atol=1e-6)
    assert select(TOKENS, "band") is TOKENS.grid
    cls = pool_tokens(select(TOKENS, "cls"), "cls")
    np.testing.assert_array_equal(cls, TOKENS.summary.numpy().reshape(2, 12))
    with pytest.raises(WheeltapperError, match=r"pool: expected one of mean, .*, rdp, found 'max'"):
        pool_tokens(TOKENS.grid, "max")


def test_generalised_mean():
    grid = TOKENS.grid.double().numpy()
    for power in (1.0, 3.0, 5.5):
        expected = (np.maximum(grid, 1e-6) ** power).mean(1) ** (1 / power)
        np.testing.assert_allclose(pool_tokens(TOKENS.grid, "gem", power), expected.reshape(2, 24), rtol=1e-4)
    np.testing.assert_array_equal(pool_tokens(TOKENS.grid, "gem"), pool_tokens(TOKENS.grid, "gem", 3.0))


def plain_rdp(grid: np.ndarray, gamma: float) -> np.ndarray:
    out = np.zeros((grid.shape[0], grid.shape[2], grid.shape[3]))
    for b in range(grid.shape[0]):
        for f in range(grid.shape[2]):
            x = grid[b, :, f]
            distance = np.linalg.norm(x - x.mean(0), axis=1)
            distance = distance / distance.max() if distance.max() > 0 else distance
            weight = (1 + distance) ** gamma
            out[b, f] = (weight / weight.sum()) @ x
    return out.reshape(len(grid), -1)


def test_relative_deviation():
    grid = TOKENS.grid.clone()
    grid[1, :, 2] = grid[1, 0, 2].clone()  # a band that never changes
    for power in (1.0, 4.0, 8.0):
        expected = plain_rdp(grid.double().numpy(), power)
        np.testing.assert_allclose(pool_tokens(grid, "rdp", power), expected, atol=1e-5)
    np.testing.assert_array_equal(pool_tokens(grid, "rdp"), pool_tokens(grid, "rdp", 4.0))
    outlier = torch.zeros(1, 10, 1, 2)
    outlier[0, 3] = torch.tensor([1.0, -1.0])
    assert pool_tokens(outlier, "rdp")[0, 0] > pool_tokens(outlier, "mean")[0, 0]


def test_attentive_statistics():
    torch.manual_seed(0)
    pooling = Pooling("attentive", 0.0, 4)
    hidden, _, score = pooling.attentive.attention
    tokens = TOKENS.grid.flatten(1, 2).double().numpy()
    w, b = hidden.weight.detach().double().numpy(), hidden.bias.detach().double().numpy()
    v = score.weight.detach().double().numpy()[0]
    for clip, found in zip(tokens, pooling(TOKENS.grid).detach().numpy(), strict=True):
        energy = np.tanh(clip @ w.T + b) @ v
        weight = np.exp(energy - energy.max())
        weight /= weight.sum()
        mean = weight @ clip
        deviation = np.sqrt(weight @ (clip - mean) ** 2)
        np.testing.assert_allclose(found, np.concatenate([mean, deviation]), atol=1e-5)
    pooling(TOKENS.grid).sum().backward()
    assert hidden.weight.grad.abs().sum() > 0
    assert torch.isfinite(Pooling("attentive", 0.0, 4)(torch.ones(1, 3, 2, 4))).all()
    with pytest.raises(WheeltapperError, match="attentive pooling must be trained first"):
        pool_tokens(TOKENS.grid, "attentive")


@pytest.mark.parametrize("pool", [p for p in POOLS if p != "attentive"])
def test_pooling_as_a_module(pool):
    grid = select(TOKENS, pool)
    np.testing.assert_array_equal(Pooling(pool, 2.0, 4)(grid), pool_tokens(grid, pool, 2.0))


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


def test_groups(train_clips):
    assert group_by(train_clips, "machine") == {("fan",): [0, 1, 2, 3], ("pump",): [4, 5, 6, 7]}
    found = group_by(train_clips[::-1], "machine", "domain")
    assert list(found) == [("pump", "target"), ("pump", "source"), ("fan", "target"), ("fan", "source")]
    assert found["pump", "source"] == [1, 2, 3]
