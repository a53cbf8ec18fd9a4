"""t-SNE maps: neighbours are preserved, results are reproducible, few and invalid embeddings."""

import numpy as np
import pytest

from system.errors import WheeltapperError
from system.explain.tsne import tsne, tsne_each


def blobs(count: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three clusters in twelve dimensions, and the cluster of each point."""
    generator = np.random.default_rng(seed)
    centres = 6 * generator.normal(size=(3, 12))
    labels = np.repeat(np.arange(3), count)
    return centres[labels] + generator.normal(size=(3 * count, 12)), labels


def test_clouds_stay_apart():
    vectors, labels = blobs()
    found = tsne(vectors, 0)
    assert found.shape == (60, 2)
    between = np.sqrt(((found[:, None] - found[None]) ** 2).sum(-1))
    np.fill_diagonal(between, np.inf)
    assert (labels[between.argmin(1)] == labels).all()


def test_a_function_of_the_vectors_and_the_seed():
    vectors, _ = blobs(8)
    np.random.seed(3)  # noqa: NPY002 (what the global generator holds must not matter)
    first = tsne(vectors.astype(np.float32), 5)
    np.random.seed(4)  # noqa: NPY002
    assert np.array_equal(first, tsne(vectors.astype(np.float32), 5))


@pytest.mark.parametrize("count", [4, 5, 31, 32])
def test_few_clips(count):
    vectors = np.random.default_rng(0).normal(size=(count, 6))
    found = tsne(vectors)
    assert found.shape == (count, 2)
    assert np.isfinite(found).all()
    assert len(np.unique(found.round(6), axis=0)) == count


def test_equal_vectors_lie_in_one_place():
    assert not tsne(np.full((9, 5), 3.7)).any()


def test_some_equal_vectors_and_one_direction():
    line = np.outer(np.arange(12.0), np.arange(1.0, 6.0))
    line[5:] = line[5]
    found = tsne(line)
    assert np.isfinite(found).all()
    assert np.ptp(found[5:], axis=0).max() < np.ptp(found, axis=0).max()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_does_not_matter(scale):
    vectors, _ = blobs(6)
    between = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (tsne(vectors), tsne(scale * vectors))]
    nearest = [(x + np.diag(np.full(18, np.inf))).argmin(1) // 6 for x in between]
    assert np.array_equal(*nearest)


@pytest.mark.parametrize("shape", [(3, 8), (0, 8), (9,), (9, 1)])
def test_too_few_or_misshapen_are_refused(shape):
    with pytest.raises(WheeltapperError, match=r"t-SNE: expected 4 embeddings \(N, D\) or more, found shape"):
        tsne(np.zeros(shape))


def test_nan_is_refused():
    vectors, _ = blobs(4)
    vectors[2, 3] = np.nan
    with pytest.raises(WheeltapperError, match="t-SNE: expected finite embeddings"):
        tsne(vectors)


def test_groups_at_once_are_those_of_one_by_one():
    groups = [np.random.default_rng(number).normal(size=(20 + number, 6)) for number in range(3)]
    found = tsne_each(groups, 2)
    assert all(np.array_equal(places, tsne(group, 2)) for places, group in zip(found, groups, strict=True))
