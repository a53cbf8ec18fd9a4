"""Fault classification of SIREN with nearest neighbours (ECHO paper; details as in its code).

Each recording has one embedding, not normalised, and is classified by a majority vote of its five nearest neighbours
(Euclidean distance); of a tie, the class of the nearest neighbour wins. CWRU leaves one file out, IICA has five folds,
IIEE has a published test set. The metric is accuracy in percent.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from system.benchmarks.neighbours import BLOCK, closest, usable, vote
from system.benchmarks.protocols import CLEAN, check_mode
from system.benchmarks.splits import stratified_folds
from system.errors import WheeltapperError

NEIGHBOURS = 5
FOLDS, SEED = 5, 1
PIECES = 8  # number of channels that the published extractors report for all recordings
USED = 7  # of these, the number used for queries of several recordings; queries of one (IIEE) use all
LEAK = 5000  # with more recordings, the published code includes each among its own neighbours
EPSILON = 1e-10


def changes(mode: str, task: str, count: int, dim: int, channels: int | None = None) -> list[str]:
    """Sentences on the differences of ``clean``.

    Args:
        mode: ``clean`` or ``as-coded``.
        task: loocv, kfold or official.
        count: number of embeddings.
        dim: their dimension.
        channels: number of channels, if known.
    """
    if check_mode(mode):
        return []
    found = []
    if channels is None and dim % PIECES == 0:
        dropped = "" if task == "official" else ", the last piece left out"
        found.append(
            f"the distance is that between whole embeddings (as coded: embeddings are cut into {PIECES} pieces "
            f"whatever the channels, distances normalised and averaged over the pieces{dropped})"
        )
    if task == "loocv" and count > LEAK:
        found.append(f"no recording is its own neighbour (as coded: it is if there are more than {LEAK})")
    return found


def leave_one_file_out(
    embeddings: np.ndarray, classes: ArrayLike, mode: str = CLEAN, groups: ArrayLike | None = None
) -> float:
    """Accuracy of ``predict_left_out`` in percent."""
    return 100.0 * float(np.mean(predict_left_out(embeddings, classes, mode, groups) == np.asarray(classes)))


def predict_left_out(
    embeddings: np.ndarray,
    classes: ArrayLike,
    mode: str = CLEAN,
    groups: ArrayLike | None = None,
    channels: int | None = None,
) -> np.ndarray:
    """Predicts the class of each recording from its neighbours among all others.

    Args:
        embeddings: one row per recording, (N, D).
        classes: (N,).
        mode: ``clean``, or ``as-coded`` as for the published results, see ``fused_distances``.
        groups: recording that each row was cut from, (N,); None: each row is a recording.
        channels: number of channels whose embeddings are concatenated in a row; distances are normalised and averaged
            over them (as the published code does for MaFaulDa). None: unknown; ``clean`` then assumes one.

    Returns:
        Predicted classes, (N,).
    """
    embeddings, classes = np.asarray(embeddings, np.float64), np.asarray(classes)
    pieces, used = _pieces(embeddings, mode, channels)
    numbers = np.arange(len(classes)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    leaks = check_mode(mode) and groups is None and len(classes) > LEAK
    count = usable(numbers.reshape(-1), NEIGHBOURS)

    def near(rows: np.ndarray) -> np.ndarray:
        distances = fused_distances(embeddings[rows], embeddings, pieces, used)
        if not leaks:
            distances[numbers[rows, None] == numbers] = np.inf
        return closest(distances, count)

    return _in_blocks(near, classes, len(classes))


def predict_folds(
    embeddings: np.ndarray,
    classes: ArrayLike,
    mode: str = CLEAN,
    groups: ArrayLike | None = None,
    channels: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts the class of each recording from its neighbours in the other four of five folds.

    The folds are stratified by class (scikit-learn's StratifiedKFold, shuffled with seed 1); a group is in one fold
    only. For the arguments see ``predict_left_out``.

    Returns:
        Predicted classes and folds, (N,) each.
    """
    embeddings, classes = np.asarray(embeddings, np.float64), np.asarray(classes)
    pieces, used = _pieces(embeddings, mode, channels)
    folds = stratified_folds(classes, FOLDS, SEED, groups)
    predicted = np.empty_like(classes)
    for fold in range(FOLDS):
        own = folds == fold
        predicted[own] = _classify(embeddings[own], embeddings[~own], classes[~own], pieces, used)
    return predicted, folds


