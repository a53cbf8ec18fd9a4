"""Evaluation during pre-training: nearest neighbours on a few labelled recordings."""

from collections.abc import Sequence

import numpy as np

from system import audio
from system.benchmarks.labelled import ANOMALIES, FOLDS, choose_task
from system.benchmarks.neighbours import probe_accuracy
from system.corpora.table import class_of
from system.encoders.base import Encoder
from system.errors import WheeltapperError
from system.manifest import Clip


class Probe:
    """1-NN accuracy on ``count`` recordings of a manifest with classes, always the same ones, kept in memory."""

    def __init__(self, clips: Sequence[Clip], count: int):
        task, own = choose_task(clips)
        if task == ANOMALIES:
            raise WheeltapperError("pretrain.probe: expected recordings with classes, found machines with anomalies")
        chosen = np.random.default_rng(0).permutation(len(own))[:count]
        clips = [own[index] for index in sorted(chosen)]
        self.recordings = [(audio.read(clip.path)[0][0], clip.rate) for clip in clips]
        self.classes = [class_of(clip) for clip in clips]
        self.folds = [clip.section for clip in clips] if task == FOLDS else None

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        """Accuracy in percent: ``probe_cls`` and ``probe_tokens``."""
        found = probe_accuracy(encoder, self.recordings, self.classes, self.folds)
        return {f"probe_{name}": value for name, value in found.items()}
