"""Local outlier factor (Breunig et al. 2000, computed by scikit-learn), and the MIMII paper's vote over thresholds.

The factor compares the density of the references around a clip with the density around its neighbours.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from system.errors import WheeltapperError
from system.scoring.banks import GLOBAL, BankScorer, check, independent
from system.scoring.settings import BankMode, LofNeighbours, Standardize

NEIGHBOURS = 4  # of the MIMII paper
CONTAMINATIONS = (0.1, 0.2, 0.3, 0.4)
SMALLEST_REACH = 1e-10  # added to mean distances as in scikit-learn, against division by zero


class LofBank:
    """Bank with the local outlier factor as distance.

    Args:
        references: (N, D), at least 3.
        k: number of neighbours; all others if there are fewer.
    """

    def __init__(self, references: np.ndarray, k: int):
        self.k = k
        self.fitted = fit_outlier_factor(references, k)

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        return -self.fitted.score_samples(embeddings)

    def leave_one_out(self) -> np.ndarray:
        """Factor of each reference among the others, without N fits.

        Leaving out clip i only changes clips that have i among their k nearest: the next neighbour moves up. So k + 1
        neighbours of every clip give the same result as N fits, exactly if there are no ties.
        """
        count = self.fitted.n_samples_fit_
        k = min(self.k, count - 2)
        distances, neighbours = self.fitted.kneighbors(n_neighbors=k + 1)
        return np.array([_without(i, distances, neighbours, k) for i in range(count)])

    def without(self, gone: np.ndarray) -> np.ndarray:
        """Factors (m,) of the references with the indices ``gone`` (m,) among the others."""
        count = self.fitted.n_samples_fit_ - len(gone)
        k = min(self.k, count - 1)
        distances, neighbours = self._ordered
        # All that matters are the k nearest others of each reference, and for these k places beyond the gone suffice.
        distances, neighbours = distances[:, : k + len(gone)], neighbours[:, : k + len(gone)]
        kept = np.argsort(np.isin(neighbours, gone), axis=1, kind="stable")[:, :k]
        distances = np.take_along_axis(distances, kept, axis=1)
        neighbours = np.take_along_axis(neighbours, kept, axis=1)
        density = 1.0 / (np.maximum(distances, distances[neighbours, -1]).mean(axis=1) + SMALLEST_REACH)
        return density[neighbours[gone]].mean(axis=1) / density[gone]

    @cached_property
    def _ordered(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances from each reference to all others, ascending, and the indices of these, (N, N - 1) each."""
        return self.fitted.kneighbors(n_neighbors=self.fitted.n_samples_fit_ - 1)


class LofScorer(BankScorer):
    """s(x) = smallest local outlier factor of x over the banks, about 1 for a normal clip.

    Args:
        k: number of neighbours.
        bank: see BankScorer.
        standardize: see BankScorer.
    """

    smallest_bank = 3  # with one clip left out, the other two are neighbours of each other
    fewest_references = 3

    def __init__(self, k: LofNeighbours = NEIGHBOURS, bank: BankMode = GLOBAL, standardize: Standardize = False):
        super().__init__(bank, standardize)
        self.k = k

    def fit(self, references: np.ndarray, domains: np.ndarray, groups: np.ndarray | None = None) -> "LofScorer":
        """See ``Scorer.fit``. Fewer neighbours are used where a domain lacks them.

        Left out, a clip of a domain of n has n - 1 others of it, each with n - 2. With more neighbours than that,
        other domains would count, though not for a new clip, and leave-one-out factors would be far higher.
        """
        domains = np.asarray(domains)
        parts = [domains == name for name in np.unique(domains)]
        fewest = min(
            (independent(None if groups is None else groups[part], int(part.sum())) for part in parts), default=0
        )
        capped = len(parts) > 1 and 2 < fewest - 1 <= self.k
        self._k = fewest - 2 if capped else self.k
        super().fit(references, domains, groups)
        if capped:
            text = f"{fewest} references of one domain: {self._k} neighbours instead of {self.k}"
            self.note = "; ".join(filter(None, (self.note, text)))
        return self

    def fit_bank(self, rows: np.ndarray) -> LofBank:
        return LofBank(self._references[rows], self._k)

    def distance_without(self, bank: LofBank, rows: np.ndarray, group: np.ndarray) -> np.ndarray:
        if np.isin(group, rows).all():
            return bank.without(np.searchsorted(rows, group))
        return super().distance_without(bank, rows, group)


