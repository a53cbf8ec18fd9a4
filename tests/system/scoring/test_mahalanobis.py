"""Mahalanobis scores against scikit-learn's Ledoit-Wolf and against refitting without each clip."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from system.errors import WheeltapperError
from system.scoring.mahalanobis import MahalanobisScorer, fit_gaussian, ledoit_wolf, principal_axes

SHAPES = [(60, 5), (30, 30), (12, 40), (10, 256), (200, 8), (5, 3), (4, 100)]


def clips(count: int, dim: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, dim)) @ generator.normal(size=(dim, dim)) * 0.3 + generator.normal(size=dim)


def plain(references: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    fitted = LedoitWolf().fit(references)
    difference = embeddings - fitted.location_
    return np.sqrt(np.einsum("nd,de,ne->n", difference, np.linalg.inv(fitted.covariance_), difference))


def fit(references, bank="global", domains=None, **settings) -> MahalanobisScorer:
    domains = np.array(["source"] * len(references)) if domains is None else domains
    return MahalanobisScorer(bank, **settings).fit(references, domains)


@pytest.mark.parametrize(("count", "dim"), SHAPES)
def test_shrinkage(count, dim):
    references = clips(count, dim)
    bank, fitted = fit_gaussian(references), LedoitWolf().fit(references)
    assert bank.shrinkage == pytest.approx(fitted.shrinkage_, rel=1e-9)
    axes = bank.spectrum(bank.shrinkage * bank.scale)
    within = axes.axes.T * ((1 - bank.shrinkage) * axes.variances) @ axes.axes
    covariance = within + bank.shrinkage * bank.scale * np.eye(dim)
    np.testing.assert_allclose(covariance, fitted.covariance_, atol=1e-9 * np.abs(fitted.covariance_).max())


@pytest.mark.parametrize(("count", "dim"), SHAPES)
def test_scores(count, dim):
    references, tests = clips(count, dim), clips(20, dim, seed=1)
    np.testing.assert_allclose(fit(references).score(tests), plain(references, tests), rtol=1e-8)


@pytest.mark.parametrize(("count", "dim"), SHAPES)
def test_leave_one_out_equals_fitting_anew(count, dim):
    references = clips(count, dim)
    expected = [plain(np.delete(references, i, axis=0), references[i : i + 1])[0] for i in range(count)]
    np.testing.assert_allclose(fit(references).reference_scores(), expected, rtol=1e-7)


def by_decomposition(references: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Distances from a singular value decomposition, with the bank's shrinkage and scale."""
    bank, mean = fit_gaussian(references), references.mean(axis=0)
    _, singular, axes = np.linalg.svd(references - mean, full_matrices=False)
    floor = bank.shrinkage * bank.scale
    spread = (1 - bank.shrinkage) * singular**2 / len(references) + floor
    along = (embeddings - mean) @ axes.T
    rest = (embeddings - mean) - along @ axes
    return np.sqrt((along**2 / spread).sum(axis=1) + (rest**2).sum(axis=1) / floor)


@pytest.mark.parametrize(("count", "dim"), [(300, 64), (64, 300), (100, 100), (12, 500)])
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.5, 4.0])
def test_products_and_decomposition_agree(count, dim, decay):
    """Spectra that fall by up to eight orders of magnitude, below what squares can hold."""
    generator = np.random.default_rng(count)
    basis = np.linalg.qr(generator.normal(size=(dim, dim)))[0] * np.arange(1.0, dim + 1) ** -decay
    references, tests = (generator.normal(size=(n, dim)) @ basis.T + 2.0 for n in (count, 30))
    bank = fit_gaussian(references)
    np.testing.assert_allclose(bank.distance(tests), by_decomposition(references, tests), rtol=1e-8)
    expected = [plain(np.delete(references, i, axis=0), references[i : i + 1])[0] for i in range(0, count, 31)]
    np.testing.assert_allclose(bank.leave_one_out()[::31], expected, rtol=1e-6)


