"""Nearest-neighbour classification by cosine similarity, for many splits of one data set at once.

All similarities are computed once, in single precision, and sorted once for each row; every split walks down this order
until it has met enough training rows. If single precision cannot decide which neighbour is nearer or which class wins,
the similarities in question are computed again in double precision. The classes are therefore those of a computation
in double precision.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

MEMORY = 1 << 30  # bytes of similarities in memory at once
CHUNK = 1 << 22  # values of each factor of the double-precision products in memory at once
ROWS = 1024  # rows whose order is in memory at once, in each thread
DEPTH = 4  # sorted columns, relative to those that hold the neighbours of the split with the fewest training rows
WIDEN = 4  # factor by which a walk goes on where it met too few training rows


def classify(
    embeddings: np.ndarray,
    labels: np.ndarray,
    tests: np.ndarray,
    neighbours: int = 5,
    absent: float = 0.0,
    memory: int = MEMORY,
    workers: int = 1,
) -> np.ndarray:
    """Classifies every test row of every split: the class with the highest sum of cosines among the nearest training
    rows.

    Args:
        embeddings: (N, D), no row all zeros.
        labels: class numbers, (N,); ties go to the lowest.
        tests: bool (R, N), the test rows of each split; all others, at least one, are its training rows.
        neighbours: k; all training rows if there are fewer.
        absent: score of a class without neighbours, see ``tally``.
        memory: bytes of similarities in memory at once; if N x N does not fit, rows are processed in blocks.
        workers: number of threads.

    Returns:
        Class numbers (R, N), -1 for training rows.
    """
    trained = ~np.asarray(tests, bool)
    space = _Similarities(embeddings)
    found = np.full(trained.shape, -1, np.int64)
    classes = int(labels.max()) + 1
    size = max(1, min(len(labels), memory // (4 * len(labels))))
    depth = DEPTH * (neighbours + 1) * len(labels) // int(trained.sum(axis=1).min())

    def walk(first: int) -> None:
        rows = np.arange(first, min(first + ROWS, start + size, len(labels)))
        order = _Order(space, block[first - start : first - start + len(rows)], rows, depth)
        for run, columns in enumerate(trained):
            own = np.flatnonzero(~columns[rows])
            if len(own):
                near, values = order.nearest(own, columns, neighbours)
                found[run, rows[own]] = _winners(space, rows[own], near, values, labels[near], classes, absent)

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(labels), size):
            block = space.block(start, start + size)
            list(pool.map(walk, range(start, min(start + size, len(labels)), ROWS)))
    return found


def tally(labels: np.ndarray, similarities: np.ndarray, classes: int, absent: float = 0.0) -> np.ndarray:
    """Sum of the similarities of each class among the neighbours of each row.

    Args:
        labels: class numbers of the neighbours, (M, k).
        similarities: of the neighbours, (M, k).
        classes: number of classes.
        absent: score of a class without neighbours. With 0 such a class beats classes whose similarities are negative;
            with minus infinity it never wins.

    Returns:
        (M, classes).
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
    """The winning class of each row (M,); close decisions are made in double precision."""
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
    """Cosine similarities of a data set, in single and in double precision.

    In single precision the mean of the unit vectors u is subtracted, v = u - mean, and cos = 1 - |v_i|^2 / 2 + key with
    key = v_i v_j - |v_j|^2 / 2, which preserves the differences between embeddings of similar direction. ``error``
    bounds the rounding error of a key: sqrt(D) units in the last place of the largest |v|^2. The bound holds with
    overwhelming probability if rounding errors are independent (Higham and Mary 2019), and is far above the error of
    blocked sums.
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
        """Keys of rows start to stop with all rows: float32 (stop - start, N)."""
        keys = self.centred[start:stop] @ self.centred.T  # for all rows at once NumPy computes only one half
        keys -= (0.5 * self.squares).astype(np.float32)
        return keys

    def exact(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Cosines (P,) of pairs of rows (P,) in double precision."""
        found = np.empty(len(rows))
        step = max(1, CHUNK // self.embeddings.shape[1])
        for start in range(0, len(rows), step):
            one, other = (x[start : start + step] for x in (rows, columns))
            products = np.einsum(
                "pd,pd->p", self.embeddings[one].astype(np.float64), self.embeddings[other].astype(np.float64)
            )
            found[start : start + step] = products / (self.norms[one] * self.norms[other])
        return found


class _Order:
    """The nearest columns of some rows, sorted once, from which the neighbours in any set of columns follow.

    Args:
        space: the similarities.
        keys: of the rows, (M, N).
        rows: indices of the rows, (M,).
        depth: number of columns to sort; all are if the nearest of these do not suffice.
    """

    def __init__(self, space: _Similarities, keys: np.ndarray, rows: np.ndarray, depth: int) -> None:
        self.space, self.keys, self.rows = space, keys, rows
        self._sort(depth)

    def _sort(self, depth: int) -> None:
        """Sorts the ``depth`` largest keys of each row; similarities in double precision are not known yet."""
        count = self.keys.shape[1]
        columns = np.argpartition(self.keys, max(count - depth, 0), axis=1)[:, max(count - depth, 0) :]
        keys = np.take_along_axis(self.keys, columns, axis=1)
        order = np.argsort(-keys, axis=1)
        self.columns = np.take_along_axis(columns, order, axis=1)
        self.sorted = np.take_along_axis(keys, order, axis=1)
        self.exact = np.full(self.columns.shape, np.nan)

    def nearest(self, own: np.ndarray, among: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest columns of each row and their cosines to within the space's ``error``, both (m, min(neighbours,
        columns)), by increasing column.

        Of equal cosines the earlier column counts as nearer.

        Args:
            own: which of the rows, (m,).
            among: columns that are candidates, bool (N,).
            neighbours: number of neighbours.
        """
        total = int(among.sum())
        count = min(neighbours, total)
        near, values = np.empty((len(own), count), np.intp), np.empty((len(own), count))
        width, left = 2 * (count + 1) * len(among) // total, np.arange(len(own))
        while len(left):
            width = min(width, self.columns.shape[1])
            met = among[self.columns[own[left], :width]]
            places = met.cumsum(axis=1, dtype=np.int32)
            there = np.flatnonzero(places[:, -1] >= count)
            rows = own[left[there]]
            last = self.sorted[rows, (places[there] < count).sum(axis=1)]
            limit = (last - 2 * self.space.error).astype(np.float32)
            done = (self.sorted[rows, width - 1] < limit) | (width == len(among))
            there, rows, limit = there[done], rows[done], limit[done]
            near[left[there]], values[left[there]] = self._chosen(rows, met[there], limit, count)
            left = np.delete(left, there)
            if len(left) and width == self.columns.shape[1]:
                self._sort(len(among))
            width *= WIDEN
        return near, values

    def _chosen(
        self, rows: np.ndarray, met: np.ndarray, limit: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """As ``nearest``, of candidates ``met`` (m, width) whose keys are at least ``limit`` (m,)."""
        maybe = np.flatnonzero(met & (self.sorted[rows, : met.shape[1]] >= limit[:, None]))
        row, place = np.divmod(maybe, met.shape[1])
        columns = self.columns[rows[row], place]
        squares = self.space.squares[self.rows[rows[row]]]
        values = self.sorted[rows[row], place] + (1.0 - 0.5 * squares)
        candidates = np.bincount(row, minlength=len(rows))
        if len(maybe) > count * len(rows):
            kept = candidates[row] == count
            unsure = np.flatnonzero(~kept)
            values[unsure] = self._exact(rows[row[unsure]], place[unsure])
            unsure = unsure[np.lexsort((columns[unsure], -values[unsure], row[unsure]))]
            of_row = row[unsure]
            kept[unsure[np.arange(len(unsure)) - np.searchsorted(of_row, of_row) < count]] = True
            columns, values = columns[kept], values[kept]
        columns, values = columns.reshape(len(rows), count), values.reshape(len(rows), count)
        order = columns.argsort(axis=1)
        return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)

    def _exact(self, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Cosines (P,) in double precision of pairs of a row (P,) and a place in its order (P,), each computed once."""
        unknown = np.flatnonzero(np.isnan(self.exact[rows, places]))
        if len(unknown):
            asked = np.unique(rows[unknown] * self.columns.shape[1] + places[unknown])
            row, place = np.divmod(asked, self.columns.shape[1])
            self.exact[row, place] = self.space.exact(self.rows[row], self.columns[row, place])
        return self.exact[rows, places]