def predict_test(
    embeddings: np.ndarray, classes: ArrayLike, tested: np.ndarray, mode: str = CLEAN, channels: int | None = None
) -> np.ndarray:
    """Predicts the class of each test row from its neighbours among all other rows.

    Args:
        embeddings: see ``predict_left_out``.
        classes: see ``predict_left_out``.
        tested: test rows of the published split, bool (N,).
        mode: see ``predict_left_out``.
        channels: see ``predict_left_out``.

    Returns:
        Predicted classes, (test rows,).
    """
    embeddings, classes, tested = np.asarray(embeddings, np.float64), np.asarray(classes), np.asarray(tested, bool)
    pieces, _ = _pieces(embeddings, mode, channels)
    return _classify(embeddings[tested], embeddings[~tested], classes[~tested], pieces, pieces)


def fused_distances(queries: np.ndarray, memory: np.ndarray, pieces: int, used: int) -> np.ndarray:
    """Distances between queries and a memory, normalised and averaged over pieces of the vectors.

    With one piece the distances are Euclidean. Otherwise each vector is cut into ``pieces``, as if these were channels,
    of which the first ``used`` count. The distances of a query's piece to all of the memory, including the query itself
    if it is part of it, are standardised and then averaged over the pieces.

    Args:
        queries: (M, D).
        memory: (N, D); D is a multiple of ``pieces``.
        pieces: number of pieces.
        used: number of pieces that count.

    Returns:
        (M, N).
    """
    middle = memory.mean(axis=0)  # otherwise differences of distant vectors are lost in rounding
    parts = [(x - middle).reshape(len(x), pieces, -1)[:, :used].swapaxes(0, 1) for x in (queries, memory)]
    total = np.zeros((len(queries), len(memory)))
    for query, rows in zip(*parts, strict=True):
        squares = np.square(query).sum(1)[:, None] + np.square(rows).sum(1)
        distances = np.sqrt(np.maximum(squares - 2.0 * (query @ rows.T), 0.0))
        if pieces > 1:
            distances -= distances.mean(1, keepdims=True)
            distances /= distances.std(1, keepdims=True) + EPSILON
        total += distances
    return total / used


def _pieces(embeddings: np.ndarray, mode: str, channels: int | None) -> tuple[int, int]:
    """Number of pieces of a vector, and the number of them that count for queries of several recordings."""
    dim, as_coded = embeddings.shape[1], check_mode(mode)
    if channels is None:
        return (PIECES, USED) if as_coded and dim % PIECES == 0 else (1, 1)
    if channels < 1 or dim % channels:
        raise WheeltapperError(f"channels: expected a divisor of the {dim} dimensions, found {channels}")
    return channels, channels


def _classify(queries: np.ndarray, memory: np.ndarray, classes: np.ndarray, pieces: int, used: int) -> np.ndarray:
    def near(rows: np.ndarray) -> np.ndarray:
        return closest(fused_distances(queries[rows], memory, pieces, used), min(NEIGHBOURS, len(memory)))

    return _in_blocks(near, classes, len(queries))


def _in_blocks(near: Callable[[np.ndarray], np.ndarray], classes: np.ndarray, count: int) -> np.ndarray:
    """Votes of the neighbours of ``count`` queries, computed in blocks."""
    blocks = [np.arange(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    return np.concatenate([vote(classes[near(rows)]) for rows in blocks])
