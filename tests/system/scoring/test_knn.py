"""Nearest-neighbour scores against plain NumPy."""

import numpy as np
import pytest

from system import scoring
from system.errors import WheeltapperError
from system.scoring.knn import KnnScorer


def clips(count: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim))


def plain(references: np.ndarray, clip: np.ndarray, k: int) -> float:
    distances = [1 - r @ clip / np.linalg.norm(r) / np.linalg.norm(clip) for r in references]
    return float(np.mean(sorted(distances)[:k]))


def fit(references, k=3) -> KnnScorer:
    return KnnScorer(k).fit(references, np.array(["source"] * len(references)))


@pytest.mark.parametrize("k", [1, 3, 19, 20, 50])
def test_scores(k):
    references, tests = clips(20), clips(7, seed=1)
    expected = [plain(references, clip, k) for clip in tests]
    np.testing.assert_allclose(fit(references, k).score(tests), expected, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 19, 50])
def test_leave_one_out(k):
    references = clips(20)
    expected = [plain(np.delete(references, i, axis=0), references[i], k) for i in range(20)]
    np.testing.assert_allclose(fit(references, k).reference_scores(), expected, rtol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
def test_few_references(count):
    references = clips(count)
    expected = [plain(np.delete(references, i, axis=0), references[i], 3) for i in range(count)]
    np.testing.assert_allclose(fit(references).reference_scores(), expected, rtol=1e-12)


def test_one_reference_is_too_few():
    with pytest.raises(WheeltapperError, match="expected at least 2 clips, found 1"):
        fit(clips(1))


def test_a_known_clip_is_no_distance_away():
    references = np.repeat(clips(4), 3, axis=0)
    found = fit(references).score(references)
    assert (found >= 0).all()
    assert found.max() < 1e-12
    assert fit(references, 2).reference_scores().max() < 1e-12  # its two twins


def test_length_does_not_count():
    references, tests = clips(10), clips(4, seed=1)
    scaled = fit(references * np.arange(1, 11)[:, None]).score(tests * 1e-4)
    np.testing.assert_allclose(scaled, fit(references).score(tests), rtol=1e-12)


def test_an_embedding_of_zeros_is_at_right_angles_to_all():
    assert fit(clips(5)).score(np.zeros((1, 6))).tolist() == [1.0]


@pytest.mark.parametrize("k", [0, -1])
def test_no_neighbours(k):
    with pytest.raises(WheeltapperError, match=f"k: expected at least 1, found {k}"):
        scoring.build("knn", k=k)
