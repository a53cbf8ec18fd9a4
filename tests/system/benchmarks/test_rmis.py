"""RMIS fault diagnosis on a fixed split: equal to what the official code prints on synthetic embeddings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from system.benchmarks.rmis import fixed_split, splittable, vote
from system.bin.benchmark import tasks
from system.errors import WheeltapperError
from system.manifest import Clip

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "benchmarks" / "rmis_fixed"
DATA = np.load(FIXTURE / "data.npz")
REFERENCE = json.loads((FIXTURE / "reference.json").read_text())["settings"]
LABELS = DATA["class_names"][DATA["label"]]


@pytest.mark.parametrize("test_size", [0.5, 0.2])
def test_equals_the_official_figures(test_size):
    expected = REFERENCE[f"test_size_{test_size}"]
    found = fixed_split(DATA["embeddings"], LABELS, DATA["ori"], test_size=test_size)
    np.testing.assert_allclose(found.macro_accuracy, expected["macro_accuracy_per_run"], atol=0.01)
    assert found.mean == pytest.approx(expected["reported_mean"], abs=0.01)
    assert np.std(found.macro_accuracy, ddof=1) == pytest.approx(expected["reported_std"], abs=0.01)
    assert found.per_class == pytest.approx(expected["per_class_mean"], abs=0.01)


@pytest.mark.parametrize("test_size", ["05", "02"])
def test_equals_the_official_predictions(test_size):
    files = np.load(FIXTURE / "reference.npz")
    names = sorted(set(LABELS))
    numbers = np.array([names.index(label) for label in LABELS])
    for test, expected in zip(files[f"test_mask_{test_size}"], files[f"pred_{test_size}"], strict=True):
        found = vote(DATA["embeddings"][~test], numbers[~test], DATA["embeddings"][test], len(names), 5)
        assert [names[c] for c in found] == list(DATA["class_names"][expected[test]])


def test_vote_by_hand():
    train = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 2.0], [-1.0, 0.0]])
    labels = np.array([1, 0, 0, 2])
    test = np.array([[1.0, 0.05], [0.1, 5.0], [-3.0, 0.0]])
    assert vote(train, labels, test, 3, 1).tolist() == [1, 0, 2]
    assert vote(train, labels, test, 3, 3).tolist()[:2] == [0, 0]  # 0.9988 + 0.05 of class 0 beside 0.9988 of class 1
    assert vote(train, labels, test, 3, 99).tolist()[1] == 0


def test_ties_go_to_the_first_class():
    train = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert vote(train, np.array([1, 0]), np.array([[1.0, 0.0]]), 2, 2).tolist() == [0]


def test_recordings_are_never_on_both_sides():
    """Pieces of a recording are twins: seen on both sides they would be told apart without fail."""
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
    many = [f"{i:02d}" for i in range(60) for _ in range(4)]  # sixty classes of four: a split for all is a rare find
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
    clips += [clip("pump", "test", n) for n in range(20)]  # anonymous: no development machine
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
    with pytest.raises(WheeltapperError, match="expected at least 2 recordings to split, found 1"):
        fixed_split(embeddings, labels, ["r"] * 4)
    with pytest.raises(WheeltapperError, match="every class on both sides, found none in 100 attempts"):
        fixed_split(embeddings, labels, ["r", "r", "s", "s"])
