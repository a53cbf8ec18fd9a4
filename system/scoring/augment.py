"""Rows made of the few normal target clips, to stand beside them in a memory: SMOTE and MemMixup.

Chawla et al. 2002 draw places between two clips at random; here they are spread evenly, and which pair gets one more
follows from the clips, so that neither a seed nor the clips' order counts.
"""

import numpy as np

SMOTE_NEIGHBOURS = 2


def made_rows(
    rows: np.ndarray, target: np.ndarray, source: np.ndarray, smote: float, memmixup: float, nearest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows between target clips (SMOTE), and between target and source clips (MemMixup).

    Args:
        rows: (N, bands, D) unit vectors. target, source: numbers of the clips of either domain.
        smote: how many rows to make, as a share of the source clips: between each target clip and its two nearest.
        memmixup: share w of the source clip in (1 - w) x_t + w x_s; 0 for none.
        nearest: source clips that each target clip is mixed with.

    Returns:
        rows (S, bands, D), not of unit length, and the numbers (S, 2) of the two clips that each is made of. Empty
        where there are too few clips: SMOTE takes two target clips, both take source clips.
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
    """Pairs (count, 2) of a clip and one of its nearest, and the second one's share (count,): the pairs have equally
    many places between them, the most distant ones one more."""
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
    """(some, others) sum over bands of the cosines."""
    return np.einsum("ibd,jbd->ij", rows[some], rows[others], optimize=True)


def _mixed(rows: np.ndarray, pairs: np.ndarray, shares: np.ndarray) -> np.ndarray:
    shares = shares[:, None, None]
    return (1.0 - shares) * rows[pairs[:, 0]] + shares * rows[pairs[:, 1]]