def odd_banks():
    rows = clips(40, 12)
    return {
        "fewer axes than dimensions": clips(40, 3) @ np.random.default_rng(5).normal(size=(3, 12)),
        "every clip twice": np.repeat(rows[:20], 2, axis=0),
        "one axis": np.linspace(-1, 1, 40)[:, None] * np.ones(12),
        "tiny": rows * 1e-70,
        "tiny beside a large mean": rows * 1e-6 + 1e3,
        "tinier than squares": rows * 1e-120,
        "huge": rows * 1e60,
        "one axis far larger": rows * np.r_[1e5, np.ones(11)],
        "one clip far away": np.concatenate([rows[:39], 1e6 * rows[39:]]),
        "two clips": rows[:2],
        "fewer clips than dimensions": rows[:8],
    }


@pytest.mark.parametrize("name", odd_banks())
def test_odd_banks_as_by_decomposition(name):
    references = odd_banks()[name]
    size = np.abs(references - references.mean(axis=0)).max()
    tests = references.mean(axis=0) + size * clips(9, 12, seed=3)
    bank = fit_gaussian(references)
    np.testing.assert_allclose(bank.distance(tests), by_decomposition(references, tests), rtol=1e-6)
    slow = fit_gaussian(references)
    object.__setattr__(slow, "has_floor", lambda floor: False)
    np.testing.assert_allclose(slow.distance(tests), bank.distance(tests), rtol=1e-8)
    if len(references) > 3:
        np.testing.assert_allclose(bank.leave_one_out(), slow.leave_one_out(), rtol=1e-6)
    assert np.isfinite(bank.distance(references)).all()


def test_axes_by_products_are_the_principal_axes():
    for count, dim in [(50, 20), (20, 50)]:
        centred = clips(count, dim) - clips(count, dim).mean(axis=0)
        bank = fit_gaussian(clips(count, dim))
        quick, exact = bank.spectrum(bank.shrinkage * bank.scale), principal_axes(centred)
        np.testing.assert_allclose(np.sort(quick.variances)[::-1], exact.variances, rtol=1e-8)
        np.testing.assert_allclose(quick.axes @ quick.axes.T, np.eye(len(quick.axes)), atol=1e-9)
        np.testing.assert_allclose(quick.along, centred @ quick.axes.T, atol=1e-10)


def test_leave_one_out_with_twins():
    references = clips(20, 6)
    references[7] = references[3]
    expected = [plain(np.delete(references, i, axis=0), references[i : i + 1])[0] for i in range(20)]
    np.testing.assert_allclose(fit_gaussian(references).leave_one_out(), expected, rtol=1e-7)


def test_leave_one_out_in_fewer_dimensions_than_it_seems():
    references = clips(20, 3) @ np.random.default_rng(5).normal(size=(3, 12))  # rank three of twelve
    expected = [plain(np.delete(references, i, axis=0), references[i : i + 1])[0] for i in range(20)]
    np.testing.assert_allclose(fit(references).reference_scores(), expected, rtol=1e-5)


def test_three_clips():
    """Without one of three, two clips remain, which define no directions: a sphere around their centre."""
    references = clips(3, 10)
    found = fit(references).reference_scores()
    for i in range(3):
        a, b = np.delete(references, i, axis=0)
        scale = ((a - b) ** 2).sum() / 4 / 10
        expected = np.linalg.norm(references[i] - (a + b) / 2) / np.sqrt(scale)
        assert found[i] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_clips(count):
    with pytest.raises(WheeltapperError, match=f"expected at least 3 clips, found {count}"):
        fit(clips(3, 4)[:count])


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_identical_references_give_finite_scores(value):
    references = np.full((6, 4), value)
    scorer = fit(references)
    assert np.isfinite(scorer.reference_scores()).all()
    far, near = scorer.score(np.array([references[0] + 2.0, references[0] + 1.0]))
    assert np.isfinite(far)
    assert far > near > 0


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_one_clip_beside_identical_ones(value):
    references = np.full((6, 4), value)
    references[5] += [1.0, 2.0, 3.0, 4.0]
    for standardize in (False, True):
        scores = fit(references, standardize=standardize).reference_scores()
        assert np.isfinite(scores).all()
        assert scores[5] > 1e6 * np.abs(scores[:5]).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_references_must_be_finite(bad):
    references = clips(5, 3)
    references[2, 1] = bad
    with pytest.raises(WheeltapperError, match="expected finite embeddings"):
        fit(references)


