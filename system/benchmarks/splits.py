"""Random splits and folds, identical to those of scikit-learn.

They are implemented in NumPy, because importing scikit-learn takes longer than a whole benchmark.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from system.errors import WheeltapperError

RETRY = 100  # added to the seed of a split in which a class is missing on one side
ATTEMPTS = 10_000  # each takes tens of microseconds


def random_side(units: int, test_size: float, seed: int) -> np.ndarray:
    """The units on the test side, bool (units,): ceil(test_size * units) of them.

    As scikit-learn's ``train_test_split`` of a list with ``random_state=seed``.
    """
    chosen = np.random.RandomState(seed).permutation(units)[: test_count(units, test_size)]
    side = np.zeros(units, bool)
    side[chosen] = True
    return side


def test_count(units: int, test_size: float) -> int:
    return math.ceil(test_size * units)


def in_order(groups: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The distinct groups in order of first appearance, and the index of each row's group, (N,)."""
    names, first, members = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    return names[order], rank[members.reshape(-1)]


def holdings(labels: np.ndarray, classes: int, groups: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``in_order``, and the classes that each group contains, bool (groups, classes).

    Args:
        labels: class numbers, (N,).
        classes: number of classes.
        groups: (N,).
    """
    units, members = in_order(groups)
    holds = np.zeros((len(units), classes), bool)
    holds[members, labels] = True
    return units, members, holds


class Splitter:
    """Random splits of recordings in which every class is on both sides.

    Args:
        labels: class numbers, (N,), 0 to C - 1.
        classes: names of the C classes, for messages.
        groups: recording of each row, (N,); a recording is never on both sides.

    Raises:
        WheeltapperError: a class has only one recording.
    """

    def __init__(self, labels: np.ndarray, classes: Sequence[str], groups: ArrayLike) -> None:
        self.labels, self.classes = labels, classes
        self.units, self.members, self.holds = holdings(labels, len(classes), groups)
        check_recordings(self.holds, classes, self.units)

    def split(self, test_size: float, seed: int) -> tuple[np.ndarray, int]:
        """Draws a split; while a class is missing on a side, the seed is increased by 100.

        Returns:
            The test rows, bool (N,), and the seed that was used.

        Raises:
            WheeltapperError: with this test size no split, or almost none, has every class on both sides.
        """
        count = self.check_size(test_size)
        for used in range(seed, seed + RETRY * ATTEMPTS, RETRY):
            side = random_side(len(self.units), test_size, used)
            if self.holds[side].any(axis=0).all() and self.holds[~side].any(axis=0).all():
                return side[self.members], used
        raise WheeltapperError(
            f"fault diagnosis: expected a split of the {len(self.units)} recordings, {count} of them for testing, with "
            f"every class on both sides, found none in {ATTEMPTS} attempts"
        )

    def check_size(self, test_size: float) -> int:
        """Number of test recordings; WheeltapperError if a side is too small for all classes."""
        if not 0 < test_size < 1:
            raise WheeltapperError(f"test size: expected a fraction between 0 and 1, found {test_size:g}")
        count = test_count(len(self.units), test_size)
        least = math.ceil(len(self.classes) / self.holds.sum(axis=1).max())
        for side, size in (("test", count), ("training", len(self.units) - count)):
            if size < least:
                raise WheeltapperError(
                    f"fault diagnosis: test size {test_size:g}: expected at least {least} recordings on the {side} "
                    f"side for {len(self.classes)} classes, found {size} of {len(self.units)}"
                )
        return count


def check_recordings(holds: np.ndarray, classes: Sequence[str], units: Sequence | np.ndarray) -> None:
    """Raises WheeltapperError that lists the classes with only one recording.

    Args:
        holds: classes of each recording, bool (recordings, classes).
        classes: names of the classes.
        units: names of the recordings.
    """
    lonely = np.flatnonzero(holds.sum(axis=0) < 2)
    if len(lonely):
        named = ", ".join(f"{classes[int(c)]} ({units[int(holds[:, c].argmax())]})" for c in lonely)
        raise WheeltapperError(
            f"expected at least 2 recordings of every class, one for training and one for testing, found 1 of: {named}"
        )


def check_sides(labels: np.ndarray, classes: Sequence[str], tested: np.ndarray) -> None:
    """Raises WheeltapperError if a class is missing among the test rows or the others.

    Args:
        labels: class numbers, (N,).
        classes: names of the classes.
        tested: test rows, bool (N,).
    """
    for side, rows in (("test", tested), ("training", ~tested)):
        missing = np.flatnonzero(np.bincount(labels[rows], minlength=len(classes)) == 0)
        if len(missing):
            named = ", ".join(classes[int(c)] for c in missing)
            raise WheeltapperError(f"expected {side} rows of every class, found none of {named}")


def stratified_folds(labels: ArrayLike, folds: int, seed: int, groups: ArrayLike | None = None) -> np.ndarray:
    """The fold of each row, (N,), stratified by class and shuffled within each class.

    As scikit-learn's ``StratifiedKFold``, or with groups ``StratifiedGroupKFold``, which keeps each group in one fold.

    Raises:
        WheeltapperError: there are fewer rows, or groups, than folds.
    """
    names, numbers = in_order(labels)
    count = len(numbers) if groups is None else len(np.unique(np.asarray(groups)))
    if count < folds:
        raise WheeltapperError(f"expected at least {folds} recordings for {folds} folds, found {count}")
    found = np.empty(len(numbers), np.intp)
    if groups is not None:
        from sklearn.model_selection import StratifiedGroupKFold

        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for fold, (_, rows) in enumerate(splitter.split(numbers, numbers, groups)):
            found[rows] = fold
        return found
    generator = np.random.RandomState(seed)
    ordered = np.sort(numbers)
    shares = np.array([np.bincount(ordered[fold::folds], minlength=len(names)) for fold in range(folds)])
    for number in range(len(names)):
        own = np.repeat(np.arange(folds), shares[:, number])
        generator.shuffle(own)
        found[numbers == number] = own
    return found
