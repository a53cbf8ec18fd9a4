"""The space of choices: a view, a fusion, and for each branch a scorer and a weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from system.config.tuning import Fusion, View

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

WEIGHT_STEP = 0.05  # between proposed weights
ZERO_WEIGHT_SHARE = 0.2  # probability that a proposal gives a branch no weight
KEPT_SHARE = 0.75  # share of the configured values that every second proposal keeps


@dataclass(frozen=True)
class Points:
    """T choices as numbers: views (T,), fusions (T,) and scorers (T, B) by index, weights (T, B) of the B branches."""

    views: np.ndarray
    fusions: np.ndarray
    scorers: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, rows: Any) -> "Points":
        return Points(self.views[rows], self.fusions[rows], self.scorers[rows], self.weights[rows])


@dataclass(frozen=True)
class Choice:
    """One choice by name: view, fusion, and the scorer (its label) and the weight of each branch."""

    view: View
    fusion: Fusion
    scorers: dict[str, str]
    weights: dict[str, float]


@dataclass(frozen=True)
class Space:
    """The views, the fusions, and the labels of the scorers of each branch."""

    views: tuple[View, ...]
    fusions: tuple[Fusion, ...]
    scorers: Mapping[str, tuple[str, ...]]

    def points(self, choices: Sequence[Choice]) -> Points:
        """Choices as numbers. Weights that are all zero become equal; the weights of a minimum become zero or one."""
        rows = [[labels.index(each.scorers[b]) for b, labels in self.scorers.items()] for each in choices]
        return self._points(
            np.array([self.views.index(each.view) for each in choices]),
            np.array([self.fusions.index(each.fusion) for each in choices]),
            np.array(rows),
            np.array([[each.weights.get(branch, 0.0) for branch in self.scorers] for each in choices]),
        )

    def _points(self, views: np.ndarray, fusions: np.ndarray, scorers: np.ndarray, weights: np.ndarray) -> Points:
        weights = np.where((weights > 0).any(axis=1, keepdims=True), weights, 1.0)
        minimum = np.array([name == "minimum" for name in self.fusions])[fusions]
        return Points(views, fusions, scorers, np.where(minimum[:, None], weights > 0, weights).astype(float))

    def choice(self, points: Points, row: int) -> Choice:
        """A row of points as a choice."""
        return Choice(
            self.views[points.views[row]],
            self.fusions[points.fusions[row]],
            {b: labels[points.scorers[row, i]] for i, (b, labels) in enumerate(self.scorers.items())},
            {branch: float(points.weights[row, i]) for i, branch in enumerate(self.scorers)},
        )

    def design(self, count: int, seed: int, first: Choice) -> Points:
        """``count`` choices proposed without labels; a shorter design is the beginning of a longer one.

        These are the configured system, every scorer of every branch alone, and points of a scrambled Sobol sequence
        (Sobol 1967, Owen 1998), which fill the space evenly. A weight is zero with probability ``ZERO_WEIGHT_SHARE``.
        Because most changes of a good system are bad, and several at once nearly always, every second point keeps about
        ``KEPT_SHARE`` of the configured values.
        """
        from scipy.stats import qmc

        own = {branch: labels[0] for branch, labels in self.scorers.items()}
        alone = [
            Choice(view, self.fusions[0], own | {branch: label}, {branch: 1.0})
            for view in self.views
            for branch, labels in self.scorers.items()
            for label in labels
        ]
        given = self.points([first, *alone][:count])
        left = count - len(given)
        if not left:
            return given
        dimensions = 2 + 2 * len(self.scorers)
        cube = qmc.Sobol(2 * dimensions, scramble=True, seed=seed).random_base2(max(1, (left - 1).bit_length()))[:left]
        sizes = np.array([len(labels) for labels in self.scorers.values()])
        raised = np.clip(
            (cube[:, 2 + len(sizes) : dimensions] - ZERO_WEIGHT_SHARE) / (1.0 - ZERO_WEIGHT_SHARE), 0.0, 1.0
        )
        kept = (np.arange(left)[:, None] % 2 == 1) & (cube[:, dimensions:] < KEPT_SHARE)
        start = self.points([first])
        rest = self._points(
            np.where(kept[:, 0], start.views, (cube[:, 0] * len(self.views)).astype(int)),
            np.where(kept[:, 1], start.fusions, (cube[:, 1] * len(self.fusions)).astype(int)),
            np.where(kept[:, 2 : 2 + len(sizes)], start.scorers, (cube[:, 2 : 2 + len(sizes)] * sizes).astype(int)),
            np.where(
                kept[:, 2 + len(sizes) :], start.weights, np.round(np.round(raised / WEIGHT_STEP) * WEIGHT_STEP, 2)
            ),
        )
        return Points(
            *(
                np.concatenate([getattr(p, n) for p in (given, rest)])
                for n in ("views", "fusions", "scorers", "weights")
            )
        )

    def spread(self, count: int) -> np.ndarray:
        """Indices of those of the first ``count`` points of a design that fill the space evenly; at least one."""
        alone = len(self.views) * sum(map(len, self.scorers.values()))
        return np.arange(min(1 + alone, count - 1), count, 2)

    def distributions(self, step: float | None = None) -> "dict[str, BaseDistribution]":
        """The parameters of a trial; ``step`` of the weights, None for continuous weights."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        found: dict[str, BaseDistribution] = {
            "view": CategoricalDistribution(self.views),
            "fusion": CategoricalDistribution(self.fusions),
        }
        for branch, labels in self.scorers.items():
            found[f"{branch}.scorer"] = CategoricalDistribution(labels)
            found[f"{branch}.weight"] = FloatDistribution(0.0, 1.0, step=step)
        return found

    def parameters(self, choice: Choice) -> dict[str, Any]:
        """A choice as the parameters of a trial."""
        found: dict[str, Any] = {"view": choice.view, "fusion": choice.fusion}
        for branch in self.scorers:
            found |= {f"{branch}.scorer": choice.scorers[branch], f"{branch}.weight": choice.weights[branch]}
        return found

    def from_parameters(self, found: Mapping[str, Any]) -> Choice:
        """The choice with the parameters of a trial."""
        return Choice(
            found["view"],
            found["fusion"],
            {branch: found[f"{branch}.scorer"] for branch in self.scorers},
            {branch: found[f"{branch}.weight"] for branch in self.scorers},
        )
