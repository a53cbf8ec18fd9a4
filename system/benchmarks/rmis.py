"""Fault diagnosis of RMIS with nearest neighbours (FISHER paper, section 4; details as in its code).

Fixed split: ten random splits of the recordings at one test size. Multi split: the same at nineteen test sizes, and the
area under the accuracy over the share of training recordings. Official split: the split published with the data set
(IIEE).

Clips are classified by their five nearest neighbours: the class with the highest sum of cosines wins. The metric is
macro accuracy, the mean of the recalls of the classes, in percent.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from system.benchmarks.cosine_vote import MEMORY, classify, tally
from system.benchmarks.neighbours import nearest
from system.benchmarks.protocols import CLEAN, check_mode
from system.benchmarks.splits import Splitter, check_sides

FIRST_SEED = 111
RUNS = 10
NEIGHBOURS = 5
TEST_SIZES = tuple(round(0.05 * number, 2) for number in range(1, 20))
CURVE = 20  # largest number of neighbours of the official split's curve
DIGITS = 2  # decimals to which the published code rounds intermediate results
FAIR_CHANCE = 0.1  # least probability of success of one random split
CHANGES = (
    f"figures are rounded to {DIGITS} decimals for display only (as coded: runs before their mean, means before the "
    "area)",
    "a class without recordings among the neighbours cannot win (as coded: it does where all neighbours' cosines are "
    "negative)",
)


@dataclass(frozen=True)
class Diagnosis:
    """Predictions on several splits of one data set.

    Args:
        classes: names of the C classes.
        labels: class numbers, (N,).
        tests: test rows of each split, bool (R, N).
        predicted: predicted class numbers, (R, N), -1 for training rows.
        seeds: seeds of the splits after retries, (R,).
        recordings: number of test recordings of each split, (R,).
        rounded: round each run's metrics, and their mean, to two decimals.
    """

    classes: list[str]
    labels: np.ndarray
    tests: np.ndarray
    predicted: np.ndarray
    seeds: list[int]
    recordings: list[int]
    rounded: bool

    @property
    def confusion(self) -> np.ndarray:
        """Confusion matrices (R, C, C): clips by true class and predicted class."""
        size = len(self.classes)
        cells = [
            np.bincount(self.labels[test] * size + found[test], minlength=size**2).reshape(size, size)
            for test, found in zip(self.tests, self.predicted, strict=True)
        ]
        return np.array(cells)

    @property
    def recalls(self) -> np.ndarray:
        """Recall of each class in each run, (R, C), in percent."""
        confusion = self.confusion
        return 100.0 * np.diagonal(confusion, axis1=1, axis2=2) / confusion.sum(axis=2)

    @property
    def accuracy(self) -> list[float]:
        """Accuracy of each run in percent."""
        confusion = self.confusion
        return [self._round(100.0 * np.trace(run) / run.sum()) for run in confusion]

    @property
    def macro_accuracy(self) -> list[float]:
        """Macro accuracy of each run in percent."""
        return [self._round(value) for value in self.recalls.mean(axis=1)]

    @property
    def mean(self) -> float:
        return self._round(np.mean(self.macro_accuracy))

    @property
    def std(self) -> float:
        """Standard deviation over the runs (n - 1); 0 for one run."""
        return self._round(np.std(self.macro_accuracy, ddof=1)) if len(self.seeds) > 1 else 0.0

    @property
    def class_recalls(self) -> list[dict[str, float]]:
        """Recalls of each run by class."""
        return [
            {name: self._round(value) for name, value in zip(self.classes, run, strict=True)} for run in self.recalls
        ]

    @property
    def per_class(self) -> dict[str, float]:
        """Mean recall of each class over the runs."""
        runs = self.class_recalls
        return {name: self._round(np.mean([run[name] for run in runs])) for name in self.classes}

    def _round(self, value: float | np.floating) -> float:
        return round(float(value), DIGITS) if self.rounded else float(value)


@dataclass(frozen=True)
class MultiSplit:
    """Diagnoses by increasing test size, and the area under their means over the training share, in percent."""

    diagnoses: dict[float, Diagnosis]
    end_points: list[tuple[float, float]]
    area: float

    @property
    def curve(self) -> list[tuple[float, float]]:
        """(training share, macro accuracy) by increasing share, without the end points."""
        return [(round(1.0 - size, 2), found.mean) for size, found in reversed(self.diagnoses.items())]


@dataclass(frozen=True)
class OfficialSplit:
    """The published split as a diagnosis of one run, and macro accuracy by number of neighbours, from 1."""

    diagnosis: Diagnosis
    curve: list[float]


def fixed_split(
    embeddings: np.ndarray,
    labels: ArrayLike,
    groups: ArrayLike,
    runs: int = RUNS,
    test_size: float = 0.5,
    neighbours: int = NEIGHBOURS,
    mode: str = CLEAN,
    classes: Sequence[str] | None = None,
    memory: int = MEMORY,
    workers: int = 1,
) -> Diagnosis:
    """Splits the recordings at random, classifies the test rows by their nearest neighbours, and repeats.

    Run r splits the distinct groups, in order of first appearance and independently of the classes, with seed 111 + r.
    While a class is missing on a side, the seed is increased by 100.

    Args:
        embeddings: (N, D), no row all zeros.
        labels: class names, (N,); ties go to the name that sorts first.
        groups: recording of each row, (N,); a recording is never on both sides.
        runs: number of splits.
        test_size: share of the recordings.
        neighbours: number of neighbours.
        mode: ``clean`` or ``as-coded``; ``CHANGES`` lists the differences.
        classes: names of the classes if ``labels`` are numbers; ties go to the lowest number.
        memory: see ``classify``.
        workers: see ``classify``.

    Raises:
        WheeltapperError: no split has every class on both sides.

    Example:
        >>> fixed_split(embeddings, labels, recordings, mode="clean").mean
    """
    splitter = Splitter(*_numbered(labels, classes), groups)
    return _diagnose(embeddings, splitter, (test_size,), runs, neighbours, mode, memory, workers)[test_size]


def multi_split(
    embeddings: np.ndarray,
    labels: ArrayLike,
    groups: ArrayLike,
    mode: str = CLEAN,
    classes: Sequence[str] | None = None,
    memory: int = MEMORY,
    workers: int = 1,
) -> MultiSplit:
    """``fixed_split`` at the test sizes .05, .10 to .95, and the area under the curve.

    Two end points are added to the 19 points: chance without training recordings, and 100 % if all are training
    recordings. The area of the 21 points is computed with the composite Simpson rule. For the arguments see
    ``fixed_split``.
    """
    splitter = Splitter(*_numbered(labels, classes), groups)
    found = _diagnose(embeddings, splitter, TEST_SIZES, RUNS, NEIGHBOURS, mode, memory, workers)
    ends = [(0.0, 100.0 / len(splitter.classes)), (1.0, 100.0)]
    heights = [ends[0][1], *(found[size].mean for size in reversed(TEST_SIZES)), ends[1][1]]
    area = simpson(heights, 1.0 / (len(heights) - 1))
    return MultiSplit(found, ends, round(area, DIGITS) if check_mode(mode) else area)


def official_split(
    embeddings: np.ndarray,
    labels: ArrayLike,
    tested: np.ndarray,
    mode: str = CLEAN,
    classes: Sequence[str] | None = None,
    neighbours: int = NEIGHBOURS,
) -> OfficialSplit:
    """Classifies the test rows of the split published with the data set.

    Args:
        embeddings: see ``fixed_split``.
        labels: see ``fixed_split``.
        tested: test rows, bool (N,).
        mode: see ``fixed_split``.
        classes: see ``fixed_split``.
        neighbours: number of neighbours.

    Raises:
        WheeltapperError: a class is missing on a side.
    """
    rounded = check_mode(mode)
    numbers, names = _numbered(labels, classes)
    tested = np.asarray(tested, bool)
    check_sides(numbers, names, tested)
    unit = np.asarray(embeddings, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    near = np.flatnonzero(~tested)[nearest(unit[tested], unit[~tested], max(CURVE, neighbours), "cosine")]
    cosines = np.einsum("mkd,md->mk", unit[near], unit[tested])
    found = {}
    for k in {*range(1, CURVE + 1), neighbours}:
        predicted = np.full((1, len(numbers)), -1)
        sums = tally(numbers[near[:, :k]], cosines[:, :k], len(names), absent_score(mode))
        predicted[0, tested] = sums.argmax(axis=1)
        found[k] = Diagnosis(names, numbers, tested[None], predicted, [], [], rounded)
    return OfficialSplit(found[neighbours], [found[k].mean for k in range(1, CURVE + 1)])


def splittable(labels: Sequence[str], groups: Sequence[str], test_size: float = 0.5) -> set[str]:
    """Classes that a random split leaves on both sides, all at once, with reasonable probability.

    Classes with the fewest recordings are removed until this is the case. For the arguments see ``fixed_split``.
    """
    recordings = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        recordings[label].add(group)
    chance = {name: 1 - test_size ** len(own) - (1 - test_size) ** len(own) for name, own in recordings.items()}
    kept = sorted(chance, key=lambda name: (-chance[name], name))
    while kept and math.prod(chance[name] for name in kept) < FAIR_CHANCE:
        kept.pop()
    return set(kept)


def absent_score(mode: str) -> float:
    """Score of a class that is not among the neighbours."""
    return 0.0 if check_mode(mode) else -np.inf


def simpson(heights: Sequence[float], step: float) -> float:
    """Area under an odd number of equally spaced points by the composite Simpson rule."""
    if len(heights) % 2 == 0:
        raise ValueError(f"expected an odd number of points, found {len(heights)}")
    return step / 3.0 * (heights[0] + 4.0 * sum(heights[1:-1:2]) + 2.0 * sum(heights[2:-1:2]) + heights[-1])


def _diagnose(
    embeddings: np.ndarray,
    splitter: Splitter,
    test_sizes: Sequence[float],
    runs: int,
    neighbours: int,
    mode: str,
    memory: int,
    workers: int,
) -> dict[float, Diagnosis]:
    """Diagnoses by test size. All splits are drawn first, so that impossible ones are found before any computation."""
    rounded = check_mode(mode)
    counts = {size: splitter.check_size(size) for size in test_sizes}
    drawn = [splitter.split(size, FIRST_SEED + run) for size in test_sizes for run in range(runs)]
    tests = np.array([test for test, _ in drawn])
    predicted = classify(embeddings, splitter.labels, tests, neighbours, absent_score(mode), memory, workers)
    found = {}
    for number, size in enumerate(test_sizes):
        own = slice(number * runs, (number + 1) * runs)
        found[size] = Diagnosis(
            list(splitter.classes),
            splitter.labels,
            tests[own],
            predicted[own],
            [seed for _, seed in drawn[own]],
            [counts[size]] * runs,
            rounded,
        )
    return found


def _numbered(labels: ArrayLike, classes: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Class numbers (N,) and names of the classes."""
    if classes is not None:
        return np.asarray(labels), list(classes)
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    return numbers.reshape(-1), [str(name) for name in names]
