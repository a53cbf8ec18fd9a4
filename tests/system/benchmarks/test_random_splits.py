"""Splits: equal to scikit-learn's, and impossible ones refused before they are tried."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, train_test_split

from system.benchmarks import splits
from system.benchmarks.splits import (
    Splitter,
    check_recordings,
    check_sides,
    holdings,
    in_order,
    random_side,
    stratified_folds,
)
from system.errors import WheeltapperError


@pytest.mark.parametrize("units", [20, 41, 150, 333])
@pytest.mark.parametrize("test_size", [0.05, 0.2, 0.3, 0.5, 0.55, 0.7, 0.95])
def test_sides_are_those_of_scikit_learn(units, test_size):
    for seed in (0, 111, 120, 1211):
        _, expected = train_test_split(np.arange(units), test_size=test_size, random_state=seed)
        np.testing.assert_array_equal(np.flatnonzero(random_side(units, test_size, seed)), np.sort(expected))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_those_of_scikit_learn(classes, folds):
    labels = np.random.default_rng(classes).integers(0, classes, 87)
    for seed in (1, 7):
        found = stratified_folds([f"class {-label}" for label in labels], folds, seed)
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        for fold, (_, rows) in enumerate(splitter.split(labels, labels)):
            np.testing.assert_array_equal(np.flatnonzero(found == fold), rows)


def test_sealed_folds():
    groups = np.random.default_rng(0).integers(0, 30, 200)
    labels = groups % 3
    folds = stratified_folds(labels, 5, 1, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    assert np.bincount(folds).min() > 20
    for fold in range(5):
        assert set(labels[folds == fold]) == {0, 1, 2}
    with pytest.raises(WheeltapperError, match="at least 5 recordings for 5 folds, found 4"):
        stratified_folds([0] * 8, 5, 1, [1, 2, 3, 4] * 2)


def test_order_of_first_appearance():
    names, members = in_order(["b", "c", "b", "a"])
    assert names.tolist() == ["b", "c", "a"]
    assert members.tolist() == [0, 1, 0, 2]


def test_a_seed_grows_until_every_class_is_on_both_sides():
    labels, groups = np.repeat([0, 1, 2], [60, 60, 6]), np.repeat(np.arange(42), 3)
    test, seed = Splitter(labels, "abc", groups).split(0.05, 111)
    assert seed > 111
    assert (seed - 111) % 100 == 0
    for other in range(111, seed + 1, 100):
        _, units = train_test_split(np.arange(42), test_size=0.05, random_state=other)
        side = np.isin(groups, units)
        whole = set(labels[side]) == set(labels[~side]) == {0, 1, 2}
        assert whole == (other == seed)
    np.testing.assert_array_equal(test, side)


def test_hopeless_splits_are_refused_without_a_try(monkeypatch):
    monkeypatch.setattr(splits, "ATTEMPTS", 0)
    labels, groups = np.array([0, 0, 0, 1, 1]), np.array(["r", "s", "t", "u", "u"])
    with pytest.raises(WheeltapperError, match=r"2 recordings of every class, .* found 1 of: pump \(u\)"):
        Splitter(labels, ["fan", "pump"], groups)
    splitter = Splitter(np.repeat([0, 1, 2], 5), "abc", np.arange(15))
    with pytest.raises(WheeltapperError, match="at least 3 recordings on the test side for 3 classes, found 1 of 15"):
        splitter.split(0.05, 111)
    with pytest.raises(WheeltapperError, match="at least 3 recordings on the training side for 3 classes, found 0"):
        splitter.split(0.95, 111)
    for size in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(WheeltapperError, match="test size: expected a fraction between 0 and 1"):
            splitter.split(size, 111)


def test_splits_that_never_come(monkeypatch):
    monkeypatch.setattr(splits, "ATTEMPTS", 300)
    labels = np.repeat(np.arange(20), 2)
    with pytest.raises(WheeltapperError, match=r"found none in 300 attempts"):
        Splitter(labels, [str(c) for c in range(20)], np.arange(40)).split(0.5, 111)


def test_recordings_of_several_classes():
    units, members, holds = holdings(np.array([0, 1, 1, 0]), 2, ["x", "x", "y", "y"])
    assert units.tolist() == ["x", "y"]
    assert members.tolist() == [0, 0, 1, 1]
    check_recordings(holds, "ab", units)
    test, _ = Splitter(np.array([0, 1, 1, 0]), "ab", ["x", "x", "y", "y"]).split(0.5, 1)
    assert test.sum() == 2


def test_sides_with_every_class():
    labels = np.array([0, 1, 0, 1])
    check_sides(labels, "ab", np.array([True, True, False, False]))
    with pytest.raises(WheeltapperError, match="expected training rows of every class, found none of b"):
        check_sides(labels, "ab", np.array([False, True, False, True]) | (np.arange(4) == 0))
    with pytest.raises(WheeltapperError, match="expected test rows of every class, found none of a, b"):
        check_sides(labels, "ab", np.zeros(4, bool))
