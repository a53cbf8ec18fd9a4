"""Nearest-neighbour accuracy of embeddings: exact search in NumPy, and a probe for use during training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from system.errors import WheeltapperError

if TYPE_CHECKING:
    from system.encoders.base import Encoder

BLOCK = 1024  # rows whose distances are in memory at once
METRICS = ("cosine", "euclidean")


def folds_accuracy(
    embeddings: np.ndarray, classes: ArrayLike, folds: ArrayLike, k: int = 1, metric: str = "cosine"
) -> float:
    """Cross-validation with given folds: the rows of each are classified by their nearest neighbours in the others.

    Args:
        embeddings: (N, D).
        classes: (N,).
        folds: (N,), such as the five folds of ESC-50 (Piczak 2015).
        k: number of neighbours that vote (``vote``).
        metric: ``cosine`` or ``euclidean``.

    Returns:
        Percentage of clips classified correctly, averaged over the folds.

    Raises:
        WheeltapperError: there are fewer than two folds.
    """
    embeddings, classes = _check(embeddings, classes, k, metric)
    folds = np.asarray(folds)
    names = np.unique(folds)
    if len(names) < 2:
        raise WheeltapperError(f"nearest neighbours: expected at least 2 folds, found {len(names)}")
    accuracies = []
    for name in names:
        own = folds == name
        found = nearest(embeddings[own], embeddings[~own], k, metric)
        accuracies.append(np.mean(vote(classes[~own][found]) == classes[own]))
    return 100.0 * float(np.mean(accuracies))


def leave_one_out_accuracy(
    embeddings: np.ndarray,
    classes: ArrayLike,
    k: int = 1,
    metric: str = "cosine",
    groups: ArrayLike | None = None,
) -> float:
    """Classifies each clip by its nearest neighbours among all others.

    Args:
        embeddings: (N, D).
        classes: (N,).
        k: number of neighbours that vote (``vote``).
        metric: ``cosine`` or ``euclidean``.
        groups: (N,), clips of one group, such as parts of one recording, are not neighbours; None: no groups.

    Returns:
        Percentage of clips classified correctly.

    Raises:
        WheeltapperError: there are fewer than two groups.
    """
    embeddings, classes = _check(embeddings, classes, k, metric)
    numbers = np.arange(len(classes)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    found = nearest(embeddings, embeddings, usable(numbers, k), metric, numbers)
    return 100.0 * float(np.mean(vote(classes[found]) == classes))


def usable(groups: np.ndarray, k: int) -> int:
    """``k``, or fewer if a clip has fewer clips of other groups; WheeltapperError if there are none."""
    others = len(groups) - int(np.bincount(groups).max())
    if not others:
        raise WheeltapperError(f"nearest neighbours: expected clips of at least 2 groups, found {len(groups)} of one")
    return min(k, others)


def nearest(
    queries: np.ndarray, memory: np.ndarray, k: int, metric: str, groups: np.ndarray | None = None
) -> np.ndarray:
    """Indices of the memory rows nearest to each query, by increasing distance; equal distances in order of index.

    Args:
        queries: (M, D).
        memory: (N, D).
        k: number of neighbours, at most N.
        metric: ``cosine`` or ``euclidean``.
        groups: groups of the rows, (N,), if the queries are the memory; rows of the query's group are excluded.

    Returns:
        (M, min(k, N)).
    """
    if metric == "cosine":
        queries, memory = _unit(queries), _unit(memory)
    squares = np.zeros(len(memory)) if metric == "cosine" else np.square(memory).sum(1)
    found = []
    for start in range(0, len(queries), BLOCK):
        # Squared distance without the term that is constant per query; for unit vectors the order is that of cosines.
        distances = squares - 2.0 * (queries[start : start + BLOCK] @ memory.T)
        if groups is not None:
            distances[groups[start : start + BLOCK, None] == groups] = np.inf
        found.append(closest(distances, k))
    return np.concatenate(found)


def closest(distances: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k smallest values of each row (M, N), increasing: (M, min(k, N))."""
    if k == 1:
        return distances.argmin(1, keepdims=True)
    if k < distances.shape[1]:
        near = distances <= np.partition(distances, k - 1, axis=1)[:, k - 1 : k]
        if (near.sum(axis=1) == k).all():  # no ties, in which the earlier columns count
            columns = np.nonzero(near)[1].reshape(-1, k)
            order = np.argsort(np.take_along_axis(distances, columns, axis=1), axis=1, kind="stable")
            return np.take_along_axis(columns, order, axis=1)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def vote(classes: np.ndarray) -> np.ndarray:
    """The most frequent class (M,) of the neighbours (M, k), nearest first; of a tie, the class of the nearest
    neighbour.
    """
    counts = (classes[:, :, None] == classes[:, None, :]).sum(2)
    return classes[np.arange(len(classes)), counts.argmax(1)]


def probe_accuracy(
    encoder: "Encoder",
    recordings: Sequence[tuple[np.ndarray, int]],
    classes: ArrayLike,
    folds: ArrayLike | None = None,
) -> dict[str, float]:
    """1-NN accuracy (cosine) of an encoder during its training, on a few labelled recordings.

    Runs on the encoder's device in evaluation mode and uses no random numbers. The modes of all modules and all random
    states are restored, and equal weights give equal results.

    Args:
        encoder: any family.
        recordings: mono waveforms, float32 (samples,), with their sampling rate in Hz, all of one rate.
        classes: (N,).
        folds: folds of a cross-validation, (N,); None: leave one out.

    Returns:
        Percentages by readout: ``cls`` and ``tokens``.
    """
    import torch

    from system.benchmarks.frozen import READOUTS, compute_readouts

    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        rows = [compute_readouts(encoder, torch.from_numpy(wave)[None], rate) for wave, rate in recordings]
    finally:
        for module, training in modes.items():
            module.training = training
    found = {}
    for name in READOUTS:
        vectors = np.stack([row[name] for row in rows])
        found[name] = (
            leave_one_out_accuracy(vectors, classes) if folds is None else folds_accuracy(vectors, classes, folds)
        )
    return found


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def _check(embeddings: np.ndarray, classes: ArrayLike, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings in float64, so that neighbours are exact, and classes as numbers."""
    embeddings, classes = np.asarray(embeddings, np.float64), np.asarray(classes)
    if embeddings.ndim != 2 or len(embeddings) != len(classes) or not len(classes):
        raise ValueError(f"embeddings {embeddings.shape} and {len(classes)} classes do not belong together")
    if k < 1:
        raise WheeltapperError(f"k: expected at least 1 neighbour, found {k}")
    if metric not in METRICS:
        raise WheeltapperError(f"metric: expected one of {', '.join(METRICS)}, found {metric!r}")
    return embeddings, np.unique(classes, return_inverse=True)[1]
