"""Memory banks of normal references with cosine distance: nearest neighbours per band, rescaled by local density."""

from collections.abc import Sequence

import numpy as np

from system.scoring.augment import synthetic_rows
from system.scoring.banks import GLOBAL, BankScorer, flat
from system.scoring.nearest import NearestRows, masked
from system.scoring.settings import BankMode, Memmixup, MemmixupNeighbours, NearestAveraged, Smote, Standardize

TARGET = "target"


class Memory:
    """Rows that distances are computed to, separately in each band; the mean over bands is the distance of a clip.

    Args:
        rows: (R, bands, D) unit vectors: first the references, then synthetic rows made from references.
        parents: (R, 2) indices of the two references that a row is made from; a reference has itself twice.
        members: (N,) indices of the references in the first N rows.
        k: number of nearest rows to average; all if there are fewer.
        neighbours: number of neighbours whose mean distance is a row's density; 0 if no density is needed.
        factor: distances are factor * (1 - cos).
        groups: (all references,) numbers of the groups that are left out together, or None; members of a group are not
            neighbours of each other.
    """

    def __init__(
        self,
        rows: np.ndarray,
        parents: np.ndarray,
        members: np.ndarray,
        k: int,
        neighbours: int,
        factor: float,
        groups: np.ndarray | None = None,
    ):
        self.rows, self.parents, self.members, self.groups = rows, parents, members, groups
        self.k, self.neighbours, self.factor = k, neighbours, factor
        self.densities: list[np.ndarray] = []  # per band, (R,)
        self.near: list[np.ndarray] = []  # per band, neighbours that a row's density is computed from, (R, neighbours)
        self.settings: list[float] = []  # per band, what fit_band returns
        if not neighbours:
            self.search = [NearestRows(np.ascontiguousarray(rows[:, band])) for band in range(rows.shape[1])]
            return
        gone = self._gone(members)
        for band in range(rows.shape[1]):
            distance = self._between(band)
            count = min(neighbours, len(rows) - 1)
            self.near.append(np.argpartition(distance, count - 1, axis=1)[:, :count])
            self.densities.append(self._density(np.take_along_axis(distance, self.near[-1], axis=1)))
            self.settings.append(self.fit_band(masked(distance[: len(members)], gone, np.inf), self.densities[-1]))

    def fit_band(self, distance: np.ndarray, density: np.ndarray) -> float:
        """Estimates the parameter of ``rescale`` for one band.

        Args:
            distance: (N, R) of the references, infinite to themselves and to synthetic rows made from them.
            density: (R,) of all rows.
        """
        raise NotImplementedError

    def rescale(self, distance: np.ndarray, density: np.ndarray, setting: float) -> np.ndarray:
        """Rescales distances (M, R) by the densities of the rows, (R,) or (M, R)."""
        raise NotImplementedError

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """Distances (M,) of embeddings (M, bands, D)."""
        return self._distance(embeddings)

    def leave_one_out(self) -> np.ndarray:
        return self.without(self.rows[: len(self.members)], self.members)

    def without(self, references: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Leave-one-out distances (M,) of some references.

        Densities are recomputed without the reference, the others of its group, and rows made from these; the parameter
        of ``fit_band`` is kept.

        Args:
            references: (M, bands, D).
            numbers: (M,) their indices.
        """
        return self._distance(references, self._gone(numbers))

    def _distance(self, embeddings: np.ndarray, gone: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Distances (M,) of embeddings (M, bands, D); ``gone`` lists, for each of the M or for none, rows to ignore."""
        total = np.zeros(len(embeddings))
        bands = self.rows.shape[1]
        for band in range(bands):
            if self.neighbours:
                distance = masked(self._cosine(embeddings[:, band], band), gone, np.inf)
                distance = self.rescale(distance, self._densities(band, gone), self.settings[band])
            else:
                distance = self.factor * self.search[band].distances(embeddings[:, band], self.k, gone)
            total += _mean_of_nearest(distance, self.k)
        return total / bands

    def _densities(self, band: int, gone: Sequence[np.ndarray]) -> np.ndarray:
        """Densities (R,), or (M, R) if rows are ignored. Only rows that have ignored neighbours change."""
        if not any(len(rows) for rows in gone):
            return self.densities[band]
        found = np.tile(self.densities[band], (len(gone), 1))
        between, near = self._between(band), self.near[band]
        lost = np.zeros(len(self.rows), bool)
        alike: dict[int, int] = {}  # references of one group share their list of rows
        for number, rows in enumerate(gone):
            if (first := alike.setdefault(id(rows), number)) < number:
                found[number] = found[first]
            elif len(rows):
                lost[rows] = True
                changed = np.flatnonzero(lost[near].any(axis=1) & ~lost)
                others = between[changed][:, ~lost]
                count = min(
                    self.neighbours, others.shape[1] - 1
                )  # the row itself, at infinite distance, does not count
                found[number, changed] = self._density(np.partition(others, count - 1, axis=1)[:, :count])
                lost[rows] = False
        return found

    def _density(self, nearest: np.ndarray) -> np.ndarray:
        """Mean distances (R,) to the nearest rows (R, n); infinite ones, to the row's own group, do not count."""
        return nearest.mean(axis=1) if self.groups is None else _mean_of_nearest(nearest, nearest.shape[1])

    def _between(self, band: int) -> np.ndarray:
        """Distances (R, R) between the rows, with infinity on the diagonal and within groups of references."""
        distance = self._cosine(self.rows[:, band], band)
        np.fill_diagonal(distance, np.inf)
        if self.groups is not None:
            own = self.groups[self.members]
            distance[: len(own), : len(own)][own[:, None] == own] = np.inf
        return distance

    def _cosine(self, embeddings: np.ndarray, band: int) -> np.ndarray:
        # Rounding may make the distance of a clip to itself slightly negative.
        return self.factor * np.maximum(1.0 - embeddings @ self.rows[:, band].T, 0.0)

    def _gone(self, numbers: np.ndarray) -> list[np.ndarray]:
        """For each reference, the rows that are the reference itself or one of its group, or made from these."""
        parents = self.parents
        if self.groups is not None:
            parents, numbers = self.groups[parents], self.groups[numbers]
        once = np.stack([np.ones(len(parents), bool), parents[:, 0] != parents[:, 1]], axis=1)  # not one parent twice
        own, made_of = parents[once], np.nonzero(once)[0]
        order = np.argsort(own, kind="stable")
        names, starts = np.unique(own[order], return_index=True)
        rows = dict(zip(names.tolist(), np.split(made_of[order], starts[1:]), strict=True))
        none = np.empty(0, int)
        return [rows.get(number, none) for number in numbers.tolist()]


class MemoryScorer(BankScorer):
    """Base of scorers with cosine distance to a memory.

    Args:
        k: number of nearest rows to average.
        bank: see BankScorer.
        standardize: see BankScorer.
        smote: number of synthetic SMOTE rows as a fraction of the source clips, see ``synthetic_rows``; 0 for none.
            Leaving out a reference also leaves out the synthetic rows made from it.
        memmixup: weight of the source clip in synthetic MemMixup rows; 0 for none.
        memmixup_neighbours: number of source clips that each target clip is mixed with.
    """

    memory = Memory
    factor = 1.0
    neighbours = 0
    bands = False

    def __init__(
        self,
        k: NearestAveraged = 1,
        bank: BankMode = GLOBAL,
        standardize: Standardize = False,
        smote: Smote = 0.0,
        memmixup: Memmixup = 0.0,
        memmixup_neighbours: MemmixupNeighbours = 3,
    ):
        super().__init__(bank, standardize)
        self.k, self.smote, self.memmixup = k, smote, memmixup
        self.memmixup_neighbours = memmixup_neighbours

    def set_density(self, neighbours: int) -> None:
        """Enables densities over ``neighbours`` rows. With one clip left out, two must remain, so three are needed."""
        self.neighbours = neighbours
        self.smallest_bank = self.fewest_references = 3

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Converts rows (N, D) or (N, bands, D) to unit vectors (N, bands, D), or (N, 1, D) if bands are merged."""
        if not self.bands or rows.ndim == 2:
            rows = flat(rows)[:, None]
        return unit(rows)

    def fit(self, references: np.ndarray, domains: np.ndarray, groups: np.ndarray | None = None) -> "MemoryScorer":
        super().fit(references, domains, groups)
        if (self.smote or self.memmixup) and all(len(bank.rows) == len(bank.members) for bank in self._banks):
            self.note = "; ".join(filter(None, (self.note, "too few target or source clips: no synthetic rows")))
        return self

    def fit_bank(self, rows: np.ndarray) -> Memory:
        references = self._references if len(rows) == len(self._references) else self._references[rows]
        parents = np.repeat(rows[:, None], 2, axis=1)
        if (self.smote or self.memmixup) and (self._domains[rows] == TARGET).any():
            target = np.flatnonzero(self._domains == TARGET)
            source = np.flatnonzero(self._domains != TARGET)
            made, made_of = synthetic_rows(
                self._references, target, source, self.smote, self.memmixup, self.memmixup_neighbours
            )
            references, parents = np.concatenate([references, unit(made)]), np.concatenate([parents, made_of])
        return self.memory(references, parents, rows, self.k, self.neighbours, self.factor, self._groups)

    def distance_of_others(self, bank: Memory, others: np.ndarray) -> np.ndarray:
        return bank.without(self._references[others], others)

    def distances_left_out(self, bank: Memory, rows: np.ndarray) -> np.ndarray:
        if self._groups is None:
            return super().distances_left_out(bank, rows)
        return bank.without(self._references, np.arange(len(self._references)))  # which knows the groups


def unit(x: np.ndarray) -> np.ndarray:
    """Normalises vectors (..., D) to length one; zero vectors are kept."""
    with np.errstate(over="ignore"):
        length = _lengths(x)
    odd = (length < 1e-100) | (length > 1e100)  # squares may be beyond the range of floating point
    if odd.any():
        x = np.where(odd, x / np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.finfo(float).tiny), x)
        length = _lengths(x)
    return x / np.maximum(length, np.finfo(float).tiny)


def _lengths(x: np.ndarray) -> np.ndarray:
    """Lengths (..., 1) of vectors (..., D)."""
    return np.sqrt(np.einsum("...d,...d->...", x, x))[..., None]


def _mean_of_nearest(distance: np.ndarray, k: int) -> np.ndarray:
    """Mean of the k smallest values of each row (M, R), or of the finite ones if there are fewer."""
    k = min(k, distance.shape[1])
    smallest = np.partition(distance, k - 1, axis=1)[:, :k]
    there = np.isfinite(smallest)
    return np.where(there, smallest, 0.0).sum(axis=1) / there.sum(axis=1)
