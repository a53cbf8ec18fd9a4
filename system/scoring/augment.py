"""Synthetic target references for memory-based scorers: SMOTE and MemMixup.

SMOTE (Chawla et al. 2002) draws random points on the line between two clips. Here the points are spaced evenly, and the
clips decide which pair gets an extra point, so the result depends neither on a seed nor on the order of the clips.
"""

import numpy as np

SMOTE_NEIGHBOURS = 2


def synthetic_rows(
    rows: np.ndarray, target: np.ndarray, source: np.ndarray, smote: float, memmixup: float, nearest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolates between target clips (SMOTE), and between target and source clips (MemMixup).

    Args:
        rows: (N, bands, D) unit vectors.
        target: indices of the target clips.
        source: indices of the source clips.
        smote: number of SMOTE rows, as a fraction of the number of source clips. They lie between each target clip and
            its two nearest target clips. 0 for none.
        memmixup: weight w of the source clip in (1 - w) x_t + w x_s. 0 for none.
        nearest: number of source clips that each target clip is mixed with.

    Returns:
        Synthetic rows (S, bands, D), not normalised, and the indices (S, 2) of the two clips that each is made from.
        Empty if there are too few clips: SMOTE needs two target clips, and both methods need source clips.
    """
    made, parents = [np.empty((0, *rows.shape[1:]))], [np.empty((0, 2), int)]
    count = round(smote * len(source))
    if count and len(target) > 1:
        pairs, shares = _between_neighbours(rows, target, count)
        made.append(_mixed(rows, pairs, shares))
        parents.append(pairs)
    if memmixup and len(target) and len(source):
        order = np.argsort(_similarity(rows, target, source), axis=1)[:, ::-1][:, :nearest]
        pairs = np.stack([np.repeat(target, order.shape[1]), source[order].ravel()], axis=1)
        made.append(_mixed(rows, pairs, np.full(len(pairs), memmixup)))
        parents.append(pairs)
    return np.concatenate(made), np.concatenate(parents)


def _between_neighbours(rows: np.ndarray, target: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (count, 2) of neighbouring clips and the weight (count,) of the second one.

    All pairs get the same number of points, and the most distant pairs one more if ``count`` does not divide evenly.
    """
    similarity = _similarity(rows, target, target)
    np.fill_diagonal(similarity, -np.inf)
    near = np.argsort(similarity, axis=1)[:, ::-1][:, : min(SMOTE_NEIGHBOURS, len(target) - 1)]
    pairs = np.stack([np.repeat(np.arange(len(target)), near.shape[1]), near.ravel()], axis=1)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)  # two clips that are each other's nearest are one pair
    pairs = pairs[np.argsort(similarity[pairs[:, 0], pairs[:, 1]], kind="stable")]
    places = count // len(pairs) + (np.arange(len(pairs)) < count % len(pairs))
    shares = np.concatenate([np.arange(1, n + 1) / (n + 1) for n in places])
    return np.repeat(target[pairs], places, axis=0), shares


def _similarity(rows: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine similarities (some, others), summed over the bands."""
    return np.einsum("ibd,jbd->ij", rows[some], rows[others], optimize=True)


def _mixed(rows: np.ndarray, pairs: np.ndarray, shares: np.ndarray) -> np.ndarray:
    shares = shares[:, None, None]
    return (1.0 - shares) * rows[pairs[:, 0]] + shares * rows[pairs[:, 1]]
