"""SIREN's leave-one-file-out: the predictions of the official code on synthetic features, with and without quirk."""

import json
from pathlib import Path

import numpy as np
import pytest

from system.benchmarks import siren
from system.benchmarks.neighbours import closest, leave_one_out_accuracy, nearest, vote
from system.errors import WheeltapperError

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "benchmarks" / "siren_loocv"
DATA = np.load(FIXTURE / "data.npz")
REFERENCE = np.load(FIXTURE / "reference.npz")
CASES = json.loads((FIXTURE / "reference.json").read_text())["cases"]
LABELS = DATA["class_names"][DATA["label"]]
OFFICIAL = {"d90_plain": "as-coded", "d96_as_coded": "as-coded", "d96_clean": "clean"}


@pytest.mark.parametrize(("case", "mode"), OFFICIAL.items())
def test_equals_the_official_accuracy(case, mode):
    found = siren.leave_one_file_out(DATA[CASES[case]["features"]], LABELS, mode)
    assert found == pytest.approx(100 * CASES[case]["accuracy"], abs=1e-9)


@pytest.mark.parametrize("case", ["d90_plain", "d96_clean"])
def test_equals_the_official_neighbours(case):
    features = DATA[CASES[case]["features"]].astype(np.float64)
    rows = np.arange(len(features))
    found = nearest(features, features, siren.NEIGHBOURS, "euclidean", rows)
    np.testing.assert_array_equal(found, REFERENCE[f"{case}_neighbours"])
    distances = np.linalg.norm(features[:, None] - features[found], axis=2)
    np.testing.assert_allclose(distances, REFERENCE[f"{case}_distances"], atol=2e-4)
    np.testing.assert_array_equal(vote(DATA["label"][found]), REFERENCE[f"{case}_prediction"])


def test_equals_the_official_neighbours_as_coded():
    distances = siren.piecewise_distances(DATA["features_d96"])
    np.fill_diagonal(distances, np.inf)
    found = closest(distances, siren.NEIGHBOURS)
    np.testing.assert_array_equal(found, REFERENCE["d96_as_coded_neighbours"])
    expected = REFERENCE["d96_as_coded_distances"]
    np.testing.assert_allclose(np.take_along_axis(distances, found, 1), expected, atol=2e-4)
    np.testing.assert_array_equal(vote(DATA["label"][found]), REFERENCE["d96_as_coded_prediction"])


def test_the_last_eighth_is_not_heard_as_coded():
    features = DATA["features_d96"].copy()
    before = siren.piecewise_distances(features)
    features[:, -12:] = 7.0
    np.testing.assert_array_equal(siren.piecewise_distances(features), before)
    features[:, -13] *= 2.0
    assert not np.allclose(siren.piecewise_distances(features), before)


def test_cuts_of_one_recording_are_no_neighbours():
    features = np.repeat(DATA["features_d96"][:20], 2, axis=0)
    labels, groups = np.repeat(LABELS[:20], 2), np.repeat(np.arange(20), 2)
    for mode in siren.MODES:
        alone = siren.leave_one_file_out(features, labels, mode)
        apart = siren.leave_one_file_out(features, labels, mode, groups)
        assert apart < alone
    expected = leave_one_out_accuracy(features, labels, siren.NEIGHBOURS, "euclidean", groups)
    assert siren.leave_one_file_out(features, labels, "clean", groups) == expected


def test_identical_recordings():
    """No spread to divide by: every distance 0, and the first rows win."""
    assert siren.leave_one_file_out(np.ones((6, 8)), ["a"] * 5 + ["b"], "as-coded") == pytest.approx(100 * 5 / 6)


def test_an_unknown_mode():
    with pytest.raises(WheeltapperError, match="mode: expected one of clean, as-coded, found 'dirty'"):
        siren.leave_one_file_out(DATA["features_d96"], LABELS, "dirty")
