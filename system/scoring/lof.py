"""Local outlier factor: how much thinner the references lie around a clip than around its neighbours (Breunig et al.
2000, as scikit-learn computes it), and the vote of the MIMII paper over several thresholds of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from system.errors import WheeltapperError
from system.scoring.banks import GLOBAL, BankScorer, check

NEIGHBOURS = 4  # of the MIMII paper
CONTAMINATIONS = (0.1, 0.2, 0.3, 0.4)
SMALLEST_REACH = 1e-10  # scikit-learn's, added to a mean distance of zero


class LofBank:
    """References (N, D), N at least 3, and their local outlier factor with k neighbours, or all others if fewer."""

    def __init__(self, references: np.ndarray, k: int):
        self.k = k
        self.fitted = fit(references, k)

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        return -self.fitted.score_samples(embeddings)

    def leave_one_out(self) -> np.ndarray:
        """Leaving clip i out changes the neighbours of those clips alone that had i among their k nearest: there the
        next one moves up. So k + 1 neighbours of every clip give what N fits would, exactly but for ties."""
        count = self.fitted.n_samples_fit_
        k = min(self.k, count - 2)
        distances, neighbours = self.fitted.kneighbors(n_neighbors=k + 1)
        return np.array([_without(i, distances, neighbours, k) for i in range(count)])


class LofScorer(BankScorer):
    """s(x) = local outlier factor of x among the references of a bank, about 1 for a normal clip; the lowest bank
    counts.

    Args:
        k: neighbours. bank, standardize: see BankScorer.
    """

    smallest_bank = 3  # one left out, and a neighbour for each of the others
    fewest_references = 3

    def __init__(self, k: int = NEIGHBOURS, bank: str = GLOBAL, standardize: bool | str = False):
        super().__init__(bank, standardize)
        if k < 1:
            raise WheeltapperError(f"k: expected at least 1 neighbour, found {k}")
        self.k = k

    def fit_bank(self, rows: np.ndarray) -> LofBank:
        return LofBank(self._references[rows], self.k)


class Votes(NamedTuple):
    """Of each clip (M,): local outlier factor, share of the votes that call it anomalous, whether the majority does."""

    factor: np.ndarray
    share: np.ndarray
    majority: np.ndarray


def vote(
    references: np.ndarray,
    embeddings: np.ndarray,
    k: int = NEIGHBOURS,
    contaminations: Sequence[float] = CONTAMINATIONS,
) -> Votes:
    """Lets several thresholds vote (MIMII paper, section IV.D).

    Each contamination c puts the threshold where it calls the share c of the references themselves outliers. The
    thresholds are nested, so that a clip has the v votes of the v largest contaminations. A majority is more than half
    of the votes: two of four are none. Of the paper's four the majority is therefore what c = 0.2 alone decides.

    Args:
        references: (N, D) of normal clips, N at least 3. embeddings: (M, D). k: neighbours.
        contaminations: in (0, 0.5], as scikit-learn takes them.
    """
    wrong = [c for c in contaminations if not 0.0 < c <= 0.5]
    if wrong or not len(contaminations):
        raise WheeltapperError(f"contaminations: expected numbers above 0, at most 0.5, found {wrong or 'none'}")
    if k < 1:
        raise WheeltapperError(f"k: expected at least 1 neighbour, found {k}")
    references, _ = check(references, np.zeros(len(references)), LofScorer.fewest_references)
    fitted = fit(references, k)
    factor = fitted.score_samples(np.asarray(embeddings, np.float64))
    thresholds = np.percentile(fitted.negative_outlier_factor_, 100.0 * np.asarray(contaminations))
    votes = factor[:, None] < thresholds
    return Votes(-factor, votes.mean(axis=1), votes.sum(axis=1) > len(contaminations) / 2)


def fit(references: np.ndarray, k: int):
    """scikit-learn's estimator for novelties, fitted to references (N, D); fewer neighbours where N is k or less."""
    from sklearn.neighbors import LocalOutlierFactor  # slow to import, and a configuration is checked without it

    return LocalOutlierFactor(n_neighbors=min(k, len(references) - 1), novelty=True).fit(references)


def _without(i: int, distances: np.ndarray, neighbours: np.ndarray, k: int) -> float:
    """Local outlier factor of reference i among all others, from the k + 1 nearest of every reference (N, k + 1)."""
    moved_up = (neighbours[:, :k] == i).any(axis=1)
    reach = np.where(moved_up, distances[:, k], distances[:, k - 1])  # to the k-th neighbour, without i

    def density(distance: np.ndarray, members: np.ndarray) -> np.ndarray:
        return 1.0 / (np.maximum(distance, reach[members]).mean(axis=-1) + SMALLEST_REACH)

    near = neighbours[i, :k]
    kept = np.argsort(neighbours[near] == i, axis=1, kind="stable")[:, :k]  # i, if it is there, goes last
    around = density(
        np.take_along_axis(distances[near], kept, axis=1), np.take_along_axis(neighbours[near], kept, axis=1)
    )
    return float((around / density(distances[i, :k], near)).mean())