class Votes(NamedTuple):
    """Result of ``vote`` for each clip, (M,) each."""

    factor: np.ndarray  # local outlier factor
    share: np.ndarray  # fraction of the votes that call the clip anomalous
    majority: np.ndarray  # whether more than half of them do


def vote(
    references: np.ndarray,
    embeddings: np.ndarray,
    k: int = NEIGHBOURS,
    contaminations: Sequence[float] = CONTAMINATIONS,
) -> Votes:
    """Decides by a majority vote of several thresholds of the local outlier factor (MIMII paper, section IV.D).

    Each contamination c sets the threshold at which a fraction c of the references are outliers themselves. The
    thresholds are nested, so v votes are those of the v largest contaminations. A majority is more than half of the
    votes, so two of four are not enough: with the paper's four values the majority equals the decision of c = 0.2.

    Args:
        references: (N, D) of normal clips, at least 3.
        embeddings: (M, D) of the clips to judge.
        k: number of neighbours.
        contaminations: in (0, 0.5], as in scikit-learn.

    Returns:
        Factors, shares of votes and decisions.

    Raises:
        WheeltapperError: ``k`` or a contamination out of range, or too few references.
    """
    wrong = [c for c in contaminations if not 0.0 < c <= 0.5]
    if wrong or not len(contaminations):
        raise WheeltapperError(f"contaminations: expected numbers above 0, at most 0.5, found {wrong or 'none'}")
    if k < 1:
        raise WheeltapperError(f"k: expected at least 1 neighbour, found {k}")
    references, _ = check(references, np.zeros(len(references)), LofScorer.fewest_references)
    fitted = fit_outlier_factor(references, k)
    factor = fitted.score_samples(np.asarray(embeddings, np.float64))
    thresholds = np.percentile(fitted.negative_outlier_factor_, 100.0 * np.asarray(contaminations))
    votes = factor[:, None] < thresholds
    return Votes(-factor, votes.mean(axis=1), votes.sum(axis=1) > len(contaminations) / 2)


def fit_outlier_factor(references: np.ndarray, k: int):
    """Fits scikit-learn's LocalOutlierFactor for novelty detection to references (N, D).

    At most N - 1 neighbours are used.
    """
    from sklearn.neighbors import LocalOutlierFactor  # slow to import, and not needed to check a configuration

    return LocalOutlierFactor(n_neighbors=min(k, len(references) - 1), novelty=True).fit(references)


def _without(i: int, distances: np.ndarray, neighbours: np.ndarray, k: int) -> float:
    """Local outlier factor of reference i among the others, from the k + 1 neighbours of every reference (N, k + 1)."""
    moved_up = (neighbours[:, :k] == i).any(axis=1)
    reach = np.where(moved_up, distances[:, k], distances[:, k - 1])  # distance to the k-th neighbour, without i

    def density(distance: np.ndarray, members: np.ndarray) -> np.ndarray:
        return 1.0 / (np.maximum(distance, reach[members]).mean(axis=-1) + SMALLEST_REACH)

    near = neighbours[i, :k]
    kept = np.argsort(neighbours[near] == i, axis=1, kind="stable")[:, :k]  # sorts i, if present, to the end
    around = density(
        np.take_along_axis(distances[near], kept, axis=1), np.take_along_axis(neighbours[near], kept, axis=1)
    )
    return float((around / density(distances[i, :k], near)).mean())
