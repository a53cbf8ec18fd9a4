"""Scorer for branches whose embeddings are anomaly scores already, such as an autoencoder's reconstruction errors."""

import numpy as np

from system.scoring.banks import check, flat


class PrecomputedScorer:
    """Uses the embedding itself as the score: the smallest number of a clip's row, over all bands.

    References are not left out here. Their scores are only comparable to those of test clips if their rows come from
    models that were not trained on them (``autoencoder.folds``).
    """

    note = ""

    def fit(self, references: np.ndarray, domains: np.ndarray, groups: np.ndarray | None = None) -> "PrecomputedScorer":
        self._references, _ = check(references, domains)
        return self

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        return flat(np.asarray(embeddings, np.float64)).min(axis=1)

    def reference_scores(self) -> np.ndarray:
        return self.score(self._references)
