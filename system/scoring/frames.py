"""Memory of all frames of the normal references: a clip is as anomalous as the worst of its frames."""

import math
from dataclasses import dataclass

import numpy as np

from system.scoring.banks import GLOBAL, BankScorer
from system.scoring.settings import BankMode, FrameDistance, MostFrames, Standardize, WorstFrames

BLOCK = 1 << 22  # distances in memory at once
AT_ORIGIN = 1e-12  # squared length below which a frame has no direction, as a share of the mean
SMALLEST_DEVIATION = 0.01  # of a number, as a share of the root mean square of all deviations


@dataclass(frozen=True)
class FrameBank:
    """Frames of normal references, and the distance to the nearest of them.

    Each number of a frame is standardised by mean and deviation over the bank. Inside, frames are stored on the scale
    of the whole bank; without some of the references the scale differs a little, and so each number gets a weight and
    an origin, with which distances are those of a bank that was fitted without them.
    """

    references: np.ndarray  # (N, frames, D) as they came
    mean: np.ndarray  # (D,) that frames are stored less
    scale: np.ndarray  # (D,) that they are divided by
    frames: np.ndarray  # (R, D)
    squares: np.ndarray  # (R, D) of the frames
    total: np.ndarray  # (D,) of the squares
    worst: float
    cosine: bool

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """Scores (M,) of clips (M, frames, D)."""
        return self.without(np.empty(0, int), embeddings)

    def leave_one_out(self) -> np.ndarray:
        """Scores (N,) of the references, each without itself."""
        numbers = np.arange(len(self.references))
        return np.concatenate([self.without(numbers[[i]], self.references[[i]]) for i in numbers.tolist()])

    def without(self, members: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Scores (M,) of clips (M, frames, D), with everything re-estimated without some references.

        Args:
            members: (k,) indices of these references in the bank.
            embeddings: (M, frames, D).
        """
        of_each = len(self.frames) // len(self.references)
        gone = (members[:, None] * of_each + np.arange(of_each)).ravel()
        left = len(self.frames) - len(gone)
        origin = -self.frames[gone].sum(axis=0) / left  # the sum over all is zero
        variances = (self.total - self.squares[gone].sum(axis=0)) / left - np.square(origin)
        weights = np.square(self.scale / deviations(variances * np.square(self.scale)))
        lengths = self.squares @ weights - self.frames @ (2.0 * weights * origin) + weights @ np.square(origin)
        queries = (embeddings.reshape(-1, embeddings.shape[-1]) - self.mean) / self.scale - origin
        found = self._nearest(queries, weights, origin, np.maximum(lengths, 0.0), gone)
        return worst_mean(found.reshape(embeddings.shape[:2]), self.worst)

    def _nearest(
        self, queries: np.ndarray, weights: np.ndarray, origin: np.ndarray, lengths: np.ndarray, gone: np.ndarray
    ) -> np.ndarray:
        """Distances (Q,) of queries (Q, D) to the nearest frame, given its squared length (R,) from the origin."""
        found = np.empty(len(queries))
        step = max(1, BLOCK // len(self.frames))
        inverse = np.zeros_like(lengths)  # a frame at the origin is at right angles to all
        np.divide(1.0, np.sqrt(lengths), out=inverse, where=lengths > AT_ORIGIN * lengths.mean())
        for start in range(0, len(queries), step):
            own = queries[start : start + step]
            weighted = own * weights
            keys = weighted @ self.frames.T
            keys -= (weighted @ origin)[:, None]
            if self.cosine:
                keys *= inverse
            else:
                keys -= 0.5 * lengths
            keys[:, gone] = -np.inf
            near = self.frames[keys.argmax(axis=1)] - origin
            found[start : start + step] = (_cosine if self.cosine else _euclidean)(own, near, weights)
        return found


def _euclidean(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Distances (Q,) of pairs of vectors (Q, D), from their difference: zero for equal ones."""
    return np.sqrt(np.square(x - y) @ weights)


def _cosine(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """1 - cos (Q,) of pairs of vectors (Q, D), from the difference of unit vectors; 1 where one is zero."""
    root = np.sqrt(weights)
    lengths = [np.linalg.norm(v * root, axis=1, keepdims=True) for v in (x, y)]
    difference = x * root / np.maximum(lengths[0], 1e-100) - y * root / np.maximum(lengths[1], 1e-100)
    zero = np.minimum(*lengths)[:, 0] < 1e-100
    return np.where(zero, 1.0, 0.5 * np.square(difference).sum(axis=1))


def deviations(variances: np.ndarray) -> np.ndarray:
    """Deviations (D,) to divide by: roots of ``variances``, at least a share of the usual one; ones if nothing varies.

    A band that is silent in all references would else decide alone.
    """
    floor = SMALLEST_DEVIATION * math.sqrt(max(float(variances.mean()), 0.0))
    return np.maximum(np.sqrt(np.maximum(variances, 0.0)), floor) if floor > 0.0 else np.ones_like(variances)


def worst_mean(distances: np.ndarray, share: float) -> np.ndarray:
    """Mean (M,) of the largest ``share`` of the distances of each clip (M, frames), of one at least."""
    count = max(1, round(share * distances.shape[1]))
    return np.partition(distances, distances.shape[1] - count, axis=1)[:, distances.shape[1] - count :].mean(axis=1)


class FramesScorer(BankScorer[FrameBank]):
    """s(x) = mean of the largest 5 % of the distances of the clip's frames to their nearest reference frames.

    Rows are (N, frames, D), of two inputs (N, 2, frames, D), whose numbers are put side by side in each frame; a vector
    is one frame. The search is exact: a product with all frames of the bank in double precision, in blocks.

    Args:
        worst: share of the frames of a clip whose distances are averaged.
        distance: of frames, whose numbers are standardised by mean and deviation over the bank.
        limit: frames in a bank, above which every second, third ... frame of each reference is kept.
        bank: see BankScorer.
        standardize: see BankScorer.
    """

    most_axes = 3

    def __init__(
        self,
        worst: WorstFrames = 0.05,
        distance: FrameDistance = "euclidean",
        limit: MostFrames = 100_000,
        bank: BankMode = GLOBAL,
        standardize: Standardize = False,
    ):
        super().__init__(bank, standardize)
        self.worst, self.distance, self.limit = worst, distance, limit

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Frames (N, frames, D) of rows (N, D), (N, frames, D) or (N, inputs, frames, D)."""
        if rows.ndim == 2:
            return rows[:, None]
        return rows if rows.ndim == 3 else rows.transpose(0, 2, 1, 3).reshape(len(rows), rows.shape[2], -1)

    def fit_bank(self, rows: np.ndarray) -> FrameBank:
        references = self._references if len(rows) == len(self._references) else self._references[rows]
        step = max(1, math.ceil(references.shape[0] * references.shape[1] / self.limit))
        frames = references[:, ::step].reshape(-1, references.shape[2])
        mean, scale = frames.mean(axis=0), deviations(frames.var(axis=0))
        frames = (frames - mean) / scale
        squares = np.square(frames)
        cosine = self.distance == "cosine"
        return FrameBank(references, mean, scale, frames, squares, squares.sum(axis=0), self.worst, cosine)

    def distance_without(self, bank: FrameBank, rows: np.ndarray, group: np.ndarray) -> np.ndarray:
        return bank.without(np.flatnonzero(np.isin(rows, group)), self._references[group])

    def distances_left_out(self, bank: FrameBank, rows: np.ndarray) -> np.ndarray:
        groups = np.arange(len(self._references)) if self._groups is None else self._groups
        found = np.empty(len(groups))
        others = np.flatnonzero(~np.isin(groups, groups[rows]))
        if len(others):
            found[others] = bank.distance(self._references[others])
        for number in np.unique(groups[rows]):
            group = np.flatnonzero(groups == number)
            found[group] = self.distance_without(bank, rows, group)
        return found
