"""A scorer of one's own: distance to the median of the normal references, in the spread of each number."""

import numpy as np

from system.scoring import SCORERS
from system.scoring.banks import check, flat


class MedianScorer:
    """s(x) = mean over the numbers of |x - median| / (median absolute deviation), at most ``clip`` each.

    Args:
        clip: so that a single number does not decide.
    """

    def __init__(self, clip: float = 10.0):
        self.clip = clip

    def fit(self, references: np.ndarray, domains: np.ndarray) -> "MedianScorer":
        """references (N, D) or (N, bands, D) of normal clips; domains (N,) 'source' | 'target' are not needed here."""
        references, _ = check(references, domains)
        self._rows = flat(references)
        return self

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """(M, ...) to scores (M,), higher where more anomalous."""
        return self._distance(self._rows, flat(np.asarray(embeddings, np.float64)))

    def reference_scores(self) -> np.ndarray:
        """(N,) score of each reference against the others: calibration and thresholds come from these."""
        count = len(self._rows)
        without = (np.delete(self._rows, i, axis=0) for i in range(count))
        return np.concatenate([self._distance(rest, self._rows[i : i + 1]) for i, rest in enumerate(without)])

    def _distance(self, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
        centre = np.median(rows, axis=0)
        spread = np.median(np.abs(rows - centre), axis=0)
        deviations = np.abs(points - centre) / np.maximum(spread, 1e-9)
        return np.minimum(deviations, self.clip).mean(axis=1)


SCORERS["median"] = MedianScorer
