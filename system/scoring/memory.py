"""Memories of normal references by cosine distance: nearest neighbours, band by band, rescaled by local density."""

from collections.abc import Sequence

import numpy as np

from system.errors import WheeltapperError
from system.scoring.augment import made_rows
from system.scoring.banks import GLOBAL, BankScorer, flat

TARGET = "target"


class Memory:
    """Rows to which distances are taken. Each band f has distances of its own, and the mean over bands counts.

    Args:
        rows: (R, bands, D) unit vectors; the references come first, rows made of references after them.
        parents: (R, 2) numbers of the two references that a row is made of; of a reference twice its own.
        members: (N,) numbers of the references that are the first N rows.
        k: nearest rows averaged, or all if fewer.
        neighbours: of which the mean distance is a row's density; 0 where no density is needed.
        factor: distances are factor * (1 - cos).
    """

    def __init__(
        self, rows: np.ndarray, parents: np.ndarray, members: np.ndarray, k: int, neighbours: int, factor: float
    ):
        self.rows, self.parents, self.members = rows, parents, members
        self.k, self.neighbours, self.factor = k, neighbours, factor
        self.densities: list[np.ndarray] = []  # of each band, (R,)
        self.near: list[np.ndarray] = []  # of each band, the rows that a density is taken over, (R, neighbours)
        self.settings: list[float] = []  # of each band
        gone = self._gone(members)
        for band in range(rows.shape[1]) if neighbours else ():
            distance = self._between(band)
            count = min(neighbours, len(rows) - 1)
            self.near.append(np.argpartition(distance, count - 1, axis=1)[:, :count])
            self.densities.append(np.take_along_axis(distance, self.near[-1], axis=1).mean(axis=1))
            self.settings.append(self.fit_band(_masked(distance[: len(members)], gone), self.densities[-1]))

    def fit_band(self, distance: np.ndarray, density: np.ndarray) -> float:
        """What ``rescale`` needs to know of a band: from the distances (N, R) of the references, infinite to
        themselves and to what is made of them, and the density of all rows (R,)."""
        raise NotImplementedError

    def rescale(self, distance: np.ndarray, density: np.ndarray, setting: float) -> np.ndarray:
        """Distances (M, R) in the light of the rows' densities, (R,) or (M, R)."""
        raise NotImplementedError

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """(M, bands, D) to (M,)."""
        return self._distance(embeddings)

    def leave_one_out(self) -> np.ndarray:
        return self.without(self.rows[: len(self.members)], self.members)

    def without(self, references: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(M,) distances of references (M, bands, D) by number, each to the memory without it and without what is made
        of it; the other rows' densities are taken anew, what ``fit_band`` found stays."""
        return self._distance(references, self._gone(numbers))

    def _distance(self, embeddings: np.ndarray, gone: Sequence[np.ndarray] = ()) -> np.ndarray:
        """(M, bands, D) to (M,); ``gone``: rows that are not there, for each of the M or for none."""
        total = np.zeros(len(embeddings))
        bands = self.rows.shape[1]
        for band in range(bands):
            distance = _masked(self._cosine(embeddings[:, band], band), gone)
            if self.neighbours:
                distance = self.rescale(distance, self._densities(band, gone), self.settings[band])
            total += _mean_of_nearest(distance, self.k)
        return total / bands

    def _densities(self, band: int, gone: Sequence[np.ndarray]) -> np.ndarray:
        """(R,) densities, or (M, R) where rows are gone. Those change whose neighbours are among the gone."""
        if not any(len(rows) for rows in gone):
            return self.densities[band]
        found = np.tile(self.densities[band], (len(gone), 1))
        between, near = self._between(band), self.near[band]
        lost = np.zeros(len(self.rows), bool)
        for number, rows in enumerate(gone):
            if len(rows):
                lost[rows] = True
                changed = np.flatnonzero(lost[near].any(axis=1) & ~lost)
                others = between[changed][:, ~lost]
                count = min(self.neighbours, others.shape[1] - 1)  # infinitely far from itself
                found[number, changed] = np.partition(others, count - 1, axis=1)[:, :count].mean(axis=1)
                lost[rows] = False
        return found

    def _between(self, band: int) -> np.ndarray:
        """(R, R) distances between the rows, infinite to themselves."""
        distance = self._cosine(self.rows[:, band], band)
        np.fill_diagonal(distance, np.inf)
        return distance

    def _cosine(self, embeddings: np.ndarray, band: int) -> np.ndarray:
        # The distance of a clip to itself comes out a rounding below zero.
        return self.factor * np.maximum(1.0 - embeddings @ self.rows[:, band].T, 0.0)

    def _gone(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Of each reference by number, the rows that are it or made of it."""
        return [np.flatnonzero((self.parents == number).any(axis=1)) for number in numbers]


class MemoryScorer(BankScorer[Memory]):
    """Scorer by cosine distances to memories.

    Args:
        k: nearest rows averaged. bank, standardize: see BankScorer.
        smote, memmixup, memmixup_neighbours: rows made of target clips that stand beside them, see ``made_rows``; 0 for
            none. A reference that is left out takes the rows made of it with it.
    """

    memory = Memory
    factor = 1.0
    neighbours = 0
    bands = False

    def __init__(
        self,
        k: int = 1,
        bank: str = GLOBAL,
        standardize: bool | str = False,
        smote: float = 0.0,
        memmixup: float = 0.0,
        memmixup_neighbours: int = 3,
    ):
        super().__init__(bank, standardize)
        if k < 1:
            raise WheeltapperError(f"k: expected at least 1 neighbour, found {k}")
        if smote < 0:
            raise WheeltapperError(f"smote: expected a share of the source clips, at least 0, found {smote}")
        if not 0 <= memmixup < 1:
            raise WheeltapperError(f"memmixup: expected a share from 0 to below 1, found {memmixup}")
        if memmixup_neighbours < 1:
            raise WheeltapperError(f"memmixup_neighbours: expected at least 1, found {memmixup_neighbours}")
        self.k, self.smote, self.memmixup = k, smote, memmixup
        self.memmixup_neighbours = memmixup_neighbours

    def set_density(self, neighbours: int) -> None:
        """Lets densities count, over so many neighbours; then one left out must leave two, neighbours of each other."""
        self.neighbours = neighbours
        self.smallest_bank = self.fewest_references = 3

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Rows (N, D) or (N, bands, D) to unit vectors (N, bands, D), one band where bands do not stand apart."""
        if not self.bands or rows.ndim == 2:
            rows = flat(rows)[:, None]
        return unit(rows)

    def fit(self, references: np.ndarray, domains: np.ndarray) -> "MemoryScorer":
        super().fit(references, domains)
        if (self.smote or self.memmixup) and all(len(bank.rows) == len(bank.members) for bank in self._banks):
            self.note = "; ".join(filter(None, (self.note, "too few target or source clips: no rows made of them")))
        return self

    def fit_bank(self, rows: np.ndarray) -> Memory:
        references, parents = self._references[rows], np.repeat(rows[:, None], 2, axis=1)
        if (self._domains[rows] == TARGET).any():
            target = np.flatnonzero(self._domains == TARGET)
            source = np.flatnonzero(self._domains != TARGET)
            made, made_of = made_rows(
                self._references, target, source, self.smote, self.memmixup, self.memmixup_neighbours
            )
            references, parents = np.concatenate([references, unit(made)]), np.concatenate([parents, made_of])
        return self.memory(references, parents, rows, self.k, self.neighbours, self.factor)

    def distance_of_others(self, bank: Memory, others: np.ndarray) -> np.ndarray:
        return bank.without(self._references[others], others)


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors (..., D) of length one; zeros stay."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), np.finfo(float).tiny)


def _masked(distance: np.ndarray, gone: Sequence[np.ndarray]) -> np.ndarray:
    """Distances (M, R), infinite to the rows that are gone for each of the M, or for none."""
    for row, rows in zip(distance, gone, strict=False):
        row[rows] = np.inf
    return distance


def _mean_of_nearest(distance: np.ndarray, k: int) -> np.ndarray:
    """Mean of the k smallest values of each row (M, R), or of the finite ones if fewer."""
    k = min(k, distance.shape[1])
    smallest = np.partition(distance, k - 1, axis=1)[:, :k]
    there = np.isfinite(smallest)
    return np.where(there, smallest, 0.0).sum(axis=1) / there.sum(axis=1)
