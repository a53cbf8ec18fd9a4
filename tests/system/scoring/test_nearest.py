"""The search for the nearest rows against plain distances in double precision."""

import numpy as np
import pytest

from system.scoring.memory import unit
from system.scoring.nearest import NearestRows


def plain(rows, queries, k, gone=()) -> np.ndarray:
    """All distances |x - y|^2 / 2, one query at a time, sorted; infinite where fewer than k rows are left."""
    found = np.full((len(queries), min(k, len(rows))), np.inf)
    for i, query in enumerate(queries):
        left = np.delete(rows, gone[i], axis=0) if len(gone) else rows
        distances = np.sort(((left - query) ** 2).sum(axis=1) / 2)[: found.shape[1]]
        found[i, : len(distances)] = distances
    return found


def example(count=400, dim=24, offset=0.0, seed=0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, dim)) + offset)


@pytest.mark.parametrize("offset", [0.0, 30.0, 3e4])  # the last one: closer together than single precision can tell
@pytest.mark.parametrize("k", [1, 5, 400, 1000])
def test_distances(offset, k):
    rows, queries = example(offset=offset), example(300, offset=offset, seed=1)
    np.testing.assert_allclose(NearestRows(rows).distances(queries, k), plain(rows, queries, k), rtol=1e-9, atol=1e-22)


@pytest.mark.parametrize("gap", [1e-9, 1e-7, 1e-5])
def test_what_single_precision_cannot_tell(gap):
    """Of two rows at almost the same distance the nearer one counts."""
    generator = np.random.default_rng(0)
    queries, sideways = (unit(generator.normal(size=(200, 16))) for _ in range(2))
    pairs = np.stack([queries + 0.1 * (1 + gap) * sideways, queries + 0.1 * sideways], 1)
    rows = unit(pairs.reshape(-1, 16))
    found = NearestRows(rows).distances(queries, 1)
    np.testing.assert_allclose(found, plain(rows, queries, 1), rtol=1e-12)


def test_equal_rows_are_exactly_no_distance_away():
    rows = np.repeat(example(30, offset=5.0), 4, axis=0)
    search, own = NearestRows(rows), [np.array([i]) for i in range(len(rows))]
    assert (search.distances(rows, 4) == 0.0).all()
    assert (search.distances(rows, 3, own) == 0.0).all()  # its three twins
    assert (search.distances(rows, 4, own)[:, 3] > 1e-4).all()


def test_many_equal_rows():
    """Far more candidates than are wanted: all rows but two are the same."""
    rows = np.concatenate([np.repeat(example(1), 300, axis=0), example(2, seed=1)])
    queries = example(20, seed=2)
    np.testing.assert_allclose(NearestRows(rows).distances(queries, 3), plain(rows, queries, 3), rtol=1e-12)


def test_rows_to_ignore():
    rows, queries = example(50), example(40, seed=1)
    gone = [np.arange(i) for i in range(40)]
    np.testing.assert_allclose(
        NearestRows(rows).distances(queries, 20, gone), plain(rows, queries, 20, gone), rtol=1e-12
    )
    nothing = NearestRows(rows[:2]).distances(queries[:1], 2, [np.arange(2)])
    assert np.isinf(nothing).all()


def test_zeros_are_at_right_angles_to_all():
    rows = example(6)
    rows[2] = 0.0
    queries = np.concatenate([np.zeros((1, 24)), rows[:1]])
    found = NearestRows(rows).distances(queries, 6)
    np.testing.assert_array_equal(found[0], 1.0)
    np.testing.assert_allclose(found[1], np.sort([1 - rows[0] @ row for row in rows]), rtol=1e-12, atol=1e-15)


def test_a_distance_does_not_depend_on_the_company():
    rows, queries = example(), example(300, seed=1)
    together = NearestRows(rows).distances(queries, 3)
    alone = np.concatenate([NearestRows(rows[::-1]).distances(query[None], 3) for query in queries])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("length", [1e-300, 1e-120, 1e120, 1e300])
def test_unit_vectors_of_any_length(length):
    rows = np.random.default_rng(0).normal(size=(5, 8))
    mixed = rows * np.where(np.arange(5) < 2, length, 1.0)[:, None]
    np.testing.assert_allclose(unit(mixed), unit(rows), rtol=1e-12)
    np.testing.assert_array_equal(unit(mixed)[2:], unit(rows)[2:])
