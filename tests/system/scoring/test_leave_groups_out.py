"""Leave-one-out scores with groups against scorers that are fitted again without each group."""

import numpy as np
import pytest

from system import scoring
from system.errors import WheeltapperError
from system.scoring.banks import shared

SIZES = [1, 2, 3, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 1, 1, 3, 1, 1, 1, 2]
CASES = [
    ("mahalanobis", {}),
    ("mahalanobis", {"bank": "global"}),
    ("mahalanobis", {"standardize": True}),
    ("mahalanobis", {"covariance": "source"}),
    ("mahalanobis", {"covariance": "source", "standardize": True}),
    ("conditional_mahalanobis", {}),
    ("conditional_mahalanobis", {"covariance": "source"}),
    ("knn", {"k": 2}),
    ("knn", {"k": 1, "bank": "domain"}),
    ("beam", {}),
    ("ldn", {"neighbours": 2}),
    ("lof", {"k": 3}),
    ("lof", {"k": 3, "bank": "domain"}),
    ("frames", {"worst": 0.5}),
    ("frames", {"worst": 1.0, "bank": "domain"}),
    ("frames", {"distance": "cosine", "bank": "domain", "standardize": "mean"}),
]


def clips(bands: int, dim: int):
    """References, half of whose scatter is that of their group, and the groups."""
    generator = np.random.default_rng(dim)
    groups = generator.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    rows = generator.normal(1.0, 1.0, (len(groups), bands, dim))
    return rows + generator.normal(size=(len(SIZES), bands, dim))[groups], groups


@pytest.mark.parametrize("dim", [4, 40])
@pytest.mark.parametrize("across", [False, True], ids=["within a domain", "across domains"])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_leaving_a_group_out_is_fitting_without_it(name, settings, across, dim):
    rows, groups = clips(2, dim)
    domains = np.where((np.arange(len(groups)) if across else groups) % 2, "source", "target")
    scorer = scoring.build(name, **settings).fit(rows, domains, groups)
    expected = np.empty(len(rows))
    for number in np.unique(groups):
        own = groups == number
        without = scoring.build(name, **settings).fit(rows[~own], domains[~own], groups[~own])
        if scorer.standardize:
            without._scales = scorer._scales  # estimated once, from all
        expected[own] = without.score(rows[own])
    np.testing.assert_allclose(scorer.reference_scores(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_groups_of_one_change_nothing(name, settings):
    rows, _ = clips(2, 4)
    domains = np.where(np.arange(len(rows)) % 2, "source", "target")
    alone = scoring.build(name, **settings).fit(rows, domains)
    found = scoring.build(name, **settings).fit(rows, domains, np.arange(len(rows)))
    np.testing.assert_allclose(found.reference_scores(), alone.reference_scores(), rtol=1e-12)


@pytest.mark.parametrize("name", ["mahalanobis", "knn", "ldn", "lof", "beam", "frames"])
def test_copies_do_not_make_references_normal(name):
    """The score of an odd clip, of which there is a copy, is that of a new clip."""
    rows = np.random.default_rng(0).normal(1.0, 0.3, (24, 1, 4))
    rows[0] += [2, 6, 2, 2]
    twice, domains, groups = np.concatenate([rows, rows]), np.array(["source"] * 48), np.tile(np.arange(24), 2)
    found = scoring.build(name).fit(twice, domains, groups).reference_scores()
    assert found[0] == pytest.approx(found[24])
    assert found[0] > 1.5 * np.median(found)
    without = scoring.build(name).fit(np.delete(twice, [0, 24], 0), domains[2:], np.delete(groups, [0, 24]))
    assert found[0] == pytest.approx(without.score(rows[:1])[0])


@pytest.mark.parametrize(("name", "settings"), [("ldn", {}), ("beam", {"varmin": 3})])
def test_copies_are_no_neighbours(name, settings):
    """Densities are those of the clips without their copies, up to the number of neighbours."""
    rows = np.random.default_rng(0).normal(1.0, 0.3, (12, 1, 4))
    memory = (
        scoring.build(name, **settings)
        .fit(np.concatenate([rows, rows]), np.array(["source"] * 24), np.tile(np.arange(12), 2))
        ._banks[0]
    )
    assert (memory.densities[0] > 1e-4).all()


def test_fewer_groups_than_a_scorer_needs():
    rows = np.random.default_rng(0).normal(size=(6, 4))
    with pytest.raises(WheeltapperError, match=r"at least 3 clips, found 2 \(6 with their parts and copies\)"):
        scoring.build("mahalanobis").fit(rows, np.array(["source"] * 6), np.array([0, 0, 0, 1, 1, 1]))


def test_shared():
    assert [members.tolist() for members in shared(np.array([3, 1, 3, 2, 1, 1]))] == [[1, 4, 5], [0, 2]]
