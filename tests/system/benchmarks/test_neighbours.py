"""Nearest neighbours: equal to scikit-learn and to plain loops, ties as documented; the probe has no side effects."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from system.benchmarks import neighbours
from system.benchmarks.neighbours import folds_accuracy, leave_one_out_accuracy, nearest, probe_accuracy, vote
from system.errors import WheeltapperError

RATE = 16000


def clusters(count=90, classes=6, dim=12, spread=1.3, seed=0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    return generator.normal(0, 1, (classes, dim))[labels] + generator.normal(0, spread, (count, dim)), labels


def plain(embeddings, labels, rows, others, k, metric) -> list[bool]:
    """Loops over clips and neighbours with explicit distances."""
    correct = []
    for i in rows(len(labels)):
        memory = others(i)
        if metric == "cosine":
            norms = np.linalg.norm(embeddings[memory], axis=1) * np.linalg.norm(embeddings[i])
            distances = 1 - embeddings[memory] @ embeddings[i] / norms
        else:
            distances = [np.linalg.norm(embeddings[j] - embeddings[i]) for j in memory]
        near = [labels[memory[j]] for j in np.argsort(distances, kind="stable")[:k]]
        correct.append(Counter(near).most_common(1)[0][0] == labels[i])
    return correct


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_against_plain_loops(monkeypatch, metric, k):
    monkeypatch.setattr(neighbours, "BLOCK", 16)
    embeddings, labels = clusters()
    embeddings += 40.0  # far from the origin, where squared distances cancel
    names = np.array([f"class {label}" for label in labels])
    folds = np.arange(90) % 5
    correct = plain(embeddings, labels, range, lambda i: [j for j in range(90) if j != i], k, metric)
    assert leave_one_out_accuracy(embeddings, names, k, metric) == pytest.approx(100 * np.mean(correct))
    by_fold = []
    for fold in range(5):
        memory = np.flatnonzero(folds != fold)
        own = plain(embeddings, labels, lambda _, f=fold: np.flatnonzero(folds == f), lambda _, m=memory: m, k, metric)
        by_fold.append(100 * np.mean(own))
    assert folds_accuracy(embeddings, names, folds, k, metric) == pytest.approx(np.mean(by_fold))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_one_neighbour_against_scikit_learn(metric):
    embeddings, labels = clusters(count=200, seed=3)
    folds = np.random.default_rng(1).integers(0, 4, 200)  # of unequal size: the mean is over folds, not clips
    scores = []
    for fold in range(4):
        model = KNeighborsClassifier(1, metric=metric).fit(embeddings[folds != fold], labels[folds != fold])
        scores.append(model.score(embeddings[folds == fold], labels[folds == fold]))
    assert folds_accuracy(embeddings, labels, folds, 1, metric) == pytest.approx(100 * np.mean(scores))


def test_ties_go_to_the_nearest():
    votes = np.array([[3, 1, 1, 3, 2], [2, 1, 1, 3, 3], [0, 1, 2, 3, 4], [5, 5, 1, 1, 1]])
    np.testing.assert_array_equal(vote(votes), [3, 1, 0, 1])
    same = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [4.0, 0.0]])
    np.testing.assert_array_equal(nearest(same[:1], same, 3, "cosine"), [[0, 1, 3]])  # equal angles, in their order


def test_members_of_a_group_are_no_neighbours():
    generator = np.random.default_rng(0)
    recordings = np.repeat(generator.normal(size=(12, 6)), 4, axis=0) + generator.normal(0, 1e-3, (48, 6))
    labels = np.repeat(np.arange(12) % 2, 4)
    groups = np.repeat([f"r{i}" for i in range(12)], 4)
    assert leave_one_out_accuracy(recordings, labels, 3) == 100.0
    apart = leave_one_out_accuracy(recordings, labels, 1, "euclidean", groups)
    correct = plain(recordings, labels, range, lambda i: [j for j in range(48) if j // 4 != i // 4], 1, "euclidean")
    assert apart == pytest.approx(100 * np.mean(correct))
    assert apart < 90.0


def test_more_neighbours_than_clips():
    embeddings = np.array([[0.0], [1.0], [2.0], [10.0]])
    assert leave_one_out_accuracy(embeddings, ["a", "a", "a", "b"], 50, "euclidean") == 75.0
    # "b" has two clips of other groups as neighbours; the one of its own group is excluded.
    assert leave_one_out_accuracy(embeddings, ["a", "a", "b", "b"], 9, "euclidean", ["r", "s", "t", "t"]) == 50.0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x, y: folds_accuracy(x, y, ["1"] * 90), "expected at least 2 folds, found 1"),
        (lambda x, y: leave_one_out_accuracy(x, y, 1, "cosine", ["g"] * 90), "at least 2 groups, found 90 of one"),
        (lambda x, y: leave_one_out_accuracy(x, y, 0), "k: expected at least 1 neighbour, found 0"),
        (lambda x, y: folds_accuracy(x, y, y, 1, "manhattan"), "metric: expected one of cosine, euclidean"),
    ],
)
def test_mistakes(call, text):
    with pytest.raises(WheeltapperError, match=text):
        call(*clusters())


@pytest.fixture
def recordings() -> tuple[list[tuple[np.ndarray, int]], list[str], list[int]]:
    """Hums of three pitches, their classes and folds."""
    generator = np.random.default_rng(0)
    time = np.arange(RATE // 2) / RATE
    waves, classes = [], []
    for number in range(18):
        wave = np.sin(2 * np.pi * (300 + 1200 * (number % 3)) * time) + generator.normal(0, 0.3, len(time))
        waves.append((wave.astype(np.float32), RATE))
        classes.append("abc"[number % 3])
    return waves, classes, [number // 6 for number in range(18)]


def test_the_probe_tells_pitches_and_repeats_itself(tiny_encoder, recordings):
    waves, classes, folds = recordings
    encoder = tiny_encoder()
    first = probe_accuracy(encoder, waves, classes, folds)
    assert list(first) == ["cls", "tokens"]
    assert first["tokens"] == 100.0
    assert probe_accuracy(encoder, waves, classes, folds) == first
    assert probe_accuracy(encoder, waves, classes)["tokens"] == 100.0
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    assert probe_accuracy(encoder, waves, classes, folds)["tokens"] < 50.0


def test_the_probe_leaves_no_trace(tiny_encoder, recordings):
    """Random states, modes of modules and weights are unchanged."""
    waves, classes, _ = recordings
    encoder = tiny_encoder().train()
    encoder.blocks[0].eval()
    modes = [module.training for module in encoder.modules()]
    torch.manual_seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    probe_accuracy(encoder, waves, classes)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert [module.training for module in encoder.modules()] == modes
    assert torch.is_grad_enabled()
    spectrogram = encoder.spectrogram(torch.from_numpy(waves[0][0])[None], RATE)
    encoder(spectrogram).grid.sum().backward()
    assert encoder.patch_embed.weight.grad is not None


def test_modes_come_back_after_an_error(tiny_encoder):
    encoder = tiny_encoder().train()
    with pytest.raises(WheeltapperError, match="waveform"):
        probe_accuracy(encoder, [(np.zeros(0, np.float32), RATE)] * 2, ["a", "b"])
    assert all(module.training for module in encoder.modules())


@pytest.mark.parametrize("k", [1, 2, 7, 29, 30, 40])
def test_the_closest_columns_with_and_without_ties(k):
    distances = np.random.default_rng(0).normal(size=(50, 30))
    for rows in (distances, np.round(distances, 1), np.where(distances > 1, np.inf, distances)):
        np.testing.assert_array_equal(
            neighbours.closest(rows, k), np.argsort(rows, axis=1, kind="stable")[:, : min(k, 30)]
        )
