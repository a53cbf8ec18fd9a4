"""Conditional Mahalanobis distance against scikit-learn's Ledoit-Wolf and against refitting without each clip."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from system.errors import WheeltapperError
from system.scoring.conditional import ConditionalMahalanobisScorer
from system.scoring.mahalanobis import MahalanobisScorer

SHAPES = [(60, 2, 3), (40, 3, 10), (10, 2, 128), (12, 2, 20), (100, 2, 40)]


def clips(count: int, bands: int, dim: int, seed: int = 0) -> np.ndarray:
    """The embedding depends linearly on the condition, with the same coefficients for all seeds."""
    mixing = np.random.default_rng(99).normal(size=(bands * dim, bands * dim)) / np.sqrt(dim)
    return (np.random.default_rng(seed).normal(size=(count, bands * dim)) @ mixing).reshape(count, bands, dim)


def plain(references: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """From the conditional mean and covariance, which the scorer never forms."""
    dim = references.shape[2]
    fitted = LedoitWolf().fit(references.reshape(len(references), -1))
    mean, covariance = fitted.location_, fitted.covariance_
    x, c = slice(0, dim), slice(dim, None)
    gain = covariance[x, c] @ np.linalg.inv(covariance[c, c])
    inverse = np.linalg.inv(covariance[x, x] - gain @ covariance[c, x])
    difference = embeddings.reshape(len(embeddings), -1) - mean
    surprise = difference[:, x] - difference[:, c] @ gain.T
    return np.sqrt(np.einsum("nd,de,ne->n", surprise, inverse, surprise))


def fit(references, bank="global", domains=None) -> ConditionalMahalanobisScorer:
    domains = np.array(["source"] * len(references)) if domains is None else domains
    return ConditionalMahalanobisScorer(bank).fit(references, domains)


@pytest.mark.parametrize("shape", SHAPES)
def test_scores(shape):
    references, tests = clips(*shape), clips(9, *shape[1:], seed=1)
    np.testing.assert_allclose(fit(references).score(tests), plain(references, tests), rtol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_leave_one_out_equals_fitting_anew(shape):
    references = clips(*shape)
    expected = [plain(np.delete(references, i, axis=0), references[i : i + 1])[0] for i in range(len(references))]
    np.testing.assert_allclose(fit(references).reference_scores(), expected, rtol=1e-7)


def test_the_nearest_bank_counts():
    references, tests = np.concatenate([clips(30, 2, 4), 1.5 + clips(10, 2, 4, seed=3)]), clips(9, 2, 4, seed=1)
    domains = np.array(["source"] * 30 + ["target"] * 10)
    parts = references[:30], references[30:]
    expected = np.min([plain(part, tests) for part in parts], axis=0)
    scorer = fit(references, "domain", domains)
    np.testing.assert_allclose(scorer.score(tests), expected, rtol=1e-8)
    left_out = [plain(np.delete(parts[1], i, axis=0), parts[1][i : i + 1])[0] for i in range(10)]
    np.testing.assert_allclose(
        scorer.reference_scores()[30:], np.minimum(left_out, plain(parts[0], parts[1])), rtol=1e-7
    )


def test_louder_noise_is_no_anomaly():
    """Noise is in both microphones; anomalies are sounds in the near one only."""
    generator = np.random.default_rng(0)

    def heard(count: int, level: float, odd: float = 0.0) -> np.ndarray:
        noise = level * generator.normal(size=(count, 6))
        return np.stack([noise + odd + 0.1 * generator.normal(size=(count, 6)), noise], axis=1)

    references, loud, odd = heard(300, 1.0), heard(50, 3.0), heard(50, 1.0, 1.0)
    given_noise = fit(references)
    assert given_noise.score(odd).min() > given_noise.score(loud).max()
    alone = MahalanobisScorer("global").fit(references[:, 0], np.array(["source"] * 300))
    assert np.median(alone.score(odd[:, 0])) < np.median(alone.score(loud[:, 0]))


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_identical_references_give_finite_scores(value):
    scorer = fit(np.full((6, 2, 3), value))
    assert np.isfinite(scorer.reference_scores()).all()
    tests = np.full((2, 2, 3), value) + np.array([0.0, 1.0])[:, None, None]
    assert np.isfinite(scorer.score(tests)).all()


@pytest.mark.parametrize("shape", [(8, 4), (8, 1, 4)])
def test_embeddings_without_a_condition(shape):
    with pytest.raises(
        WheeltapperError, match=r"conditional_mahalanobis: expected embeddings of shape .*, found \(.*4"
    ):
        fit(np.random.default_rng(0).normal(size=shape))
