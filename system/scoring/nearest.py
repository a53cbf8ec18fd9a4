"""Exact search for the nearest of many unit vectors: selected in single precision, measured in double precision."""

from collections.abc import Sequence

import numpy as np

BLOCK = 256  # queries whose similarities to all rows are in memory at once
CHUNK = 1 << 20  # values of each factor of the double-precision distances in memory at once
CROWD = 16  # rows beyond the wanted ones that single precision may leave undecided before double precision selects


class NearestRows:
    """Rows that the cosine distances 1 - cos of the nearest are asked of.

    A matrix product in single precision only decides which rows may be among the nearest: with the mean m of the rows,
    (x - m)(y - m) - |y - m|^2 / 2 grows as the distance from x to y falls, and its rounding error shrinks as the rows
    come closer to each other. The distances of these rows are then computed pair by pair in double precision, as
    |x - y|^2 / 2, which is zero for equal vectors. So a distance depends on the two vectors alone.

    Args:
        rows: (R, D) unit vectors, or zeros, which are at right angles to all.
    """

    def __init__(self, rows: np.ndarray):
        self.rows = rows
        self.mean = rows.mean(axis=0)
        self.centred = self._single(rows)
        self.half_squares = 0.5 * np.einsum("rd,rd->r", self.centred, self.centred, dtype=np.float64)
        self.zero = _zero(rows)

    def distances(self, queries: np.ndarray, k: int, gone: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Distances (M, min(k, R)) of the nearest rows, ascending, and infinite where fewer rows are left.

        Args:
            queries: (M, D) unit vectors, or zeros.
            k: number of nearest rows.
            gone: for each of the M or for none, indices of the rows to ignore.
        """
        parts = [
            self._block(queries[start : start + BLOCK], min(k, len(self.rows)), gone[start : start + BLOCK])
            for start in range(0, len(queries), BLOCK)
        ]
        return np.concatenate(parts) if parts else np.empty((0, min(k, len(self.rows))))

    def _block(self, queries: np.ndarray, k: int, gone: Sequence[np.ndarray]) -> np.ndarray:
        centred = self._single(queries)
        keys = masked(centred @ self.centred.T - self.half_squares.astype(np.float32), gone, -np.inf)
        bound = keys.max(axis=1) if k == 1 else np.partition(keys, keys.shape[1] - k, axis=1)[:, keys.shape[1] - k]
        with np.errstate(invalid="ignore"):  # minus infinity where fewer than k rows are left
            maybe = (keys >= (bound - 2.0 * self._error(centred)).astype(np.float32)[:, None]) & (keys > -np.inf)
        crowded = np.flatnonzero(maybe.sum(axis=1) > k + CROWD)
        if len(crowded):
            own = [gone[i] for i in crowded.tolist()] if len(gone) else ()
            closeness = masked(queries[crowded] @ self.rows.T, own, -np.inf)
            chosen = np.argpartition(closeness, keys.shape[1] - k, axis=1)[:, keys.shape[1] - k :]
            kept = np.zeros((len(crowded), keys.shape[1]), bool)
            np.put_along_axis(kept, chosen, True, axis=1)
            maybe[crowded] = kept & (closeness > -np.inf)
        query, row = np.nonzero(maybe)
        counts = maybe.sum(axis=1)
        places = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        found = np.full((len(queries), max(k, int(counts.max(initial=0)))), np.inf)
        found[query, places] = self._exact(queries, query, row)
        return np.sort(found, axis=1)[:, :k]

    def _single(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (M, D) less the mean, subtracted before the rounding to single precision."""
        found = np.empty(vectors.shape, np.float32)
        return np.subtract(vectors, self.mean, out=found, casting="same_kind")

    def _error(self, centred: np.ndarray) -> np.ndarray:
        """Bound (M,) on the rounding error of the keys of centred queries (M, D): sqrt(D) units in the last place of
        the largest product (Higham and Mary 2019), far above the error of blocked sums."""
        longest = np.sqrt(2.0 * self.half_squares.max())
        own = np.sqrt(np.einsum("md,md->m", centred, centred, dtype=np.float64))
        return (np.sqrt(centred.shape[1]) + 4.0) * 2.0**-24 * longest * (own + longest)

    def _exact(self, queries: np.ndarray, query: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Distances (P,) of pairs of a query (P,) and a row (P,)."""
        found = np.empty(len(query))
        step = max(1, CHUNK // queries.shape[1])
        for start in range(0, len(query), step):
            own = slice(start, start + step)
            difference = queries[query[own]] - self.rows[row[own]]
            found[own] = 0.5 * np.einsum("pd,pd->p", difference, difference)
        found[_zero(queries)[query] | self.zero[row]] = 1.0
        return found


def masked(values: np.ndarray, gone: Sequence[np.ndarray], value: float) -> np.ndarray:
    """Sets the elements of (M, R) to ``value`` in the columns to ignore, listed for each of the M or for none."""
    if len(gone):
        values[np.repeat(np.arange(len(gone)), [len(columns) for columns in gone]), np.concatenate(gone)] = value
    return values


def _zero(rows: np.ndarray) -> np.ndarray:
    """Which of the rows (R, D) are zeros, bool (R,); all others are unit vectors."""
    return np.einsum("rd,rd->r", rows, rows) < 0.5
