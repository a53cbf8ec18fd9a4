"""Cosine distance to the nearest normal references (Wang and Liu 2026, section 4.2)."""

from dataclasses import dataclass

import numpy as np

from system.errors import WheeltapperError
from system.scoring.banks import GLOBAL, BankScorer


@dataclass(frozen=True)
class NeighbourBank:
    """Unit vectors (N, D) of the references; the distance is the mean over the k nearest, or over all if fewer."""

    references: np.ndarray
    k: int

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        return _nearest(1.0 - _unit(embeddings) @ self.references.T, self.k)

    def leave_one_out(self) -> np.ndarray:
        distance = 1.0 - self.references @ self.references.T
        np.fill_diagonal(distance, np.inf)  # not its own neighbour
        return _nearest(distance, min(self.k, len(distance) - 1))


class KnnScorer(BankScorer):
    """s(x) = mean cosine distance to the k nearest references of a bank, the nearest bank counting.

    Args:
        k: neighbours. bank, standardize: see BankScorer.
    """

    def __init__(self, k: int = 3, bank: str = GLOBAL, standardize: bool = False):
        super().__init__(bank, standardize)
        if k < 1:
            raise WheeltapperError(f"k: expected at least 1 neighbour, found {k}")
        self.k = k

    def fit_bank(self, references: np.ndarray) -> NeighbourBank:
        return NeighbourBank(_unit(references), self.k)


def _nearest(distance: np.ndarray, k: int) -> np.ndarray:
    """Mean of the k smallest values of each row (M, N)."""
    k = min(k, distance.shape[1])
    # Cosine distances of a clip to itself come out a rounding below zero.
    return np.maximum(np.partition(distance, k - 1, axis=1)[:, :k].mean(axis=1), 0.0)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny)
