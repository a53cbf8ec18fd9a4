"""Mahalanobis distance of what is judged, given the circumstances in which it was heard."""

from dataclasses import dataclass

import numpy as np

from system.errors import WheeltapperError
from system.scoring.mahalanobis import (
    GaussianBank,
    MahalanobisScorer,
    fit_gaussian,
    principal_axes,
    shrinkage_without,
    squares_without,
)


@dataclass(frozen=True)
class ConditionalBank:
    """Normal distribution of x and c together, and of c by the same covariance: M^2(x | c) = M^2([x, c]) - M^2(c)."""

    joint: GaussianBank
    circumstances: GaussianBank

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        judged = embeddings.shape[1] - self.circumstances.references.shape[1]
        return _root(self.joint.squares(embeddings) - self.circumstances.squares(embeddings[:, judged:]))

    def leave_one_out(self) -> np.ndarray:
        """Means, covariance and shrinkage anew without each reference, in closed form as in GaussianBank."""
        anew = shrinkage_without(self.joint)
        return _root(squares_without(self.joint, *anew) - squares_without(self.circumstances, *anew))


class ConditionalMahalanobisScorer(MahalanobisScorer):
    """s = min over banks of sqrt(M^2(x | c)): how odd a clip is given the circumstances, which may be as odd as they
    like. With the noise that the far microphone hears as c, a normal clip in louder noise is no anomaly.

    Rows (N, 1 + n, D): band 0 is x, what is judged, all others are c. The covariance of x and c together is Ledoit and
    Wolf's (2004), that of c alone a part of it.

    Args:
        bank, standardize: see BankScorer.
    """

    def fit(self, references: np.ndarray, domains: np.ndarray) -> "ConditionalMahalanobisScorer":
        shape = np.shape(references)
        if len(shape) != 3 or shape[1] < 2:
            raise WheeltapperError(
                "conditional_mahalanobis: expected rows (bands, numbers) of what is judged and one or more of "
                f"circumstances, found {shape[1:]}"
            )
        self._judged = shape[2]
        super().fit(references, domains)
        return self

    def fit_bank(self, rows: np.ndarray) -> ConditionalBank:
        joint = fit_gaussian(self._references[rows])
        references, mean = joint.references[:, self._judged :], joint.mean[self._judged :]
        axes, variances = principal_axes(references - mean)
        return ConditionalBank(joint, GaussianBank(references, mean, axes, variances, joint.shrinkage, joint.scale))


def _root(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squares, 0.0))  # a difference may come out a rounding below zero
