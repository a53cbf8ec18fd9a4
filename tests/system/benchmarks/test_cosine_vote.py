"""Classification by cosines: equal to double precision also where single precision cannot decide."""

import numpy as np
import pytest

from system.benchmarks.cosine_vote import _Similarities, classify, tally


def plain(embeddings, labels, test, k, absent=0.0) -> np.ndarray:
    """One row and one class at a time, in double precision."""
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    memory = np.flatnonzero(~test)
    found = np.full(len(labels), -1)
    for row in np.flatnonzero(test):
        cosines = unit[memory] @ unit[row]
        near = np.argsort(-cosines, kind="stable")[:k]
        sums = [
            cosines[near][labels[memory[near]] == c].sum() if c in labels[memory[near]] else absent
            for c in range(labels.max() + 1)
        ]
        found[row] = np.argmax(sums)
    return found


def example(count=300, dim=24, classes=5, offset=0.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % classes)
    embeddings = generator.normal(size=(classes, dim))[labels] + generator.normal(0, 2.0, (count, dim)) + offset
    tests = generator.random((6, count)) < np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.97])[:, None]
    return embeddings.astype(np.float32), labels, tests


@pytest.mark.parametrize("offset", [0.0, 30.0, 3e4])
@pytest.mark.parametrize("k", [1, 5, 400])
def test_equals_a_plain_computation(offset, k):
    embeddings, labels, tests = example(offset=offset)
    expected = [plain(embeddings, labels, test, k) for test in tests]
    np.testing.assert_array_equal(classify(embeddings, labels, tests, k), expected)


@pytest.mark.parametrize("spread", [0.3, 0.0])
def test_where_the_nearest_are_all_test_rows(spread):
    """Walks that go deeper than was sorted at first: whole clusters, or many equal rows, are on the test side."""
    generator = np.random.default_rng(0)
    cluster = np.arange(1500) % 3
    embeddings = generator.normal(size=(3, 12))[cluster] + spread * generator.normal(size=(1500, 12))
    embeddings = embeddings.astype(np.float32)
    labels = generator.integers(0, 2, 1500)
    tests = [cluster == 0, cluster != 2, (cluster == 1) | (generator.random(1500) < 0.5)]
    found = classify(embeddings, labels, np.array(tests), 3)
    unit = embeddings / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    for test, own in zip(tests, found, strict=True):
        rows, memory = np.flatnonzero(test)[::17], np.flatnonzero(~test)
        cosines = np.einsum("id,jd->ij", unit[rows], unit[memory])
        near = np.argsort(-cosines, axis=1, kind="stable")[:, :3]
        sums = tally(labels[memory[near]], np.take_along_axis(cosines, near, axis=1), 2)
        decided = np.sort(sums, axis=1)[:, -1] - np.sort(sums, axis=1)[:, -2] > 1e-12
        np.testing.assert_array_equal(own[rows[decided]], sums.argmax(axis=1)[decided])
        assert decided.mean() > 0.9
        assert (own[~test] == -1).all()


@pytest.mark.parametrize(("memory", "workers"), [(1, 1), (300 * 4 * 7, 3), (10**9, 4)])
def test_neither_memory_nor_workers_count(memory, workers):
    embeddings, labels, tests = example(offset=100.0)
    expected = classify(embeddings, labels, tests)
    np.testing.assert_array_equal(classify(embeddings, labels, tests, memory=memory, workers=workers), expected)


@pytest.mark.parametrize("gap", [1e-9, 1e-8, 1e-7])
@pytest.mark.parametrize("k", [1, 2])
def test_what_single_precision_cannot_tell(gap, k):
    """Two neighbours at almost the same distance, the nearer one alternately of either class."""
    generator = np.random.default_rng(0)
    queries = generator.normal(size=(200, 16))
    sideways = generator.normal(size=(200, 16))
    near, far = queries + 0.1 * sideways, queries + 0.1 * (1 + gap) * sideways
    first = generator.random(200) < 0.5
    pairs = np.where(first[:, None, None], np.stack([near, far], 1), np.stack([far, near], 1)).reshape(-1, 16)
    embeddings = np.concatenate([queries, pairs])
    labels = np.concatenate([np.zeros(200, int), np.tile([0, 1], 200)])
    test = np.arange(600) < 200
    found = classify(embeddings, labels, [test], k)[0]
    np.testing.assert_array_equal(found[:200] == 0, first)
    keys = _Similarities(embeddings).block(0, 200)
    right = (keys[np.arange(200), 200 + 2 * np.arange(200)] > keys[np.arange(200), 201 + 2 * np.arange(200)]) == first
    assert not right.all()


def test_the_bound_holds():
    for offset in (0.0, 1.0, 100.0):
        embeddings = example(count=500, dim=300, offset=offset)[0]
        space = _Similarities(embeddings)
        unit = embeddings.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        found = space.block(0, 500) + (1.0 - 0.5 * space.squares[:, None])
        assert np.abs(found - unit @ unit.T).max() < space.error
        pairs = np.arange(500), np.arange(500)[::-1]
        np.testing.assert_allclose(space.exact(*pairs), np.einsum("nd,nd->n", unit, unit[::-1]), atol=1e-14)


def test_identical_embeddings():
    """Of equal cosines the earlier rows are the nearest, and of equal sums the lowest class wins."""
    embeddings = np.ones((40, 8), np.float32)
    labels = np.repeat([2, 1, 0, 1], 10)
    test = np.arange(40) >= 30
    assert set(classify(embeddings, labels, [test], 5)[0, 30:]) == {2}
    assert set(classify(embeddings, labels, [test], 20)[0, 30:]) == {1}
    embeddings[::2] *= 3.0  # the same directions
    assert set(classify(embeddings, labels, [test], 5)[0, 30:]) == {2}


def test_classes_without_neighbours():
    """All similarities are negative: as coded, a class without neighbours wins with 0."""
    embeddings = np.array([[1.0, 0.0], [-1.0, 0.1], [-1.0, 0.2], [-1.0, 5.0], [-1.0, 6.0]])
    labels, test = np.array([0, 0, 0, 1, 1]), np.array([True, False, False, False, False])  # the last two are nearest
    assert classify(embeddings, labels, [test], 2)[0, 0] == 0
    assert classify(embeddings, labels, [test], 2, absent=-np.inf)[0, 0] == 1


def test_tally_by_hand():
    labels, cosines = np.array([[1, 0, 1], [2, 2, 0]]), np.array([[0.5, 0.75, 0.25], [-0.5, 0.25, 0.0]])
    np.testing.assert_array_equal(tally(labels, cosines, 3), [[0.75, 0.75, 0.0], [0.0, 0.0, -0.25]])
    infinity = np.inf
    np.testing.assert_array_equal(
        tally(labels, cosines, 3, -infinity), [[0.75, 0.75, -infinity], [0.0, -infinity, -0.25]]
    )
