"""Conditional Mahalanobis distance: how unusual an embedding is, given the recording conditions (such as noise)."""

from dataclasses import dataclass

import numpy as np

from system.errors import WheeltapperError
from system.scoring.mahalanobis import (
    GaussianBank,
    MahalanobisScorer,
    fit_gaussian,
    products_of,
    shrinkage_without,
    shrinkage_without_group,
    squares_without,
    squares_without_group,
)


@dataclass(frozen=True)
class ConditionalBank:
    """Joint normal distribution of embedding x and condition c, and the marginal one of c.

    The conditional distance is M^2(x | c) = M^2([x, c]) - M^2(c).
    """

    joint: GaussianBank
    condition: GaussianBank

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        dim = embeddings.shape[1] - self.condition.centred.shape[1]  # of x
        return _root(self.joint.squares(embeddings) - self.condition.squares(embeddings[:, dim:]))

    def leave_one_out(self) -> np.ndarray:
        """Distances with means, covariance and shrinkage re-estimated without each reference, in closed form."""
        shrinkage = shrinkage_without(self.joint)
        return _root(squares_without(self.joint, *shrinkage) - squares_without(self.condition, *shrinkage))

    def without(self, members: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """As ``GaussianBank.without``."""
        dim = embeddings.shape[1] - self.condition.centred.shape[1]
        shrinkage = shrinkage_without_group(self.joint, members)
        joint = squares_without_group(self.joint, members, embeddings, *shrinkage)
        return _root(joint - squares_without_group(self.condition, members, embeddings[:, dim:], *shrinkage))


class ConditionalMahalanobisScorer(MahalanobisScorer):
    """s = min over banks of sqrt(M^2(x | c)): unusual conditions c alone do not make a clip anomalous.

    With the noise at the far microphone as c, a normal clip in louder noise is not an anomaly.

    Rows are (N, 1 + n, D): band 0 is the embedding x, the other bands are the condition c. The joint covariance is
    estimated after Ledoit and Wolf (2004), and the covariance of c is a block of it.

    Args:
        bank: see BankScorer.
        standardize: see BankScorer.
        covariance: see MahalanobisScorer.
    """

    def fit(
        self, references: np.ndarray, domains: np.ndarray, groups: np.ndarray | None = None
    ) -> "ConditionalMahalanobisScorer":
        shape = np.shape(references)
        if len(shape) != 3 or shape[1] < 2:
            raise WheeltapperError(
                "conditional_mahalanobis: expected embeddings of shape (bands, D) with at least 2 bands, the first "
                f"for the machine and the others for the condition, found {shape[1:]}"
            )
        self._dim = shape[2]
        super().fit(references, domains, groups)
        return self

    def fit_normal(self, rows: np.ndarray) -> ConditionalBank:
        joint = fit_gaussian(self._references[rows])
        condition = joint.centred[:, self._dim :]
        own = GaussianBank(joint.mean[self._dim :], condition, products_of(condition), joint.shrinkage, joint.scale)
        return ConditionalBank(joint, own)


def _root(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squares, 0.0))  # rounding may make a difference slightly negative
