"""A bank of normal references that has its own mean and the covariance of another bank."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from system.scoring.banks import Bank


class NormalBank(Bank, Protocol):
    """A bank with a normal distribution: one of embeddings, or of embeddings and conditions."""

    def without(self, members: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """As ``GaussianBank.without``."""


@dataclass(frozen=True)
class CentredBank:
    """A bank with a mean of its own and the covariance of another bank.

    Both keep what they are fitted to, so that a clip moved from the one mean to the other is at its distance.

    Args:
        covariance: the other bank.
        references: (S, D) that the other bank is fitted to.
        own: (N, D) references of this bank.
    """

    covariance: NormalBank
    references: np.ndarray
    own: np.ndarray

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        return self.covariance.distance(embeddings - self.own.mean(axis=0) + self.references.mean(axis=0))

    def leave_one_out(self) -> np.ndarray:
        """Distance of each reference to the mean of the others; the covariance stays, as that of other references."""
        count = len(self.own)
        return self.distance(self.own + (self.own - self.own.mean(axis=0)) / (count - 1))

    def without(self, members: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """As ``GaussianBank.without``; ``members`` of this bank alone."""
        return self.without_both(np.empty(0, int), members, embeddings)

    def without_both(self, others: np.ndarray, members: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Distances (M,) of embeddings (M, D) with everything re-estimated without some references.

        Args:
            others: (j,) indices of references of the other bank.
            members: (k,) indices of references of this bank.
            embeddings: (M, D).
        """
        moved = embeddings - _mean_without(self.own, members) + _mean_without(self.references, others)
        return self.covariance.without(others, moved) if len(others) else self.covariance.distance(moved)


def _mean_without(references: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Mean (D,) of references (N, D) without those with the indices ``members``."""
    mean = references.mean(axis=0)
    return mean - (references[members] - mean).sum(axis=0) / (len(references) - len(members))
