"""RMIS fault diagnosis: equal to the output of the official code on synthetic embeddings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import simpson
from sklearn.metrics import confusion_matrix, recall_score

from system.benchmarks import rmis
from system.benchmarks.own_recordings import tasks
from system.benchmarks.rmis import fixed_split, multi_split, official_split, splittable
from system.errors import WheeltapperError
from system.manifest import Clip

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "benchmarks"
DATA = np.load(FIXTURES / "rmis_fixed" / "data.npz")
REFERENCE = json.loads((FIXTURES / "rmis_fixed" / "reference.json").read_text())["settings"]
CLASSES = [str(name) for name in DATA["class_names"]]


def fixed(mode: str, test_size: float = 0.5) -> rmis.Diagnosis:
    return fixed_split(DATA["embeddings"], DATA["label"], DATA["ori"], test_size=test_size, mode=mode, classes=CLASSES)


@pytest.mark.parametrize("test_size", [0.5, 0.2])
def test_equals_the_official_figures(test_size):
    expected = REFERENCE[f"test_size_{test_size}"]
    files = np.load(FIXTURES / "rmis_fixed" / "reference.npz")
    name = str(test_size).replace(".", "")
    found = fixed("as-coded", test_size)
    np.testing.assert_array_equal(found.tests, files[f"test_mask_{name}"])
    np.testing.assert_array_equal(found.predicted, files[f"pred_{name}"])
    assert found.macro_accuracy == expected["macro_accuracy_per_run"]
    assert (found.mean, found.std) == (expected["reported_mean"], expected["reported_std"])
    assert found.per_class == expected["per_class_mean"]
    for run, row in enumerate(expected["runs"]):
        assert found.seeds[run] == row["seed_used"]
        assert found.recordings[run] == row["n_test_ori"]
        assert found.tests[run].sum() == row["n_test"]
        assert found.accuracy[run] == row["micro_accuracy"]
        assert found.class_recalls[run] == row["per_class_accuracy"]


def test_clean_figures_are_not_rounded():
    found, coded = fixed("clean"), fixed("as-coded")
    np.testing.assert_array_equal(found.predicted, coded.predicted)  # no row has neighbours on the other side only
    for run in range(10):
        test = found.tests[run]
        truth, predicted = DATA["label"][test], found.predicted[run, test]
        recall = recall_score(truth, predicted, average="macro")
        assert found.macro_accuracy[run] == pytest.approx(100 * recall, abs=1e-9)
        np.testing.assert_array_equal(found.confusion[run], confusion_matrix(truth, predicted))
    assert found.mean == pytest.approx(np.mean(found.macro_accuracy), abs=1e-12)
    assert found.mean != coded.mean
    assert found.std == pytest.approx(np.std(found.macro_accuracy, ddof=1))


def test_names_instead_of_numbers():
    labels = np.array(CLASSES)[DATA["label"]]
    found = fixed_split(DATA["embeddings"], labels, DATA["ori"])
    assert found.classes == sorted(CLASSES)
    assert found.macro_accuracy == pytest.approx(fixed("clean").macro_accuracy)


def test_equals_the_official_curve_and_area():
    folder = FIXTURES / "rmis_multisplit"
    data, files = np.load(folder / "data.npz"), np.load(folder / "reference.npz")
    expected = json.loads((folder / "reference.json").read_text())
    names = [str(name) for name in data["class_names"]]
    found = multi_split(data["embeddings"], data["label"], data["ori"], "as-coded", names, workers=2)
    assert found.area == expected["area"]
    assert [list(point) for point in found.end_points] == expected["end_points"]
    assert [list(column) for column in zip(*found.curve, strict=True)] == list(expected["curve"].values())
    np.testing.assert_array_equal(list(found.diagnoses), files["test_sizes"])
    for number, (row, each) in enumerate(zip(expected["test_sizes"], found.diagnoses.values(), strict=True)):
        np.testing.assert_array_equal(each.tests, files["test_mask"][number])
        np.testing.assert_array_equal(each.predicted, files["pred"][number])
        assert each.seeds == row["seed_used_per_run"]
        assert each.macro_accuracy == row["macro_accuracy_per_run"]
        assert (each.mean, each.std) == (row["reported_mean"], row["reported_std"])
    clean = multi_split(data["embeddings"], data["label"], data["ori"])
    heights = [20.0, *(accuracy for _, accuracy in clean.curve), 100.0]
    assert clean.area == pytest.approx(simpson(heights, dx=0.05), abs=1e-9)
    assert 0 < abs(clean.area - found.area) < 0.01


def test_simpson_needs_an_odd_number_of_points():
    assert rmis.simpson([0.0, 1.0, 8.0, 27.0, 64.0], 1.0) == pytest.approx(64.0)
    with pytest.raises(ValueError, match="odd number of points, found 4"):
        rmis.simpson([1.0] * 4, 1.0)


@pytest.mark.parametrize("mode", ["as-coded", "clean"])
def test_the_official_split_is_one_run(mode):
    """One run of the fixed split, given as the data set's own split, has the same result."""
    fixture = fixed(mode)
    for run in (0, 7):
        found = official_split(DATA["embeddings"], DATA["label"], fixture.tests[run], mode, CLASSES)
        assert found.diagnosis.macro_accuracy == fixture.macro_accuracy[run : run + 1]
        np.testing.assert_array_equal(found.diagnosis.predicted[0], fixture.predicted[run])
        assert len(found.curve) == 20
        assert found.curve[4] == found.diagnosis.mean
        for k in (1, 20):
            other = fixed_split(DATA["embeddings"], DATA["label"], DATA["ori"], neighbours=k, mode=mode)
            assert found.curve[k - 1] == other.macro_accuracy[run]


