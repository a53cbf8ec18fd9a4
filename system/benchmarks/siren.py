"""Fault classification by nearest neighbours as the SIREN benchmark has it (ECHO paper; details as in its code).

Every recording is one embedding, not normalised, and is classified by its five nearest neighbours: Euclidean distance,
majority vote, of a tie the class that is met first from near to far. CWRU leaves one file out, IICA has five folds,
IIEE a test side of its own. Figures are plain accuracies in percent.
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
PIECES = 8  # channels that the published extractors announce, whatever the recordings have
USED = 7  # of them in a query of many recordings at once; a query of one, as IIEE has it, uses all
LEAK = 5000  # recordings; of more, the published code leaves each among its own neighbours
EPSILON = 1e-10


def changes(mode: str, task: str, count: int, dim: int, channels: int | None = None) -> list[str]:
    """In words, what ``clean`` does differently for embeddings (count, dim); ``task``: loocv, kfold or official."""
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
        found.append(f"no recording is its own neighbour (as coded: it is where there are more than {LEAK})")
    return found


def leave_one_file_out(
    embeddings: np.ndarray, classes: ArrayLike, mode: str = CLEAN, groups: ArrayLike | None = None
) -> float:
    """Percentage of recordings classified correctly by ``predict_left_out``."""
    return 100.0 * float(np.mean(predict_left_out(embeddings, classes, mode, groups) == np.asarray(classes)))


def predict_left_out(
    embeddings: np.ndarray,
    classes: ArrayLike,
    mode: str = CLEAN,
    groups: ArrayLike | None = None,
    channels: int | None = None,
) -> np.ndarray:
    """Class of each recording by its neighbours among all others: (N,).

    Args:
        embeddings: (N, D) one row a recording. classes: (N,).
        mode: ``clean``, or ``as-coded``, as the published figures are made: see ``fused_distances``.
        groups: (N,) what was cut from one recording; None: each row is a recording.
        channels: whose embeddings stand side by side in a row; distances are normalised and averaged over them (for
            MaFaulDa the published code does so, too). None: not said; ``clean`` takes a row for one channel.
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
    """Class of each recording by its neighbours in the other four of five folds, and its fold: both (N,).

    Folds spread the classes evenly (scikit-learn's StratifiedKFold, shuffled with seed 1); with groups none is in two.

    Args:
        see ``predict_left_out``.
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
    """Class of each test row by its neighbours among all other rows: (test rows,).

    Args:
        tested: (N,) bool, the test side of a split that comes with the data set. others: see ``predict_left_out``.
    """
    embeddings, classes, tested = np.asarray(embeddings, np.float64), np.asarray(classes), np.asarray(tested, bool)
    pieces, _ = _pieces(embeddings, mode, channels)
    return _classify(embeddings[tested], embeddings[~tested], classes[~tested], pieces, pieces)


def fused_distances(queries: np.ndarray, memory: np.ndarray, pieces: int, used: int) -> np.ndarray:
    """Distances of queries (M, D) to a memory (N, D), D a multiple of the pieces: (M, N).

    Of one piece they are Euclidean. Otherwise each vector is taken for that many channels and cut accordingly, and
    those after the ``used`` first are passed over; the distances of a query's piece to all the memory, the query itself
    among them where it is there, are brought to mean 0 and deviation 1 and averaged over the pieces.
    """
    middle = memory.mean(axis=0)  # squares of far vectors would drown their differences
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
    """Into how many pieces vectors are cut and how many of them count when many recordings are asked about."""
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
    """The vote of the neighbours of so many queries, some of them at a time."""
    blocks = [np.arange(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    return np.concatenate([vote(classes[near(rows)]) for rows in blocks])
