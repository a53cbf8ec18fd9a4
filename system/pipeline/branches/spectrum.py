"""What the stages do for a branch that is a spectrum."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from system.config import VIEWS, BranchConfig
from system.experiment import Experiment
from system.manifest import Clip
from system.progress import progress_bar

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
    from system.files import write_json

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


def embed(
    run: Experiment, names: Sequence[str], clips: Sequence[Clip], workers: int
) -> "Iterator[tuple[str, dict[str, np.ndarray]]]":
    """Rows of each branch's clips in every view, float32 (N, bands), of two inputs (N, 2, bands).

    Each recording is read once, and what several branches hear alike is made once. Left duplication puts the first
    input in the place of the second.
    """
    import numpy as np

    from system.files import read_json
    from system.parallel import map_in_order

    rates = {name: int(read_json(run.card(name))["rate"]) for name in names}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with progress_bar(len(clips), f"describing {', '.join(names)}") as bar:
        for found in map_in_order(lambda clip: _describe(run, rates, clip), clips, workers):
            for name, row in found.items():
                rows[name].append(row)
            bar.update(1)
    for name in names:
        yield name, _views(np.stack(rows[name]))


def alone(run: Experiment, name: str) -> "Callable[[Clip], dict[str, np.ndarray]]":
    """A branch as a function of one clip: its row (1, ...) in every view."""
    from system.files import read_json

    rates = {name: int(read_json(run.card(name))["rate"])}
    return lambda clip: _views(_describe(run, rates, clip)[name][None])


def _views(both: "np.ndarray") -> "dict[str, np.ndarray]":
    """(N, inputs, bands) as both views have them."""
    import numpy as np

    if both.shape[1] == 1:
        return dict.fromkeys(VIEWS, both[:, 0])
    return dict(zip(VIEWS, (both, np.repeat(both[:, :1], 2, axis=1)), strict=True))


def _describe(run: Experiment, rates: Mapping[str, int], clip: Clip) -> "dict[str, np.ndarray]":
    """Of each branch, whose rate is in Hz, the statistics (inputs, bands) of a clip."""
    from system import audio
    from system.frontends import channels, spectrum

    wave, native = audio.read(clip.path)
    heard: list[tuple[tuple, np.ndarray]] = []
    found = {}
    for name, rate in rates.items():
        branch = run.config.branches[name]
        way = (branch.inputs, branch.subtraction, rate)
        if all(way != other for other, _ in heard):
            resampled = audio.resample(wave[:2], native, rate)
            heard.append((way, channels.select_inputs(resampled, rate, branch.inputs, branch.subtraction, clip.path)))
        inputs = next(inputs for other, inputs in heard if other == way)
        found[name] = spectrum.describe(inputs, rate, branch.spectrum)
    return found
