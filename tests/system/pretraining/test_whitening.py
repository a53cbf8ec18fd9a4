"""Whitening against plain NumPy."""

import numpy as np
import torch

from system.pretraining.whitening import DECAY, Whitening

FLOOR = 0.1
GENERATOR = np.random.default_rng(3)
MIXING = GENERATOR.normal(size=(2, 5, 5)) * np.array([3.0, 1.0, 0.5, 0.2, 0.1])


def vectors(count: int) -> np.ndarray:
    """(count, 2 places, 5), with different means and covariances."""
    return np.einsum("npd,ped->npe", GENERATOR.normal(size=(count, 2, 5)), MIXING) + np.arange(10).reshape(2, 5)


def test_the_first_step_passes_through_and_the_next_are_white():
    whitening, x = Whitening(5, FLOOR, places=2), vectors(4000)
    assert torch.equal(whitening(torch.from_numpy(x)), torch.from_numpy(x))
    whitening.update()
    found = whitening(torch.from_numpy(x)).numpy()
    for place in range(2):
        covariance = np.cov(x[:, place].T, bias=True)
        root = np.linalg.cholesky(covariance + (FLOOR * np.trace(covariance) / 5 + 1e-6) * np.eye(5))
        expected = np.linalg.solve(root, (x[:, place] - x[:, place].mean(0)).T).T
        np.testing.assert_allclose(found[:, place], expected, atol=1e-9)
        eigenvalues = np.linalg.eigvalsh(np.cov(found[:, place].T))
        assert eigenvalues.max() < 1.0
        assert eigenvalues.max() / eigenvalues.min() < 0.1 * np.linalg.cond(covariance)


def test_channels_alone():
    whitening, x = Whitening(5, FLOOR, places=2, diagonal=True), vectors(1000)
    whitening(torch.from_numpy(x))
    whitening.update()
    variance = x.var(0)
    expected = (x - x.mean(0)) / np.sqrt(variance + FLOOR * variance.mean(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(whitening(torch.from_numpy(x)).numpy(), expected, atol=1e-9)


def test_what_the_codes_tell_is_taken_away():
    codes = GENERATOR.normal(size=(3000, 1, 2))
    content = vectors(3000)[:, :1]
    x = content + codes @ GENERATOR.normal(size=(2, 5))
    whitening = Whitening(5, FLOOR, codes=2)
    whitening(torch.from_numpy(x), torch.from_numpy(codes))
    whitening.update()
    found = whitening(torch.from_numpy(x), torch.from_numpy(codes)).numpy()[:, 0]
    design = np.hstack([np.ones((3000, 1)), codes[:, 0]])
    rest = x[:, 0] - design @ np.linalg.lstsq(design, x[:, 0], rcond=None)[0]
    covariance = rest.T @ rest / 3000
    root = np.linalg.cholesky(covariance + (FLOOR * np.trace(covariance) / 5 + 1e-6) * np.eye(5))
    np.testing.assert_allclose(found, np.linalg.solve(root, rest.T).T, atol=0.01)  # but for the ridge
    assert np.abs(np.corrcoef(found.T, codes[:, 0].T)[:5, 5:]).max() < 0.01


def test_earlier_steps_count_less():
    whitening = Whitening(5, FLOOR, places=2)
    for size in (10, 20, 30):
        whitening(torch.from_numpy(vectors(size)))
        whitening.update()
    count = whitening.moments[:, 0, 0].numpy()
    np.testing.assert_allclose(count, DECAY**2 * 10 + DECAY * 20 + 30)


def test_what_has_collapsed_is_not_blown_up():
    whitening = Whitening(5, FLOOR)
    same = torch.ones(20, 1, 5) + 1e-7 * torch.randn(20, 1, 5)
    whitening(same)
    whitening.update()
    assert whitening(same).abs().max() < 1e-2
