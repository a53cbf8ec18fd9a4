"""Cosine distance to the nearest normal references (seed 004, section 4.2)."""

import numpy as np

from system.scoring import banks


class KnnScorer:
    """s(x) = mean cosine distance to the k nearest references of a bank, the nearest bank counting.

    Args:
        k: neighbours; a bank with fewer gives the mean over what it has.
        bank: ``global`` (seed 004) or ``domain``.
    """

    smallest_bank = 2

    def __init__(self, k: int = 3, bank: str = banks.GLOBAL):
        self.k, self.bank = k, bank

    def fit(self, references: np.ndarray, domains: np.ndarray) -> "KnnScorer":
        references, domains = banks.check(references, domains)
        self._references = _unit(references)
        self._rows = banks.split(domains, self.bank, self.smallest_bank)
        return self

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        embeddings = _unit(np.asarray(embeddings, np.float64))
        distances = [1.0 - embeddings @ self._references[rows].T for rows in self._rows]
        return np.min([_nearest(distance, self.k) for distance in distances], axis=0)

    def reference_scores(self) -> np.ndarray:
        scores = []
        for rows in self._rows:
            distance = 1.0 - self._references @ self._references[rows].T
            distance[rows, np.arange(len(rows))] = np.inf  # not its own neighbour
            scores.append(_nearest(distance, self.k))
        return np.min(scores, axis=0)


def _nearest(distance: np.ndarray, k: int) -> np.ndarray:
    """Mean of the k smallest finite values of each row."""
    k = min(k, distance.shape[1])
    smallest = np.partition(distance, k - 1, axis=1)[:, :k]
    finite = np.isfinite(smallest)
    # Cosine distances of a clip to itself come out a rounding below zero.
    return np.maximum(np.where(finite, smallest, 0.0).sum(axis=1) / finite.sum(axis=1), 0.0)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny)
