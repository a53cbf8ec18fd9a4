"""Detection that learns from normal recordings alone: the autoencoder of MIMII and the local outlier factor of frozen
embeddings (MIMII paper, section IV)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from system import config as configuration
from system.config import StudyLofConfig
from system.errors import WheeltapperError
from system.references.autoencoder import Autoencoder, AutoencoderConfig
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

    Trained on the normal clips of the training part. All their vectors train: the paper holds back clips for
    validation, not vectors, and stops after a fixed number of epochs.

    Args:
        rows: of the scope. spectrograms: log-mel (T, 64) of each row.
    """
    settings = AutoencoderConfig(**asdict(config), seed=seed, device=device)
    model = Autoencoder(settings).fit([spectrograms[int(i)] for i in np.flatnonzero(references(rows))], progress)
    return {"autoencoder": np.array([model.score(spectrograms[int(i)]) for i in np.flatnonzero(evaluated(rows))])}


def lof_scores(rows: Sequence[SplitRow], embeddings: np.ndarray, config: StudyLofConfig) -> Scores:
    """Scores of every clip of the validation and test parts, (M,) each, against the normal clips of the training part.

    ``lof_vote``: 1 where the majority of the thresholds calls it anomalous, else 0 (the paper's); ``lof_share``: the
    share that does; ``lof``: the local outlier factor itself.

    Args:
        rows: of the scope. embeddings: (N, D) of the rows.
    """
    if not np.isfinite(embeddings).all():
        bad = rows[int(np.flatnonzero(~np.isfinite(embeddings).all(1))[0])]
        raise WheeltapperError(f"{bad.name}: expected a finite embedding, found NaN or infinity")
    own = references(rows)
    votes = lof.vote(embeddings[own], embeddings[evaluated(rows)], config.neighbours, config.contaminations)
    return {"lof_vote": votes.majority.astype(float), "lof_share": votes.share, "lof": votes.factor}
