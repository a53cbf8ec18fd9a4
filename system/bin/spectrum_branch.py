"""What the stages do for a branch that is a spectrum."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from system.bin import common
from system.config import VIEWS, BranchConfig
from system.experiment import Experiment
from system.manifest import Clip

if TYPE_CHECKING:
    import numpy as np


def training_settings(branch: BranchConfig) -> dict:
    """What training depends on: nothing is trained."""
    return {"spectrum": {}}


def embedding_settings(branch: BranchConfig) -> dict:
    """What the rows depend on."""
    from dataclasses import asdict

    return {name: asdict(branch)[name] for name in ("spectrum", "inputs", "subtraction")}


def adapt(run: Experiment, name: str, clips: Sequence[Clip], rate: int) -> list[Path]:
    """Writes the branch's card; returns the files written."""
    from system.stage import write_json

    config = run.config.branches[name].spectrum
    seconds = max(clip.seconds for clip in clips)
    frames = 1 + int(seconds * rate) // config.hop
    cost = frames * (config.n_fft * math.log2(config.n_fft) + config.bands * (config.n_fft // 2 + 1))
    channels = dict(zip(VIEWS, (len(run.config.branches[name].inputs), 1), strict=True))
    numbers = len(run.config.branches[name].inputs) * config.bands // config.merge
    card = {
        # No network: what is fitted are mean and covariance of a machine's references.
        "total_parameters": numbers * (numbers + 3) // 2,
        "trainable_parameters": 0,
        "macs": {view: int(count * cost) for view, count in channels.items()},
        "seconds": seconds,
        "rate": rate,
    }
    write_json(run.card(name), card)
    return [run.card(name)]


def embed(run: Experiment, name: str, clips: Sequence[Clip], workers: int) -> "dict[str, np.ndarray]":
    """Rows of a branch's clips in every view, float32 (N, bands), of two inputs (N, 2, bands).

    Left duplication puts the first input in the place of the second.
    """
    import numpy as np

    from system import audio
    from system.embedding import ahead
    from system.frontends import channels, spectrum
    from system.stage import read_json

    branch, rate = run.config.branches[name], int(read_json(run.card(name))["rate"])

    def load(clip: Clip) -> np.ndarray:
        wave, native = audio.read(clip.path)
        wave = audio.resample(wave[:2], native, rate)
        return spectrum.describe(
            channels.hear(wave, rate, branch.inputs, branch.subtraction, clip.path), rate, branch.spectrum
        )

    rows = []
    with common.progress_bar(len(clips), f"describing {name}") as bar:
        for row in ahead(load, clips, workers):
            rows.append(row)
            bar.update(1)
    both = np.stack(rows)
    if len(branch.inputs) == 1:
        return dict.fromkeys(VIEWS, both[:, 0])
    return dict(zip(VIEWS, (both, np.repeat(both[:, :1], 2, axis=1)), strict=True))
