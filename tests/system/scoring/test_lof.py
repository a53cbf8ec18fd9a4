"""Local outlier factor against scikit-learn: scores, leave-one-out by refitting, the vote."""

import numpy as np
import pytest
from sklearn.neighbors import LocalOutlierFactor

from system import scoring
from system.errors import WheeltapperError
from system.scoring.lof import LofScorer, vote

CONTAMINATIONS = (0.1, 0.2, 0.3, 0.4)


def clips(count: int, dim: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)) * np.linspace(0.1, 3.0, dim)


def sklearn_factor(references: np.ndarray, tests: np.ndarray, k: int) -> np.ndarray:
    model = LocalOutlierFactor(n_neighbors=min(k, len(references) - 1), novelty=True).fit(references)
    return -model.score_samples(tests)


def left_out(references: np.ndarray, k: int) -> list[float]:
    return [
        float(sklearn_factor(np.delete(references, i, axis=0), references[i : i + 1], k)[0])
        for i in range(len(references))
    ]


@pytest.mark.parametrize("k", [1, 4, 29, 100])
def test_scores(k):
    references, tests = clips(30), clips(9, seed=1)
    scorer = LofScorer(k).fit(references, np.array(["source"] * 30))
    np.testing.assert_allclose(scorer.score(tests), sklearn_factor(references, tests, k), rtol=1e-9)


@pytest.mark.parametrize("dim", [2, 40])  # a tree and brute force in scikit-learn
@pytest.mark.parametrize("k", [1, 2, 4, 27, 28, 29, 100])
def test_leaving_one_out_is_refitting_without_it(k, dim):
    references = clips(30, dim)
    found = LofScorer(k).fit(references, np.array(["source"] * 30)).reference_scores()
    np.testing.assert_allclose(found, left_out(references, k), rtol=1e-7)


def test_domains_have_their_own_banks_and_the_lower_one_counts():
    references = np.concatenate([clips(40), clips(8, seed=3) + 6.0])
    domains = np.array(["source"] * 40 + ["target"] * 8)
    tests = np.concatenate([clips(5, seed=4), clips(5, seed=5) + 6.0])
    scorer = LofScorer(bank="domain").fit(references, domains)
    parts = [references[:40], references[40:]]
    expected = np.min([sklearn_factor(part, tests, 4) for part in parts], axis=0)
    np.testing.assert_allclose(scorer.score(tests), expected, rtol=1e-9)
    own = np.concatenate([left_out(part, 4) for part in parts])
    other = np.concatenate([sklearn_factor(parts[1], parts[0], 4), sklearn_factor(parts[0], parts[1], 4)])
    np.testing.assert_allclose(scorer.reference_scores(), np.minimum(own, other), rtol=1e-7)


def test_three_references_are_enough_two_are_not():
    found = LofScorer().fit(clips(3), np.array(["source"] * 3))
    np.testing.assert_allclose(found.reference_scores(), left_out(clips(3), 4), rtol=1e-7)
    assert np.isfinite(found.score(clips(4, seed=1))).all()
    with pytest.raises(WheeltapperError, match="expected at least 3 clips, found 2"):
        LofScorer().fit(clips(2), np.array(["source"] * 2))


def test_repeated_references_give_finite_scores():
    references = np.repeat(clips(3), 6, axis=0)
    scorer = LofScorer(standardize=True).fit(references, np.array(["source"] * 18))
    assert np.isfinite(scorer.reference_scores()).all()
    assert np.isfinite(scorer.score(clips(4, seed=1))).all()


def test_an_outlier_scores_high_and_a_typical_clip_about_one():
    scorer = LofScorer().fit(clips(200, 3), np.array(["source"] * 200))
    typical, far = scorer.score(np.array([[0.01, 0.0, 0.0], [5.0, 40.0, -60.0]]))
    assert 0.7 < typical < 1.5 < 10 < far


def test_votes_are_those_of_scikit_learns_estimators():
    references, tests = clips(60), np.concatenate([clips(30, seed=1), 1.3 * clips(30, seed=2)])
    votes = np.stack(
        [
            LocalOutlierFactor(n_neighbors=4, novelty=True, contamination=c).fit(references).predict(tests) < 0
            for c in CONTAMINATIONS
        ]
    )
    found = vote(references, tests)
    np.testing.assert_array_equal(found.share, votes.mean(axis=0))
    np.testing.assert_array_equal(found.majority, votes.sum(axis=0) >= 3)
    np.testing.assert_array_equal(found.majority, votes[1])  # contamination 0.2 alone decides
    np.testing.assert_allclose(found.factor, sklearn_factor(references, tests, 4), rtol=1e-9)
    assert set(found.share.tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_two_votes_of_four_are_no_majority():
    references = clips(60)
    found = vote(references, clips(300, seed=1))
    tied = found.share == 0.5
    assert tied.any()
    assert not found.majority[tied].any()


@pytest.mark.parametrize("wrong", [(), (0.0,), (0.6,), (0.1, np.nan)])
def test_contaminations_that_are_none(wrong):
    with pytest.raises(WheeltapperError, match=r"contaminations: expected numbers above 0, at most 0\.5"):
        vote(clips(10), clips(2), contaminations=wrong)


def test_by_name_with_its_settings():
    assert scoring.build("lof", k=7, bank="domain", standardize=True).k == 7
    with pytest.raises(WheeltapperError, match="k: expected at least 1, found 0"):
        scoring.build("lof", k=0)


def test_leave_one_out_factors_of_a_small_domain_are_those_of_new_clips():
    """Four clips far from the others: with four neighbours each would be an outlier once it is left out."""
    generator = np.random.default_rng(1)
    references = generator.normal(size=(16, 8)) + 9.0 * (np.arange(16) >= 12)[:, None]
    scorer = LofScorer(k=4).fit(references, np.repeat(["source", "target"], [12, 4]))
    new = scorer.score(generator.normal(size=(200, 8)) + 9.0)
    assert scorer.reference_scores()[12:].max() < np.quantile(new, 0.99)
    assert scorer.note == "4 references of one domain: 2 neighbours instead of 4"
    assert not LofScorer(k=4).fit(references, np.repeat(["source", "target"], [10, 6])).note
