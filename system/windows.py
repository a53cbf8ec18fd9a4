"""Windows: the stretches of equal length as which recordings of any length are described, compared and scored.

The level of a machine's sound is the same in a short and in a long recording, but the mean over a long one spreads
less, and a fault that lasts seconds vanishes in the mean over minutes. So the clips of a machine and section are
compared at one length. A longer recording is cut into windows that overlap, a shorter one is repeated.

The score of a recording is the highest of its windows', each no higher than that of a neighbour that it overlaps, less
tail * ln K. What is high in one window only, such as the joint of two recordings or a slammed door, does not count: a
fault of the window's length or more is in two windows that overlap. First and last window, half of which no other
hears, count as they are. The worst of many windows of a normal recording exceeds a single one, which the second term
allows for. Where the upper tail of scores is exponential, P(s > t) = c exp(-t / tail), the worst of K windows exceeds
t + tail * ln K at most as often as a single one exceeds t, so that one threshold holds for all lengths. K is the length
of the recording in windows.
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np

from system.config import DataConfig
from system.manifest import LONGEST, Clip, Key, Row, group_by

TOLERANCE = 0.05  # share of the window by which a recording may be shorter or longer and is still taken as it is
USUAL = 10.0  # seconds of the window where references are longer
FEWEST = 10  # pieces of a domain that its long recordings are divided into
APART = 3  # recordings of a domain; of fewer, stretches are left out in their place
UPPER = 0.75  # quantile above which the scores of references are their tail

Group = tuple[str, str]  # machine, section


class Window(Protocol):
    """What a ``Clip`` and a row of scores say of the window that they are of."""

    @property
    def file(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def window(self) -> int: ...


AnyWindow = TypeVar("AnyWindow", bound=Window)


def lengths(clips: Iterable[Clip], config: DataConfig) -> dict[Group, float]:
    """Seconds of the windows of each machine and section that has training clips."""
    found: dict[Group, list[float]] = {}
    for clip in clips:
        if clip.split == "train":
            found.setdefault((clip.machine, clip.section), []).append(clip.samples / clip.rate)
    if config.window:
        return dict.fromkeys(found, config.window)
    # The lower one of two medians is the length of a recording; their mean may be nobody's.
    medians = {group: statistics.median_low(seconds) for group, seconds in found.items()}
    return {group: median if median <= LONGEST else USUAL for group, median in medians.items()}


def cut(clip: Clip, seconds: float, hop: float) -> list[Clip]:
    """The windows of a recording.

    Args:
        clip: whole recording.
        seconds: length of the windows; a recording of that length but for ``TOLERANCE`` stays as it is.
        hop: from one window to the next, as a share of the window.
    """
    if abs(clip.samples / clip.rate - seconds) <= TOLERANCE * seconds:
        return [clip]
    window = max(1, round(seconds * clip.rate))
    return [replace(clip, start=start, window=window) for start in positions(clip.samples, window, hop)]


def positions(samples: int, window: int, hop: float) -> list[int]:
    """First samples of the windows of a recording: at every hop, the last window aligned with the end."""
    last = max(0, samples - window)
    return [*range(0, last, max(1, round(hop * window))), last]


def expand(clips: Sequence[Clip], config: DataConfig, hop: float | None = None) -> list[Clip]:
    """The windows of all recordings, in their order.

    Args:
        clips: whole recordings. Those of machines and sections without training clips stay as they are.
        config: length and hop of the windows.
        hop: in place of the configured one.
    """
    seconds, hop = lengths(clips, config), config.hop if hop is None else hop
    groups = [(clip, (clip.machine, clip.section)) for clip in clips]
    return [each for clip, group in groups for each in (cut(clip, seconds[group], hop) if group in seconds else [clip])]


def settings(clips: Sequence[Clip], config: DataConfig) -> dict[str, Any]:
    """What a stage that describes clips depends on; nothing where all recordings are taken as they are."""
    if not any(clip.window for clip in expand(clips, config)):
        return {}
    return {"windows": {"window": config.window, "hop": config.hop}}


def by_clip(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    """The rows of an index of embeddings by the key of their clip."""
    known: dict[Key, list[Row]] = {}
    for row in rows:
        known.setdefault(row[:4], []).append(row)
    return known


def stored(clips: Iterable[Clip], known: Mapping[Key, Sequence[Row]]) -> list[Clip]:
    """The windows of clips that ``by_clip`` of an index names; KeyError with the key of a clip that it does not."""
    found = []
    for clip in clips:
        found += [replace(clip, start=row[4], window=row[5]) if len(row) == 6 else clip for row in known[clip.key]]
    return found


def pieces(references: Sequence[Window]) -> np.ndarray:
    """Pieces of references: recordings, or stretches of them.

    The recordings of a domain of fewer than ``FEWEST`` are divided into stretches of two windows or more, about
    ``FEWEST`` in all.

    Args:
        references: N windows of one machine and section.

    Returns:
        Number of each window's piece, from 0 (N,).
    """
    numbers, count = np.empty(len(references), int), 0
    for members in group_by(references, "domain").values():
        own = [references[index] for index in members]
        recordings = list(group_by(own, "file").values())
        wanted = math.ceil(FEWEST / len(recordings)) if len(recordings) < FEWEST else 1
        for places in recordings:
            ordered = np.array(members)[sorted(places, key=lambda place: own[place].start)]
            for part in np.array_split(ordered, max(1, min(wanted, len(ordered) // 2))):
                numbers[part] = count
                count += 1
    return numbers


def left_out(references: Sequence[Window]) -> np.ndarray:
    """Which references are left out together: those of one recording.

    Parts of one recording are more alike than two recordings are. Only a domain of fewer than ``APART`` recordings
    cannot spare one: its pieces are left out in turn.

    Args:
        references: N windows of one machine and section.

    Returns:
        Number of the recording or piece of each, not in order (N,).
    """
    files = {file: number for number, (file,) in enumerate(group_by(references, "file"))}
    numbers = np.array([files[each.file] for each in references], int)
    found = pieces(references) + len(files)
    for members in group_by(references, "domain").values():
        if len(np.unique(numbers[members])) >= APART:
            found[members] = numbers[members]
    return found


def disjoint(windows: Sequence[AnyWindow]) -> list[AnyWindow]:
    """The first of some windows of a recording, by start, and those that no earlier one of the result overlaps."""
    kept = [windows[0]]
    for each in windows[1:]:
        if each.start >= kept[-1].start + kept[-1].window:
            kept.append(each)
    return kept


def span(windows: Sequence[Window]) -> tuple[int, int]:
    """First sample and samples from the first to the end of the last of some windows; zeros for a whole recording."""
    first = min(each.start for each in windows)
    return first, max(each.start + each.window for each in windows) - first


def tail_scale(scores: np.ndarray) -> float:
    """Scale of the exponential tail of the references' scores (N,): their mean excess over the quantile ``UPPER``."""
    level = float(np.quantile(scores, UPPER))
    above = scores[scores > level]
    return float((above - level).mean()) if len(above) else 0.0


def scores(windows: Sequence[Window], single: np.ndarray, tail: float | np.ndarray) -> np.ndarray:
    """Scores of the windows of a recording, of which the highest is the recording's.

    Args:
        windows: N of one recording, by start.
        single: score of each alone (..., N).
        tail: of the references, see ``tail_scale``, (...) or a number.

    Returns:
        Score of each, between two neighbours no higher than the higher of those that it overlaps, less the allowance
        tail * ln K (..., N).
    """
    if len(windows) > 1:
        apart = np.array([later.start >= each.start + each.window for each, later in itertools.pairwise(windows)])
        beside = np.full((2, *single.shape), np.inf)
        beside[0, ..., 1:] = np.where(apart, np.inf, single[..., :-1])
        beside[1, ..., :-1] = np.where(apart, np.inf, single[..., 1:])
        single = np.minimum(single, beside.max(axis=0))
    return single - np.asarray(tail)[..., None] * length(windows)


def length(windows: Sequence[Window]) -> float:
    """Logarithm of the length of a recording in windows; 0 for one window."""
    _, samples = span(windows)
    return math.log(samples / windows[0].window) if windows[0].window else 0.0
