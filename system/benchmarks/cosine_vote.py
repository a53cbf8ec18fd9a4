"""Classes by the cosines of the nearest neighbours, for many splits of one set at once.

All similarities are worked out once, in single precision, and each split picks from them. Where single precision
cannot tell who is the nearest, or which class wins, the similarities in question are worked out again in double
precision: the classes are those of a computation in double precision throughout.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

MEMORY = 1 << 30  # bytes of similarities held at once
CHUNK = 1 << 22  # numbers of either side of the products in double precision that are held at once
ROWS = 128  # whose neighbours are looked for at once: their similarities stay in the processor's cache


def classify(
    embeddings: np.ndarray,
    labels: np.ndarray,
    tests: np.ndarray,
    neighbours: int = 5,
    absent: float = 0.0,
    memory: int = MEMORY,
    workers: int = 1,
) -> np.ndarray:
    """Class of every test row of every split: the highest sum of cosines among its nearest training rows.

    Args:
        embeddings: (N, D), none of them all zeros. labels: (N,) class numbers; ties go to the lowest.
        tests: (R, N) bool, the rows on the test side of each split; all others, at least one, are its training rows.
        neighbours: k; all training rows where there are fewer.
        absent: what a class without neighbours has; see ``tally``.
        memory: bytes of similarities held at once; rows go in blocks where N x N does not fit.
        workers: splits on their way at once.

    Returns:
        (R, N) class numbers, -1 for training rows.
    """
    tests = np.asarray(tests, bool)
    space = _Similarities(embeddings)
    found = np.full(tests.shape, -1, np.int64)
    classes = int(labels.max()) + 1
    size = max(1, min(len(labels), memory // (4 * len(labels))))

    def split(run: int) -> None:
        rows = start + np.flatnonzero(tests[run, start : start + size])
        columns = np.flatnonzero(~tests[run])
        for first in range(0, len(rows), ROWS):
            own = rows[first : first + ROWS]
            near, values = space.nearest(block[own - start], own, columns, neighbours)
            found[run, own] = _winners(space, own, near, values, labels[near], classes, absent)

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(labels), size):
            block = space.block(start, start + size)
            list(pool.map(split, range(len(tests))))
    return found


def tally(labels: np.ndarray, similarities: np.ndarray, classes: int, absent: float = 0.0) -> np.ndarray:
    """Sum of the similarities of each class among the neighbours of each row: (M, classes).

    Args:
        labels, similarities: (M, k) of the neighbours.
        absent: what a class without neighbours has. With 0 it beats those whose neighbours all point away, with minus
            infinity it never wins.
    """
    cells = np.arange(len(labels))[:, None] * classes + labels
    size = len(labels) * classes
    sums = np.bincount(cells.ravel(), similarities.ravel(), minlength=size)
    if absent:
        sums[np.bincount(cells.ravel(), minlength=size) == 0] = absent
    return sums.reshape(len(labels), classes)


def _winners(
    space: "_Similarities",
    rows: np.ndarray,
    near: np.ndarray,
    values: np.ndarray,
    labels: np.ndarray,
    classes: int,
    absent: float,
) -> np.ndarray:
    """The winning class of each row (M,), decided in double precision where it is close."""
    sums = tally(labels, values, classes, absent)
    if classes > 1:
        second, first = np.partition(sums, classes - 2, axis=1)[:, -2:].T
        close = np.flatnonzero(first - second <= 2 * near.shape[1] * space.error)
        if len(close):
            pairs = np.repeat(rows[close], near.shape[1]), near[close].ravel()
            exact = space.exact(*pairs).reshape(len(close), -1)
            sums[close] = tally(labels[close], exact, classes, absent)
    return sums.argmax(axis=1)


class _Similarities:
    """Cosines of a set, in single precision and in double.

    In single precision the mean of the unit vectors u is taken off, v = u - mean, and cos = 1 - |v_i|^2 / 2 + key with
    key = v_i v_j - |v_j|^2 / 2: of embeddings that all point the same way the differences survive. ``error`` bounds
    what rounding does to a key: sqrt(D) units in the last place of the largest |v|^2, the bound that holds but for a
    negligible chance when rounding errors are independent (Higham and Mary 2019), and far above what blocked sums have.
    """

    def __init__(self, embeddings: np.ndarray) -> None:
        self.embeddings = embeddings
        self.norms = np.empty(len(embeddings))
        mean = np.zeros(embeddings.shape[1])
        step = max(1, CHUNK // embeddings.shape[1])
        for start in range(0, len(embeddings), step):
            rows = embeddings[start : start + step].astype(np.float64)
            self.norms[start : start + step] = norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
            mean += (1.0 / np.maximum(norms, np.finfo(np.float64).tiny)) @ rows
        self.norms = np.maximum(self.norms, np.finfo(np.float64).tiny)
        mean /= len(embeddings)
        self.centred = np.empty(embeddings.shape, np.float32)
        self.squares = np.empty(len(embeddings))
        for start in range(0, len(embeddings), step):
            rows = embeddings[start : start + step] / self.norms[start : start + step, None] - mean
            self.centred[start : start + step] = rows
            self.squares[start : start + step] = np.einsum("nd,nd->n", rows, rows)
        self.error = (np.sqrt(embeddings.shape[1]) + 4) * 2.0**-24 * float(self.squares.max())

    def block(self, start: int, stop: int) -> np.ndarray:
        """Keys of rows to all rows: float32 (stop - start, N)."""
        keys = self.centred[start:stop] @ self.centred.T  # of all rows at once, NumPy works out one half only
        keys -= (0.5 * self.squares).astype(np.float32)
        return keys

    def nearest(
        self, keys: np.ndarray, rows: np.ndarray, columns: np.ndarray, neighbours: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The columns nearest to each row, and their cosines to within ``error``: both (M, min(neighbours, columns)).

        Of equal cosines the earlier column counts as nearer.

        Args:
            keys: (M, N) of the rows. rows, columns: row numbers in the set.
        """
        keys = keys.take(columns, axis=1)
        count = min(neighbours, len(columns))
        bound = np.partition(keys, len(columns) - count, axis=1)[:, len(columns) - count]
        maybe = np.flatnonzero(keys >= (bound - 2 * self.error).astype(np.float32)[:, None])
        row, column = np.divmod(maybe, len(columns))
        near, values = columns[column], keys.ravel()[maybe] + (1.0 - 0.5 * self.squares[rows[row]])
        candidates = np.bincount(row, minlength=len(rows))
        if len(maybe) > count * len(rows):
            kept = candidates[row] == count
            unsure = np.flatnonzero(~kept)
            values[unsure] = self.exact(rows[row[unsure]], near[unsure])
            unsure = unsure[np.lexsort((near[unsure], -values[unsure], row[unsure]))]
            of_row = row[unsure]
            kept[unsure[np.arange(len(unsure)) - np.searchsorted(of_row, of_row) < count]] = True
            near, values = near[kept], values[kept]
        return near.reshape(len(rows), count), values.reshape(len(rows), count)

    def exact(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Cosines of pairs of rows (P,) in double precision: (P,)."""
        found = np.empty(len(rows))
        step = max(1, CHUNK // self.embeddings.shape[1])
        for start in range(0, len(rows), step):
            one, other = (x[start : start + step] for x in (rows, columns))
            products = np.einsum(
                "pd,pd->p", self.embeddings[one].astype(np.float64), self.embeddings[other].astype(np.float64)
            )
            found[start : start + step] = products / (self.norms[one] * self.norms[other])
        return found
