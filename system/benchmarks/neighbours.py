"""How well classes part in an embedding: exact nearest neighbours in NumPy, and a probe for the time of training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from system.errors import WheeltapperError

if TYPE_CHECKING:
    from system.encoders.base import Encoder

BLOCK = 1024  # rows whose distances are held at once
METRICS = ("cosine", "euclidean")


def folds_accuracy(
    embeddings: np.ndarray, classes: ArrayLike, folds: ArrayLike, k: int = 1, metric: str = "cosine"
) -> float:
    """Cross-validation over given folds: each is classified by its nearest neighbours in all the others.

    Args:
        embeddings: (N, D). classes: (N,). folds: (N,), such as the five of ESC-50 (Piczak 2015).
        k: neighbours that vote (``vote``). metric: ``cosine`` or ``euclidean``.

    Returns:
        the mean over the folds of the percentage of clips classified correctly.

    Raises WheeltapperError for fewer than two folds.
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
    """Each clip classified by its nearest neighbours among all others.

    Args:
        embeddings, classes, k, metric: see ``folds_accuracy``.
        groups: (N,) clips of one group, such as cuts of one recording, are no neighbours; None: each clip is its own.

    Returns:
        percentage of clips classified correctly.

    Raises WheeltapperError where fewer than two groups are left to tell apart.
    """
    embeddings, classes = _check(embeddings, classes, k, metric)
    numbers = np.arange(len(classes)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    found = nearest(embeddings, embeddings, usable(numbers, k), metric, numbers)
    return 100.0 * float(np.mean(vote(classes[found]) == classes))


def usable(groups: np.ndarray, k: int) -> int:
    """``k``, or how many clips of other groups every clip has, where that is less; WheeltapperError where it is 0."""
    others = len(groups) - int(np.bincount(groups).max())
    if not others:
        raise WheeltapperError(f"nearest neighbours: expected clips of at least 2 groups, found {len(groups)} of one")
    return min(k, others)


def nearest(
    queries: np.ndarray, memory: np.ndarray, k: int, metric: str, groups: np.ndarray | None = None
) -> np.ndarray:
    """Rows of the memory by rising distance to each query, those of equal distance in their order.

    Args:
        queries: (M, D). memory: (N, D). k: how many, at most N. metric: ``cosine`` or ``euclidean``.
        groups: where the queries are the memory, (N,) the clips' groups; members of the query's own are passed over.

    Returns:
        (M, min(k, N)) row numbers.
    """
    if metric == "cosine":
        queries, memory = _unit(queries), _unit(memory)
    squares = np.zeros(len(memory)) if metric == "cosine" else np.square(memory).sum(1)
    found = []
    for start in range(0, len(queries), BLOCK):
        # Squared distance less what all of a query's have in common; of unit vectors the rising order is the same.
        distances = squares - 2.0 * (queries[start : start + BLOCK] @ memory.T)
        if groups is not None:
            distances[groups[start : start + BLOCK, None] == groups] = np.inf
        found.append(closest(distances, k))
    return np.concatenate(found)


def closest(distances: np.ndarray, k: int) -> np.ndarray:
    """(M, N) to the columns of the k smallest values of each row, rising: (M, min(k, N))."""
    if k == 1:
        return distances.argmin(1, keepdims=True)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def vote(classes: np.ndarray) -> np.ndarray:
    """The most frequent class of each row (M, k) of neighbours from near to far: (M,); of a tie the one met first."""
    counts = (classes[:, :, None] == classes[:, None, :]).sum(2)
    return classes[np.arange(len(classes)), counts.argmax(1)]


def probe_accuracy(
    encoder: "Encoder",
    recordings: Sequence[tuple[np.ndarray, int]],
    classes: ArrayLike,
    folds: ArrayLike | None = None,
) -> dict[str, float]:
    """1-NN accuracy (cosine) of an encoder in the midst of its training, on a few labelled recordings.

    Computes where the encoder is, one recording after another, in evaluation mode, and draws nothing: the modes of all
    modules and every random state are afterwards as they were, and equal weights give equal figures.

    Args:
        encoder: any family. recordings: mono waveforms float32 (samples,) with their rate in Hz, all of one rate.
        classes: (N,). folds: (N,) of a cross-validation; None: leave one out.

    Returns:
        percent, by read-out: ``cls`` and ``tokens``.
    """
    import torch

    from system.benchmarks.frozen import READOUTS, read_out

    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        rows = [read_out(encoder, torch.from_numpy(wave)[None], rate) for wave, rate in recordings]
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
    """Embeddings as float64, in which neighbours are exact, and classes as numbers."""
    embeddings, classes = np.asarray(embeddings, np.float64), np.asarray(classes)
    if embeddings.ndim != 2 or len(embeddings) != len(classes) or not len(classes):
        raise ValueError(f"embeddings {embeddings.shape} and {len(classes)} classes do not belong together")
    if k < 1:
        raise WheeltapperError(f"k: expected at least 1 neighbour, found {k}")
    if metric not in METRICS:
        raise WheeltapperError(f"metric: expected one of {', '.join(METRICS)}, found {metric!r}")
    return embeddings, np.unique(classes, return_inverse=True)[1]
