"""Calibration: properties that hold for any scores, and plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from system.errors import WheeltapperError
from system.scoring.calibrate import domain_weights, fuse, mean_z, robust_z, threshold, weighted_quantile

numbers = st.integers(-1000, 1000).map(lambda n: n / 8)
samples = st.lists(numbers, min_size=2, max_size=40).map(np.array)
levels = st.integers(1, 99).map(lambda n: n / 100)


@given(samples)
def test_robust_z_is_median_and_mad(scores):
    z = robust_z(scores)
    median = np.median(scores)
    assert z.centre == pytest.approx(median)
    deviations = np.abs(scores - median)
    spread = 1.4826 * np.median(deviations) or 1.2533 * np.mean(deviations)
    assert z.scale == pytest.approx(max(spread, 0.01 * abs(median)), rel=1e-9, abs=1e-150)


@given(samples, st.integers(-50, 50), st.sampled_from([0.25, 3.0, 100.0]))
def test_robust_z_does_not_depend_on_the_unit(scores, shift, factor):
    before = robust_z(scores)
    scaled = robust_z(factor * scores)
    np.testing.assert_allclose(scaled(factor * scores), before(scores), rtol=1e-9, atol=1e-9)
    moved = robust_z(scores + shift)
    assert moved.centre == pytest.approx(before.centre + shift)
    if before.scale > 0.011 * (abs(before.centre) + abs(shift)):  # above the floor in both
        np.testing.assert_allclose(moved(scores + shift), before(scores), rtol=1e-9, atol=1e-9)


@given(samples, st.lists(numbers, min_size=2, max_size=20))
def test_robust_z_keeps_the_order(scores, others):
    z = robust_z(scores)
    values = np.array(sorted(others))
    assert (np.diff(z(values)) >= 0).all()
    assert np.isfinite(z(values)).all()


@given(samples)
def test_mean_z_is_mean_and_deviation(scores):
    z = mean_z(scores)
    assert z.centre == pytest.approx(np.mean(scores))
    assert z.scale == pytest.approx(max(np.std(scores), 0.01 * abs(np.mean(scores))), rel=1e-9, abs=1e-150)


def test_near_constant_scores_do_not_outvote():
    z = robust_z(np.array([10.0, 10.0, 10.0, 10.000001]))
    assert z(10.1) == pytest.approx(1.0)
    assert robust_z(np.array([0.0] * 9 + [1.0]))(1.0) < 10.0
    assert np.isfinite(robust_z(np.zeros(5))(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, np.nan], [1.0, np.inf]])
def test_scores_that_say_nothing(scores):
    with pytest.raises(WheeltapperError, match="reference scores: expected at least 2 finite numbers"):
        robust_z(np.array(scores))


@given(samples, levels)
def test_weighted_quantile_of_equal_weights_is_hazens(values, level):
    found = weighted_quantile(values, np.full(len(values), 0.3), level)
    assert found == pytest.approx(np.quantile(values, level, method="hazen"), abs=1e-9)


@given(samples, levels, st.integers(1, 4), st.randoms(use_true_random=False))
def test_neither_order_nor_unit_of_the_weights_counts(values, level, times, random):
    order = list(range(len(values)))
    random.shuffle(order)
    weights = np.arange(1, len(values) + 1, dtype=float)
    once = weighted_quantile(values, weights, level)
    assert weighted_quantile(values[order], weights[order] * times, level) == pytest.approx(once)
    assert values.min() <= once <= values.max()


@given(st.lists(st.sampled_from(["source", "target", ""]), min_size=1, max_size=30))
def test_domains_weigh_the_same(domains):
    weights = domain_weights(domains)
    assert weights.sum() == pytest.approx(1.0)
    shares = {name: weights[np.array(domains) == name].sum() for name in domains}
    np.testing.assert_allclose(list(shares.values()), 1 / len(shares))


@given(st.integers(20, 300), st.sampled_from([0.05, 0.1, 0.25, 0.5]), st.integers(0, 99))
@settings(max_examples=40)
def test_threshold_gives_the_wanted_rate(count, rate, seed):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=count)
    alarms = np.mean(scores > threshold(scores, np.array(["source"] * count), rate))
    assert abs(alarms - rate) <= 1 / count


def test_threshold_weighs_the_domains_alike():
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.normal(0, 1, 9900), generator.normal(3, 1, 100)])
    domains = np.array(["source"] * 9900 + ["target"] * 100)
    limit = threshold(scores, domains, 0.1)
    rates = [np.mean(scores[domains == name] > limit) for name in ("source", "target")]
    assert np.mean(rates) == pytest.approx(0.1, abs=0.01)
    assert rates[1] > 0.1  # most alarms come from the target


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, np.nan])
def test_threshold_of_an_impossible_rate(rate):
    with pytest.raises(WheeltapperError, match="false_positive_rate: expected a number between 0 and 1"):
        threshold(np.array([1.0, 2.0]), np.array(["source"] * 2), rate)


@given(samples, st.integers(1, 20), st.integers(0, 20))
def test_fuse(scores, one, two):
    other = scores[::-1] ** 2
    found = fuse({"a": scores, "b": other}, {"a": float(one), "b": float(two)})
    np.testing.assert_allclose(found, (one * scores + two * other) / (one + two), rtol=1e-9, atol=1e-9)


@given(samples)
def test_fuse_by_minimum(scores):
    other = scores[::-1] ** 2
    found = fuse({"a": scores, "b": other, "c": other - 1e9}, {"a": 0.5, "b": 0.5, "c": 0.0}, "minimum")
    assert found.tolist() == [min(pair) for pair in zip(scores, other, strict=True)]


def test_a_minimum_has_no_weights():
    with pytest.raises(
        WheeltapperError, match=r"weights: expected equal ones for a minimum, found \{'a': 1.0, 'b': 2.0"
    ):
        fuse({"a": np.zeros(2), "b": np.ones(2)}, {"a": 1.0, "b": 2.0}, "minimum")


def test_one_branch_passes():
    scores = np.array([3.0, 1.0])
    assert fuse({"a": scores, "b": scores}, {"a": 0.4}).tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "text"),
    [({"c": 1.0}, "expected branches among a, found c"), ({"a": -1.0}, "none below zero"), ({"a": 0.0}, "one above")],
)
def test_weights_that_make_no_sense(weights, text):
    with pytest.raises(WheeltapperError, match=f"weights: .*{text}"):
        fuse({"a": np.zeros(2)}, weights)
