"""Tasks and metrics of a labelled manifest."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from system.benchmarks import siren
from system.benchmarks.labelled import ANOMALIES, FILES, FOLDS, OVERALL, choose_task, figures, official
from system.benchmarks.neighbours import folds_accuracy
from system.benchmarks.protocols import MODES
from system.errors import WheeltapperError
from system.manifest import Clip


def clip(number: int, split: str = "train", machine: str = "fan", section: str = "00", **fields) -> Clip:
    file = f"{machine}_{split}_{number}.wav"
    return Clip("toy", machine, section, split, file, file, **fields)


def classed(sections: list[str], count: int = 40) -> list[Clip]:
    return [clip(i, section=sections[i % len(sections)], attributes=f"class_{'abc'[i // 3 % 3]}") for i in range(count)]


def machines() -> tuple[list[Clip], np.ndarray]:
    """Two machines whose anomalies are distant from normal clips, and one without labels."""
    generator = np.random.default_rng(0)
    clips, rows = [], []
    for machine, shift in (("fan", 0.6), ("pump", 0.3)):
        for i in range(30):
            clips.append(clip(i, machine=machine, label="normal", domain="target" if i % 3 == 0 else "source"))
            rows.append(generator.normal(1, 0.5, 8))
        for i in range(40):
            label, domain = ("anomaly" if i % 2 else "normal"), ("target" if i % 4 < 2 else "source")
            clips.append(clip(i, "test", machine, label=label, domain=domain))
            rows.append(generator.normal(1, 0.5, 8) + np.eye(8)[0] * shift * (i % 2) * 4)
    clips += [clip(0, machine="saw", label="normal", domain="source"), clip(0, "test", "saw")]
    return clips, np.array(rows)


def test_classes_in_folds():
    clips = classed(["1", "2", "3", "4", "5"])
    task, own = choose_task([*clips, clip(99)])  # has no class and is left out
    assert (task, own) == (FOLDS, clips)
    vectors = np.random.default_rng(0).normal(size=(40, 4))
    vectors[:, 0] += [3.0 * (i // 3 % 3) for i in range(40)]
    classes, folds = [i // 3 % 3 for i in range(40)], [i % 5 for i in range(40)]
    assert figures(own, task, vectors) == {"1-NN": folds_accuracy(vectors, classes, folds)}


def test_classes_alone():
    clips = classed(["00"])
    task, own = choose_task(clips)
    assert (task, own) == (FILES, clips)
    vectors = np.random.default_rng(0).normal(size=(40, 16))
    classes = [i // 3 % 3 for i in range(40)]
    assert figures(own, task, vectors) == {mode: siren.leave_one_file_out(vectors, classes, mode) for mode in MODES}


def test_labelled_test_clips():
    clips, vectors = machines()
    task, own = choose_task(clips)
    assert task == ANOMALIES
    assert {clip.machine for clip in own} == {"fan", "pump"}
    found = figures(own, task, vectors)
    assert list(found) == [
        "Mahalanobis",
        "Mahalanobis fan",
        "Mahalanobis pump",
        "1-NN",
        "1-NN fan",
        "1-NN pump",
    ]
    assert found["Mahalanobis fan"] > found["Mahalanobis pump"] > 55.0


def test_official_score_of_one_neighbour_against_scikit_learn():
    clips, vectors = machines()
    _, own = choose_task(clips)
    found = official(own, vectors, "knn", {"k": 1})
    harmonic = []
    for machine in ("fan", "pump"):
        rows = [i for i, c in enumerate(own) if c.machine == machine]
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        train = [i for i in rows if own[i].split == "train"]
        test = np.array([i for i in rows if own[i].split == "test"])
        scores = 1 - (unit[test] @ unit[train].T).max(1)
        anomalous = np.array([own[i].label == "anomaly" for i in test])
        domains = np.array([own[i].domain for i in test])
        areas = [
            roc_auc_score(anomalous[keep], scores[keep])
            for keep in (anomalous | (domains == "source"), anomalous | (domains == "target"))
        ]
        areas.append(roc_auc_score(anomalous, scores, max_fpr=0.1))
        assert found[machine] == pytest.approx(100 * 3 / sum(1 / area for area in areas))
        harmonic += [1 / area for area in areas]
    assert found[OVERALL] == pytest.approx(100 * 6 / sum(harmonic))


def test_nothing_to_tell():
    with pytest.raises(WheeltapperError, match=r"at least two classes .* found 0 classes"):
        choose_task([clip(i) for i in range(3)])
    with pytest.raises(WheeltapperError, match="found 1 classes"):
        choose_task([clip(i, attributes="class_a") for i in range(3)])
