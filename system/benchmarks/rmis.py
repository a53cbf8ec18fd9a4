"""RMIS fault diagnosis by nearest neighbours, fixed split (FISHER paper, section 4; details as its code has them)."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from system.errors import WheeltapperError

FIRST_SEED = 111
RETRY = 100  # added to the seed of a split that leaves a class out of one side
ATTEMPTS = 100
FAIR_CHANCE = 0.1  # of one attempt; a hundred of them then fail once in 40 000 runs


@dataclass(frozen=True)
class Diagnosis:
    """Figures in percent: macro accuracy (mean of the classes' recalls) of each run, and each class's mean recall."""

    macro_accuracy: list[float]
    per_class: dict[str, float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.macro_accuracy))


def fixed_split(
    embeddings: np.ndarray,
    labels: Sequence[str],
    groups: Sequence[str],
    runs: int = 10,
    test_size: float = 0.5,
    neighbours: int = 5,
) -> Diagnosis:
    """Splits the recordings at random, classifies the test side by its nearest neighbours, and repeats.

    Run r splits the distinct groups, in order of first appearance and without regard to the classes, with seed
    111 + r; where a class is missing on a side the seed grows by 100 until none is.

    Args:
        embeddings: (N, D). labels: (N,) class names; ties go to the class that sorts first.
        groups: (N,) recording each row was cut from; a recording is never on both sides.

    Raises WheeltapperError where no split leaves every class on both sides.
    """
    from sklearn.model_selection import train_test_split

    classes, numbers = np.unique(np.asarray(labels), return_inverse=True)
    order, first, members = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    units = order[np.argsort(first)]
    member_names = order[members]
    if len(units) < 2:
        raise WheeltapperError(f"fault diagnosis: expected at least 2 recordings to split, found {len(units)}")
    accuracies, recalls = [], []
    for run in range(runs):
        for attempt in range(ATTEMPTS):
            seed = FIRST_SEED + run + RETRY * attempt
            _, test_units = train_test_split(units, test_size=test_size, random_state=seed)
            test = np.isin(member_names, test_units)
            if len(np.unique(numbers[test])) == len(np.unique(numbers[~test])) == len(classes):
                break
        else:
            raise WheeltapperError(
                f"fault diagnosis: expected a split of the {len(units)} recordings with every class on both sides, "
                f"found none in {ATTEMPTS} attempts"
            )
        predicted = vote(embeddings[~test], numbers[~test], embeddings[test], len(classes), neighbours)
        correct = predicted == numbers[test]
        recalls.append([100.0 * correct[numbers[test] == c].mean() for c in range(len(classes))])
        accuracies.append(float(np.mean(recalls[-1])))
    means = np.mean(recalls, axis=0)
    return Diagnosis(accuracies, {str(name): float(value) for name, value in zip(classes, means, strict=True)})


def splittable(labels: Sequence[str], groups: Sequence[str], test_size: float = 0.5) -> set[str]:
    """Classes that a random split has a fair chance to leave on both sides, all at once; those of the fewest recordings
    are left out until it has.

    Args:
        labels, groups, test_size: as of ``fixed_split``.
    """
    recordings = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        recordings[label].add(group)
    chance = {name: 1 - test_size ** len(own) - (1 - test_size) ** len(own) for name, own in recordings.items()}
    kept = sorted(chance, key=lambda name: (-chance[name], name))
    while kept and math.prod(chance[name] for name in kept) < FAIR_CHANCE:
        kept.pop()
    return set(kept)


def vote(train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, neighbours: int) -> np.ndarray:
    """Class of each test row: the highest sum of cosine similarities among its nearest training rows.

    Args:
        train: (N, D). labels: (N,) class numbers. test: (M, D). classes: how many. neighbours: k.

    Returns:
        (M,) class numbers; ties go to the lowest.
    """
    train, test = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (train, test))
    similarity = test @ train.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
    votes = np.zeros((len(test), classes), similarity.dtype)
    rows = np.arange(len(test))[:, None]
    np.add.at(votes, (rows, labels[nearest]), similarity[rows, nearest])
    return votes.argmax(axis=1)