def test_a_class_that_is_not_among_the_neighbours():
    """All five similarities are negative, so as coded the distant class wins with 0."""
    angles = np.radians([0.0, 40.0, *range(100, 105), *range(170, 175)])
    labels = ["near"] * 2 + ["near"] * 5 + ["far"] * 5
    labels[1] = "far"
    embeddings, tested = np.stack([np.cos(angles), np.sin(angles)], 1), np.arange(12) < 2
    for mode, expected in (("as-coded", ["far", "near"]), ("clean", ["near", "near"])):
        found = official_split(embeddings, labels, tested, mode).diagnosis
        assert [found.classes[c] for c in found.predicted[0, :2]] == expected


def test_an_official_split_without_a_class():
    tested = DATA["label"] != 2
    with pytest.raises(WheeltapperError, match="expected test rows of every class, found none of ventleak_noleak"):
        official_split(DATA["embeddings"], DATA["label"], tested, classes=CLASSES)


def test_recordings_are_never_on_both_sides():
    """Pieces of a recording are identical: on both sides they would always be classified correctly."""
    generator = np.random.default_rng(0)
    recordings = generator.normal(size=(20, 8))
    embeddings = np.repeat(recordings, 6, axis=0)
    labels = np.repeat([f"c{i % 2}" for i in range(20)], 6)
    groups = np.repeat([f"r{i}" for i in range(20)], 6)
    apart = fixed_split(embeddings, labels, groups, neighbours=1)
    mixed = fixed_split(embeddings, labels, [f"p{i}" for i in range(120)], neighbours=1)
    assert mixed.mean > 99.0
    assert apart.mean < 85.0


def test_classes_that_cannot_be_split_are_left_out():
    labels = ["a"] * 6 + ["b"] * 6 + ["c"] * 6 + ["d"]
    groups = [f"a{i}" for i in range(6)] + [f"b{i}" for i in range(6)] + ["c0"] * 6 + ["d0"]
    assert splittable(labels, groups) == {"a", "b"}
    assert splittable([], []) == set()
    many = [f"{i:02d}" for i in range(60) for _ in range(4)]  # sixty classes of four: hardly any split has all
    kept = splittable(many, [str(n) for n in range(len(many))])
    assert len(kept) == 17  # 0.875 ** 17 > 0.1 > 0.875 ** 18
    rows = [n for n, label in enumerate(many) if label in kept]
    fixed_split(np.random.default_rng(0).normal(size=(len(rows), 3)), [many[n] for n in rows], [str(n) for n in rows])


def test_tasks_of_a_run():
    def clip(machine, split, number, **values):
        return Clip("toy", machine, "00", split, f"{number}.wav", f"{number}.wav", **values)

    clips = [clip("fan", "train", n, label="normal", attributes=f"speed_{n % 3}") for n in range(24)]
    clips += [clip("fan", "test", n, label="anomaly" if n % 2 else "normal") for n in range(16)]
    clips += [clip("fan", "train", 99, label="normal", attributes="speed_9")]
    clips += [clip("pump", "train", n, label="normal", attributes=f"speed_{n % 2}") for n in range(20)]
    clips += [clip("pump", "test", n) for n in range(20)]  # unlabelled: not a development machine
    found = tasks(clips, 4, 0.5)
    assert {name: sorted({label for _, label in members}) for name, members in found.items()} == {
        "condition": ["fan speed_0", "fan speed_1", "fan speed_2"],
        "state": ["fan anomaly", "fan normal"],
    }
    assert [len(members) for members in found.values()] == [24, 16]
    assert tasks(clips, 9, 0.5) == {}
    assert tasks([replace(c, group=c.label or c.attributes) for c in clips], 4, 0.5) == {}


def test_too_few_recordings():
    embeddings, labels = np.eye(4), ["a", "a", "b", "b"]
    with pytest.raises(WheeltapperError, match=r"found 1 of: a \(r\), b \(r\)"):
        fixed_split(embeddings, labels, ["r"] * 4)
    with pytest.raises(WheeltapperError, match=r"found 1 of: a \(r\), b \(s\)"):
        fixed_split(embeddings, labels, ["r", "r", "s", "s"])
    with pytest.raises(WheeltapperError, match="mode: expected one of clean, as-coded, found 'dirty'"):
        fixed_split(embeddings, labels, list("abcd"), mode="dirty")
