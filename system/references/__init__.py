"""Reference systems: what any submission ought to beat on the same clips.

Plain statistics of the log-mel spectrogram, and the official autoencoder with both of its scores:

| method | clip is described by | score |
|---|---|---|
| knn | mean and standard deviation over time of every log-mel band (256) | cosine distance to the nearest reference |
| mahalanobis | mean over time of every log-mel band (128) | squared Mahalanobis distance, Ledoit-Wolf covariance |
| autoencoder | all its vectors of five log-mel frames | mean squared reconstruction error |
| autoencoder_mahalanobis | mean over them of the residual of every band (128) | selective Mahalanobis distance |

The channel is the near or the far microphone, or the near one after least-squares subtraction of the far one (for mono
clips the same as near). This module holds the table only and imports nothing heavy; see ``systems``.
"""

from dataclasses import dataclass

CHANNELS = ("near", "far", "subtracted")


@dataclass(frozen=True)
class Reference:
    """A reference system: ``method`` as in the table above, ``channel`` one of CHANNELS."""

    method: str
    channel: str


SYSTEMS = {
    "logmel_knn": Reference("knn", "near"),
    "logmel_knn_subtracted": Reference("knn", "subtracted"),
    "logmel_mahalanobis": Reference("mahalanobis", "near"),
    "logmel_mahalanobis_subtracted": Reference("mahalanobis", "subtracted"),
    "logmel_mahalanobis_far": Reference("mahalanobis", "far"),
    "autoencoder": Reference("autoencoder", "near"),
    "autoencoder_mahalanobis": Reference("autoencoder_mahalanobis", "near"),
}
