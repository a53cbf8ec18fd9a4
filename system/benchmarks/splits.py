"""Which recordings are learnt from and which are asked about: random halves and folds as scikit-learn draws them.

The draws are written out in NumPy, since importing scikit-learn takes longer than a whole benchmark.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from system.errors import WheeltapperError

RETRY = 100  # added to the seed of a split that leaves a class out of one side
ATTEMPTS = 10_000  # each takes some tens of microseconds


def random_side(units: int, test_size: float, seed: int) -> np.ndarray:
    """Which of so many units are on the test side: bool (units,), ceil(test_size * units) of them.

    As scikit-learn's ``train_test_split`` of a list, with ``random_state`` the seed.
    """
    chosen = np.random.RandomState(seed).permutation(units)[: test_count(units, test_size)]
    side = np.zeros(units, bool)
    side[chosen] = True
    return side


def test_count(units: int, test_size: float) -> int:
    return math.ceil(test_size * units)


def in_order(groups: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The distinct groups in order of first appearance, and each row's number in them (N,)."""
    names, first, members = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    return names[order], rank[members.reshape(-1)]


def holdings(labels: np.ndarray, classes: int, groups: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``in_order``, and which classes each of the groups holds: bool (groups, classes).

    Args:
        labels: (N,) class numbers. classes: how many. groups: (N,).
    """
    units, members = in_order(groups)
    holds = np.zeros((len(units), classes), bool)
    holds[members, labels] = True
    return units, members, holds


class Splitter:
    """Random splits of recordings that leave every class on both sides.

    Args:
        labels: (N,) class numbers, all of 0 to C - 1. classes: their C names, for what is said of them.
        groups: (N,) recording of each row; a recording is never on both sides.

    Raises WheeltapperError where a class is in one recording only, so that no split could serve.
    """

    def __init__(self, labels: np.ndarray, classes: Sequence[str], groups: ArrayLike) -> None:
        self.labels, self.classes = labels, classes
        self.units, self.members, self.holds = holdings(labels, len(classes), groups)
        check_recordings(self.holds, classes, self.units)

    def split(self, test_size: float, seed: int) -> tuple[np.ndarray, int]:
        """The rows on the test side, bool (N,), and the seed that drew them: 100 is added to a seed until one does.

        Raises WheeltapperError for a test size that cannot, or as good as never does, leave every class on both sides.
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
        """How many recordings are tested; WheeltapperError where a side is too small for every class to be there."""
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
    """Raises WheeltapperError that names the classes which only one recording holds.

    Args:
        holds: (recordings, classes) bool. classes, units: their names.
    """
    lonely = np.flatnonzero(holds.sum(axis=0) < 2)
    if len(lonely):
        named = ", ".join(f"{classes[int(c)]} ({units[int(holds[:, c].argmax())]})" for c in lonely)
        raise WheeltapperError(
            f"expected at least 2 recordings of every class, to learn from and to ask about, found 1 of: {named}"
        )


def check_sides(labels: np.ndarray, classes: Sequence[str], tested: np.ndarray) -> None:
    """Raises WheeltapperError where the test rows or the others lack a class.

    Args:
        labels: (N,) class numbers. classes: their names. tested: (N,) bool.
    """
    for side, rows in (("test", tested), ("training", ~tested)):
        missing = np.flatnonzero(np.bincount(labels[rows], minlength=len(classes)) == 0)
        if len(missing):
            named = ", ".join(classes[int(c)] for c in missing)
            raise WheeltapperError(f"expected {side} rows of every class, found none of {named}")


def stratified_folds(labels: ArrayLike, folds: int, seed: int, groups: ArrayLike | None = None) -> np.ndarray:
    """The fold of each row (N,), classes spread evenly, rows shuffled within their class.

    As scikit-learn's ``StratifiedKFold``; with groups its ``StratifiedGroupKFold``, which keeps a group in one fold.

    Raises WheeltapperError where there are fewer rows, or groups, than folds.
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
