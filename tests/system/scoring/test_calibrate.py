"""Calibration: properties that hold for any scores, and plain NumPy."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from system.errors import WheeltapperError
from system.scoring.calibrate import (
    ZScore,
    domain_weights,
    expected_false_alarms,
    fuse,
    least_rate,
    mean_z,
    robust_z,
    threshold,
    weighted_quantile,
)

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
    assert z.scale == pytest.approx(max(spread, 0.01 * abs(median)) or 1.0, rel=1e-9)


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
    assert z.scale == pytest.approx(max(np.std(scores), 0.01 * abs(np.mean(scores))) or 1.0, rel=1e-9)


def test_scores_that_are_all_zero_are_not_scaled():
    assert robust_z(np.zeros(2)) == mean_z(np.zeros(2)) == ZScore(0.0, 1.0)
    assert robust_z(np.array([0.0, 1e-14]), 0.1).scale == 0.1


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
    scores = np.concatenate([generator.normal(0, 1, 9000), generator.normal(3, 1, 1000)])
    domains = np.array(["source"] * 9000 + ["target"] * 1000)
    limit = threshold(scores, domains, 0.1)
    rates = [scipy.stats.norm.sf(limit), scipy.stats.norm.sf(limit - 3)]
    assert np.mean(rates) == pytest.approx(0.1, abs=0.02)
    assert rates[1] > 0.1  # most alarms come from the target


def test_threshold_of_two_domains_by_hand():
    """Means 1 and 12, own variances 2 and 8, pooled 5; residuals in own deviations are +-1 / sqrt(2) in both."""
    scores, domains = np.array([0.0, 2.0, 10.0, 14.0]), np.array(["source", "source", "target", "target"])
    source, target = np.sqrt((2 + 2 * 5) / 3 / 2), np.sqrt((8 + 2 * 5) / 3 / 2)
    values = [1 - source, 1 - source, 1 + source, 1 + source, 12 - target, 12 - target, 12 + target, 12 + target]
    assert threshold(scores, domains, 0.1) == pytest.approx(np.quantile(values, 0.9, method="hazen"))


@given(samples, levels)
def test_threshold_of_one_domain_is_the_quantile(scores, rate):
    found = threshold(scores, np.array(["target"] * len(scores)), rate)
    assert found == np.quantile(scores, 1 - rate, method="hazen") or found == pytest.approx(
        np.quantile(scores, 1 - rate, method="hazen")
    )


@given(samples, st.sampled_from([[1], [1, 1], [2, 1], [3, 3]]))
def test_thresholds_of_few_are_finite_and_among_the_scores(scores, counts):
    domains = np.array((["target"] * counts[0] + ["source"] * len(scores))[: len(scores)])
    found = threshold(scores, domains, 0.1)
    spread = np.ptp(scores)
    assert scores.min() - 4 * spread <= found <= scores.max() + 4 * spread


def false_alarms(rule, seed=0, machines=300):
    """Rates of thresholds from 60 source scores N(0, 1) and 10 target scores N(1, 1.5), and the share within the
    expected ranges."""
    generator = np.random.default_rng(seed)
    domains, rates, within = np.array(["source"] * 60 + ["target"] * 10), [], []
    for _ in range(machines):
        scores = np.concatenate([generator.normal(0, 1, 60), generator.normal(1, 1.5, 10)])
        limit = rule(scores, domains)
        found = {"source": scipy.stats.norm.sf(limit), "target": scipy.stats.norm.sf((limit - 1) / 1.5)}
        rates.append(np.mean(list(found.values())))
        expected = expected_false_alarms(scores, domains, limit)
        within += [expected[domain].low <= rate <= expected[domain].high for domain, rate in found.items()]
    return np.array(rates), np.mean(within)


def test_what_was_asked_is_found_on_average_and_more_evenly_than_by_the_plain_quantile():
    rates, within = false_alarms(lambda scores, domains: threshold(scores, domains, 0.1))
    plain, _ = false_alarms(lambda scores, domains: weighted_quantile(scores, domain_weights(domains), 0.9))
    assert rates.mean() == pytest.approx(0.1, abs=0.02)
    assert rates.std() < 0.95 * plain.std()
    assert within >= 0.9


@pytest.mark.parametrize(("count", "above"), [(3, 0), (10, 1), (22, 2), (60, 60), (1000, 97)])
def test_expected_false_alarms_are_the_interval_of_clopper_and_pearson(count, above):
    scores = np.r_[np.zeros(count - above), np.ones(above)]
    found = expected_false_alarms(scores, np.array([""] * count), 0.5)
    exact = scipy.stats.binomtest(above, count).proportion_ci(0.9, "exact")
    assert found["source"].references == count
    assert (found["source"].low, found["source"].high) == pytest.approx((exact.low, exact.high))


def test_copies_count_once():
    scores, domains = np.repeat(np.arange(12.0), 2), np.array(["source"] * 24)
    twice = expected_false_alarms(scores, domains, 9.5, np.repeat(np.arange(12), 2))
    assert twice == expected_false_alarms(np.arange(12.0), domains[:12], 9.5)
    many = expected_false_alarms(np.r_[scores, [99.0] * 64], np.array(["source"] * 88), 9.5, np.r_[:24, [24] * 64])
    assert many == expected_false_alarms(np.r_[scores, 99.0], np.array(["source"] * 25), 9.5)


def test_the_rate_above_an_order_statistic_follows_the_beta_law_that_the_ranges_are_made_of():
    generator = np.random.default_rng(0)
    uniform = np.sort(generator.random((4000, 12)), axis=1)
    rates = 1.0 - uniform[:, 10]  # the eleventh of twelve
    assert scipy.stats.kstest(rates, scipy.stats.beta(2, 11).cdf).pvalue > 0.01


def test_the_least_rate():
    assert least_rate([3]) == 0.25
    assert least_rate([12, 4]) == pytest.approx((1 / 13 + 1 / 5) / 2)


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