@pytest.mark.parametrize("scale", [1e-6, 0.5, 1e6])
def test_neither_scale_nor_place_nor_rotation_counts(scale):
    references, tests = clips(15, 30), clips(5, 30, seed=1)
    expected = fit(references).score(tests)
    left_out = fit(references).reference_scores()
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 30)))
    moved = fit(scale * references @ rotation + 3.0 * scale)
    np.testing.assert_allclose(moved.score(scale * tests @ rotation + 3.0 * scale), expected, rtol=1e-6)
    np.testing.assert_allclose(moved.reference_scores(), left_out, rtol=1e-6)


def test_single_precision_references():
    references, tests = clips(40, 16).astype(np.float32), clips(5, 16, 1).astype(np.float32)
    expected = plain(references.astype(np.float64), tests.astype(np.float64))
    np.testing.assert_allclose(fit(references).score(tests), expected, rtol=1e-8)


def test_two_clips_are_a_sphere():
    shrinkage, scale = ledoit_wolf(np.array([2.0, 2.0]), np.array(4.0), 2, 5)
    assert (float(shrinkage), float(scale)) == (1.0, pytest.approx(0.4))


@pytest.mark.parametrize("count", [3, 4, 6, 10])
def test_new_clips_do_not_exceed_those_left_out_of_few_more_often_than_chance(count):
    """A new clip is the largest of n + 1 of the same kind in one case of n + 1."""
    generator, rates = np.random.default_rng(count), []
    for _ in range(60):
        rows = generator.normal(size=(count + 40, 24)) * np.exp(-np.arange(24) / 6) + generator.normal(size=24)
        scorer = MahalanobisScorer("global").fit(rows[:count], np.array(["source"] * count))
        rates.append(np.mean(scorer.score(rows[count:]) > scorer.reference_scores().max()))
    assert np.mean(rates) <= 1 / (count + 1) + 0.03


def with_source_covariance(references, domains, tests):
    """The smaller distance of two centres, with scikit-learn's covariance of the source."""
    source = LedoitWolf().fit(references[domains == "source"])
    squares = []
    for domain in ("source", "target"):
        difference = tests - references[domains == domain].mean(axis=0)
        squares.append(np.einsum("nd,de,ne->n", difference, source.precision_, difference))
    return np.sqrt(np.min(squares, axis=0))


@pytest.mark.parametrize("dim", [3, 60])
def test_covariance_of_the_source_around_the_centre_of_each_domain(dim):
    references, tests = clips(24, dim), clips(9, dim, seed=1)
    domains = np.array(["source"] * 20 + ["target"] * 4)
    references[20:] += 3.0
    tests[4:] += 3.0
    scorer = fit(references, bank="domain", domains=domains, covariance="source")
    assert not scorer.note  # four clips are enough for a centre
    np.testing.assert_allclose(scorer.score(tests), with_source_covariance(references, domains, tests), rtol=1e-8)
    expected = [
        with_source_covariance(np.delete(references, i, 0), np.delete(domains, i), references[i : i + 1])[0]
        for i in range(24)
    ]
    np.testing.assert_allclose(scorer.reference_scores(), expected, rtol=1e-7)
    bank = scorer._banks[1]
    alone = [bank.without(np.array([i]), references[20 + i : 21 + i])[0] for i in range(4)]
    np.testing.assert_allclose(bank.leave_one_out(), alone, rtol=1e-9)


def test_few_source_clips_have_no_covariance_for_others():
    domains = np.array(["source"] * 5 + ["target"] * 5)
    scorer = fit(clips(10, 3), bank="domain", domains=domains, covariance="source")
    assert scorer.note == "5 source references, fewer than 6: one bank for all"
    np.testing.assert_array_equal(scorer.score(clips(3, 3)), fit(clips(10, 3), bank="global").score(clips(3, 3)))
    with pytest.raises(WheeltapperError, match="covariance: expected own with bank global, found source"):
        MahalanobisScorer("global", covariance="source")
