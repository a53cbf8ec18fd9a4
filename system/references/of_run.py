"""The simple reference systems on the recordings of a run: log-mel nearest neighbour and Mahalanobis distance.

Each window of a recording is read at the run's sampling rate, and described by the mean and the standard deviation over
time of its log-mel bands. A recording's score is the highest of its windows', as that of a run's systems
(``system.windows``).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from system import waveforms, windows
from system.config import DataConfig
from system.errors import WheeltapperError
from system.frontends.logmel import BANDS, log_mel
from system.machine import threads
from system.manifest import Clip, group_by
from system.parallel import map_in_order
from system.references import SYSTEMS, dense
from system.references.systems import Scores, fit_statistics, mean_and_deviation, select_channel

METHODS = ("knn", "mahalanobis")
NAMES = tuple(name for name, own in SYSTEMS.items() if own.method in METHODS and own.channel != "far")


def score_run(clips: Sequence[Clip], data: DataConfig) -> tuple[dict[str, Scores], dict[str, str]]:
    """Scores of the test clips by the systems of ``NAMES``, those with subtraction only where a clip has two channels.

    Args:
        clips: rows of a manifest with ``train`` and ``test`` clips; labels of test clips are not looked at.
        data: sampling rate and windows of the run.

    Returns:
        Name to (machine, section) to file to score, higher is more anomalous; and the sections without, with the
        reason.
    """
    own = [clip for clip in clips if clip.split in ("train", "test")]
    channels = ("near", "subtracted") if any(clip.model_channels > 1 for clip in own) else ("near",)
    names = [name for name in NAMES if SYSTEMS[name].channel in channels]
    scores: dict[str, Scores] = {name: {} for name in names}
    left_out: dict[str, str] = {}
    with dense.one_thread():
        for (machine, section), members in group_by(own, "machine", "section").items():
            try:
                for name, found in _score_section([own[index] for index in members], data, names).items():
                    scores[name][machine, section] = found
            except (WheeltapperError, OSError, ValueError) as error:
                left_out[f"{machine} section {section}"] = " ".join(str(error).split())
    return scores, left_out


def _score_section(clips: Sequence[Clip], data: DataConfig, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """As ``score_run``, of one machine and section; WheeltapperError where it cannot be scored."""
    rates = sorted({clip.rate for clip in clips})
    if not data.rate and len(rates) > 1:
        raise WheeltapperError(f"data.rate 0: expected recordings of one rate, found {rates[0]} and {rates[1]} Hz")
    cut = windows.expand(clips, data)
    channels = tuple(dict.fromkeys(SYSTEMS[name].channel for name in names))
    found = list(map_in_order(partial(describe, rate=data.rate, channels=channels), cut, threads()))
    train = np.array([clip.split == "train" for clip in cut])
    if not train.any():
        raise WheeltapperError("expected normal training clips, found none")
    domains = np.array([clip.domain or "source" for clip in cut])
    result = {}
    for name in names:
        features = np.stack([each[SYSTEMS[name].channel] for each in found])
        if SYSTEMS[name].method == "mahalanobis":
            features = features[:, :BANDS]  # the means alone
        scorer = fit_statistics(SYSTEMS[name].method, features[train], domains[train])
        single = np.array([scorer.score(row[None])[0] for row in features[~train]])  # each alone, to the last bit
        several = any(clip.window for clip in cut)
        tail = windows.tail_scale(scorer.reference_scores()) if several else 0.0
        result[name] = _collapse([clip for clip in cut if clip.split == "test"], single, tail)
    return result


def describe(clip: Clip, rate: int, channels: Iterable[str]) -> Mapping[str, np.ndarray]:
    """Mean and standard deviation over time of the log-mel bands of a window, float32 (2 * bands,), by channel.

    Args:
        clip: the window or recording.
        rate: sampling rate in Hz to which it is resampled; 0 for its own.
        channels: of ``references.CHANNELS``.

    Raises:
        WheeltapperError: the recording cannot be read.
    """
    wave, found = (waveforms.load(clip, rate), rate) if rate else waveforms.read(clip)
    return {channel: mean_and_deviation(log_mel(select_channel(wave, channel), found)[0]) for channel in channels}


def _collapse(tests: Sequence[Clip], single: np.ndarray, tail: float) -> dict[str, float]:
    """Scores of recordings by file from those of their windows (N,)."""
    found = {}
    for (file,), members in group_by(tests, "file").items():
        found[file] = float(windows.scores([tests[index] for index in members], single[members], tail).max())
    return found
