"""Detection with training on normal recordings only: MIMII's autoencoder, and the local outlier factor of frozen
embeddings (MIMII paper, section IV).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from system import config as configuration
from system.config import StudyLofConfig
from system.errors import WheeltapperError
from system.references.autoencoder import Autoencoder, AutoencoderSettings
from system.scoring import lof
from system.study.data import SplitRow, evaluated, references

Scores = dict[str, np.ndarray]


def autoencoder_scores(
    rows: Sequence[SplitRow],
    spectrograms: Sequence[np.ndarray],
    config: configuration.AutoencoderConfig,
    seed: int,
    device: str = "cpu",
    progress: Callable[[int, float, float], None] | None = None,
) -> Scores:
    """Mean reconstruction error of every clip of the validation and test parts, (M,) under ``autoencoder``.

    The autoencoder is trained on all vectors of the normal clips of the training part: the paper reserves clips, not
    vectors, for validation, and stops after a fixed number of epochs.

    Args:
        rows: of the scope.
        spectrograms: log-mel spectrogram (T, 64) of each row.
        config: settings of the autoencoder.
        seed: of the training.
        device: cpu or cuda.
        progress: called after each epoch with its number and the losses.
    """
    settings = AutoencoderSettings(**asdict(config), seed=seed, device=device)
    model = Autoencoder(settings).fit([spectrograms[int(i)] for i in np.flatnonzero(references(rows))], progress)
    return {"autoencoder": np.array([model.score(spectrograms[int(i)]) for i in np.flatnonzero(evaluated(rows))])}


def lof_scores(rows: Sequence[SplitRow], embeddings: np.ndarray, config: StudyLofConfig) -> Scores:
    """Scores (M,) of every clip of the validation and test parts against the normal clips of the training part.

    ``lof_vote``: 1 if the majority of the thresholds is exceeded, else 0 (the paper's method). ``lof_share``: share of
    the thresholds that are exceeded. ``lof``: the local outlier factor itself.

    Args:
        rows: of the scope.
        embeddings: of the rows, (N, D).
        config: neighbours and thresholds.
    """
    if not np.isfinite(embeddings).all():
        bad = rows[int(np.flatnonzero(~np.isfinite(embeddings).all(1))[0])]
        raise WheeltapperError(f"{bad.name}: expected a finite embedding, found NaN or infinity")
    own = references(rows)
    votes = lof.vote(embeddings[own], embeddings[evaluated(rows)], config.neighbours, config.contaminations)
    return {"lof_vote": votes.majority.astype(float), "lof_share": votes.share, "lof": votes.factor}
