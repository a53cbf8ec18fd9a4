"""SIREN's fault classification: predictions of the official code on synthetic features, in both modes."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from system.benchmarks import siren
from system.benchmarks.neighbours import closest, leave_one_out_accuracy, vote
from system.benchmarks.protocols import MODES
from system.errors import WheeltapperError

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "benchmarks" / "siren_loocv"
DATA = np.load(FIXTURE / "data.npz")
REFERENCE = np.load(FIXTURE / "reference.npz")
CASES = json.loads((FIXTURE / "reference.json").read_text())["cases"]
LABELS = DATA["class_names"][DATA["label"]]
OFFICIAL = {"d90_plain": ("as-coded", 1, 1), "d96_as_coded": ("as-coded", 8, 7), "d96_clean": ("clean", 1, 1)}


def plain(queries, memory, classes, pieces=1, used=1) -> list:
    """One query and one piece at a time; a query in the memory is not its own neighbour."""
    found = []
    for query in queries.astype(np.float64):
        total = np.zeros(len(memory))
        for part in range(used):
            piece = slice(part * len(query) // pieces, (part + 1) * len(query) // pieces)
            distances = np.linalg.norm(memory[:, piece] - query[piece], axis=1)
            total += (distances - distances.mean()) / (distances.std() + 1e-10) if pieces > 1 else distances
        total[(memory == query).all(axis=1)] = np.inf
        near = [classes[i] for i in np.argsort(total, kind="stable")[:5]]
        found.append(Counter(near).most_common(1)[0][0])
    return found


@pytest.mark.parametrize(("case", "how"), OFFICIAL.items())
def test_equals_the_official_predictions(case, how):
    features = DATA[CASES[case]["features"]]
    np.testing.assert_array_equal(
        siren.predict_left_out(features, DATA["label"], how[0]), REFERENCE[f"{case}_prediction"]
    )
    found = siren.leave_one_file_out(features, LABELS, how[0])
    assert found == pytest.approx(100 * CASES[case]["accuracy"], abs=1e-9)


@pytest.mark.parametrize(("case", "how"), OFFICIAL.items())
def test_equals_the_official_neighbours(case, how):
    features = DATA[CASES[case]["features"]].astype(np.float64)
    distances = siren.fused_distances(features, features, *how[1:])
    np.fill_diagonal(distances, np.inf)
    found = closest(distances, siren.NEIGHBOURS)
    np.testing.assert_array_equal(found, REFERENCE[f"{case}_neighbours"])
    expected = REFERENCE[f"{case}_distances"]
    np.testing.assert_allclose(np.take_along_axis(distances, found, 1), expected, atol=1e-4)
    np.testing.assert_array_equal(vote(DATA["label"][found]), REFERENCE[f"{case}_prediction"])


@pytest.mark.parametrize("mode", ["clean", "as-coded"])
def test_channels_that_are_there_all_count(mode):
    """Eight concatenated channels: none is left out."""
    features, expected = DATA["features_d96"], CASES["d96_all_8_pieces"]
    found = siren.predict_left_out(features, DATA["label"], mode, channels=8)
    assert np.sum(found == DATA["label"]) == expected["correct"]
    assert found.tolist() == expected["predictions"]


def test_the_last_eighth_is_not_heard_as_coded():
    features = DATA["features_d96"].astype(np.float64)
    before = siren.fused_distances(features, features, 8, 7)
    features[:, -12:] = 7.0
    np.testing.assert_array_equal(siren.fused_distances(features, features, 8, 7), before)
    features[:, -13] *= 2.0
    assert not np.allclose(siren.fused_distances(features, features, 8, 7), before)


def test_blocks_do_not_count(monkeypatch):
    expected = [siren.predict_left_out(DATA["features_d96"], LABELS, mode) for mode in MODES]
    monkeypatch.setattr(siren, "BLOCK", 10)
    for mode, found in zip(MODES, expected, strict=True):
        np.testing.assert_array_equal(siren.predict_left_out(DATA["features_d96"], LABELS, mode), found)


@pytest.mark.parametrize("mode", MODES)
def test_beyond_5000_recordings_the_coded_one_sees_itself(monkeypatch, mode):
    features, labels = np.random.default_rng(0).normal(size=(60, 16)), np.random.default_rng(1).integers(0, 60, 60)
    monkeypatch.setattr(siren, "NEIGHBOURS", 1)
    monkeypatch.setattr(siren, "LEAK", 60)
    assert siren.leave_one_file_out(features, labels, mode) < 30
    monkeypatch.setattr(siren, "LEAK", 59)
    found = siren.leave_one_file_out(features, labels, mode)
    assert found == 100 if mode == "as-coded" else found < 30
    assert len(siren.changes(mode, "loocv", 60, 16)) == 2 * (mode == "clean")


@pytest.mark.parametrize(("mode", "pieces"), [("clean", (1, 1)), ("as-coded", (8, 7))])
def test_five_folds(mode, pieces):
    features, labels = DATA["features_d96"], DATA["label"]
    predicted, folds = siren.predict_folds(features, labels, mode)
    for fold, (train, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=1).split(labels, labels)):
        np.testing.assert_array_equal(np.flatnonzero(folds == fold), test)
        expected = plain(features[test], features[train], labels[train], *pieces)
        assert predicted[test].tolist() == expected


@pytest.mark.parametrize(("mode", "pieces"), [("clean", (1, 1)), ("as-coded", (8, 8))])
def test_a_test_side_of_its_own(mode, pieces):
    """With queries of one recording, all eight pieces count as coded."""
    features, labels = DATA["features_d96"], DATA["label"]
    tested = np.arange(len(labels)) % 3 == 0
    found = siren.predict_test(features, labels, tested, mode)
    assert found.tolist() == plain(features[tested], features[~tested], labels[~tested], *pieces)


def test_cuts_of_one_recording_are_no_neighbours():
    features = np.repeat(DATA["features_d96"][:20], 2, axis=0)
    labels, groups = np.repeat(LABELS[:20], 2), np.repeat(np.arange(20), 2)
    for mode in MODES:
        alone = siren.leave_one_file_out(features, labels, mode)
        apart = siren.leave_one_file_out(features, labels, mode, groups)
        assert apart < alone
        _, folds = siren.predict_folds(features, labels, mode, groups)
        np.testing.assert_array_equal(folds[::2], folds[1::2])
    expected = leave_one_out_accuracy(features, labels, siren.NEIGHBOURS, "euclidean", groups)
    assert siren.leave_one_file_out(features, labels, "clean", groups) == expected


def test_far_from_the_origin():
    features = np.round(DATA["features_d96"].astype(np.float64), 3)
    expected = siren.predict_left_out(features, LABELS, "as-coded")
    np.testing.assert_array_equal(siren.predict_left_out(features + 2.0**20, LABELS, "as-coded"), expected)


def test_identical_recordings():
    """Without spread all distances are 0, and the first rows win."""
    assert siren.leave_one_file_out(np.ones((6, 8)), ["a"] * 5 + ["b"], "as-coded") == pytest.approx(100 * 5 / 6)


def test_what_changes_in_words():
    assert siren.changes("as-coded", "loocv", 9000, 96) == []
    assert siren.changes("clean", "loocv", 105, 90) == []
    (text,) = siren.changes("clean", "kfold", 105, 96)
    assert "cut into 8 pieces" in text
    assert "the last piece left out" in text
    assert "left out" not in siren.changes("clean", "official", 105, 96)[0]
    assert siren.changes("clean", "loocv", 105, 96, 8) == []


def test_mistakes():
    with pytest.raises(WheeltapperError, match="mode: expected one of clean, as-coded, found 'dirty'"):
        siren.leave_one_file_out(DATA["features_d96"], LABELS, "dirty")
    with pytest.raises(WheeltapperError, match="expected a divisor of the 90 dimensions, found 8"):
        siren.predict_left_out(DATA["features_d90"], LABELS, channels=8)
    with pytest.raises(WheeltapperError, match="expected a divisor of the 96 dimensions, found 7"):
        siren.predict_left_out(DATA["features_d96"], LABELS, "as-coded", channels=7)
