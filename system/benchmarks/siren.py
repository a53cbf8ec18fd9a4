"""Bearing faults of CWRU by nearest neighbours as the SIREN benchmark has them (ECHO paper; details as in its code).

Every recording is one embedding, not normalised, and is classified by its five nearest neighbours among all other
recordings: Euclidean distance, majority vote, of a tie the class that is met first from near to far.
"""

from collections.abc import Sequence

import numpy as np

from system.benchmarks.neighbours import closest, leave_one_out_accuracy, usable, vote
from system.errors import WheeltapperError

NEIGHBOURS = 5
PIECES = 8  # channels that the published extractors announce, whatever the recordings have
USED = 7  # of them in a query of many recordings at once
EPSILON = 1e-10
MODES = ("clean", "as-coded")


def leave_one_file_out(
    embeddings: np.ndarray, classes: Sequence, mode: str = "clean", groups: Sequence | None = None
) -> float:
    """Percentage of recordings classified correctly.

    Args:
        embeddings: (N, D) one row a recording. classes: (N,).
        mode: ``clean``, or ``as-coded``, as the published figures are made: see ``piecewise_distances``.
        groups: (N,) what was cut from one recording; None: each row is a recording.
    """
    if mode not in MODES:
        raise WheeltapperError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
    if mode == "clean" or embeddings.shape[1] % PIECES:
        return leave_one_out_accuracy(embeddings, classes, NEIGHBOURS, "euclidean", groups)
    classes = np.asarray(classes)
    numbers = np.arange(len(classes)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    distances = piecewise_distances(embeddings)
    distances[numbers[:, None] == numbers] = np.inf
    found = closest(distances, usable(numbers, NEIGHBOURS))
    return 100.0 * float(np.mean(vote(classes[found]) == classes))


def piecewise_distances(embeddings: np.ndarray) -> np.ndarray:
    """SIREN's distances between embeddings (N, D), D a multiple of 8: (N, N), row by query.

    Each vector is taken for eight channels: cut into eight pieces, of which the last is passed over. The distances of
    a query's piece to all N, the query itself among them, are brought to mean 0 and deviation 1 and averaged over the
    pieces.
    """
    pieces = np.asarray(embeddings, np.float64).reshape(len(embeddings), PIECES, -1)
    total = np.zeros((len(pieces), len(pieces)))
    for piece in pieces[:, :USED].swapaxes(0, 1):
        squares = np.square(piece).sum(1)
        distances = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * (piece @ piece.T), 0.0))
        np.fill_diagonal(distances, 0.0)  # where rounding leaves 1e-8
        spread = distances.std(1, keepdims=True) + EPSILON
        total += (distances - distances.mean(1, keepdims=True)) / spread
    return total / USED
