"""Recordings that lie within others: trimmed, repeated, or cut out of a long one.

The course of levels in the middle of the shorter one is searched for in the whole of the longer one, and phases are
compared where it is found.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from system import audio
from system.corpora import phases
from system.manifest import Clip
from system.parallel import map_in_order

SECONDS = 2.0  # in the middle of a recording, that are searched for
HOP = 0.032  # s, from frame to frame
FRAME = 4  # hops of a frame
STEP = 2  # hops from one frame to the next of those that are searched for
BAND = 1000  # Hz
BANDS = 8
BLOCK = 30.0  # seconds that are read at a time
OFFSETS = 16384  # that are compared at a time
COURSE = 0.7  # correlation of the courses of levels from which phases are compared
NEAREST = 3  # recordings whose phases are compared with those of one; of a machine that works in cycles all are alike
WITHIN = 0.75  # share of the shorter recording that lies within the longer one; neighbours that overlap less are takes
FLOOR = 1e-9  # power of a band in a frame below which there is silence


@dataclass(frozen=True)
class _Found:
    """Where the middle of a recording may lie within another."""

    correlation: float
    holder: int
    frame: int


def pairs(
    clips: Sequence[Clip], training: int, workers: int = 4, progress: Callable[[int], None] | None = None
) -> Iterator[tuple[int, int]]:
    """Numbers (earlier, later) of recordings of which one lies within the other.

    Args:
        clips: of one machine and section.
        training: the earlier one is among so many first ones.
        workers: number of files read at a time.
        progress: called with the number of recordings that are read.
    """
    courses = []
    for course in map_in_order(_course, clips, workers):
        courses.append(course)
        if progress:
            progress(len(courses))
    order = sorted(range(len(clips)), key=lambda number: (clips[number].seconds, number))
    for number, found in _search(clips, courses, order, training).items():
        for each in sorted(found, key=lambda one: -one.correlation)[:NEAREST]:
            if _lies_within(clips[number], clips[each.holder], each.frame):
                yield min(number, each.holder), max(number, each.holder)


def _hop(clip: Clip) -> int:
    return max(1, round(HOP * clip.rate))


def _course(clip: Clip) -> np.ndarray:
    """Levels of a recording in dB in each frame and band (frames, BANDS)."""
    hop = _hop(clip)
    block, size = hop * round(BLOCK / HOP), FRAME * hop
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    band = np.minimum(np.arange(size // 2) / size * clip.rate // BAND, BANDS - 1).astype(int)
    levels: list[np.ndarray] = [np.zeros((0, BANDS), np.float32)]
    for start in range(0, clip.samples - size + 1, block):
        wave = phases.loudest(audio.read(clip.path, start, min(block + size - hop, clip.samples - start))[0])
        spectrum = scipy.fft.rfft(np.lib.stride_tricks.sliding_window_view(wave, size)[::hop] * window)
        power = (spectrum.real**2 + spectrum.imag**2)[:, : size // 2] / size
        sums = np.zeros((len(power), BANDS), np.float32)
        for number in range(band.max() + 1):
            sums[:, number] = power[:, band == number].sum(axis=1)
        levels.append(10.0 * np.log10(np.maximum(sums, FLOOR)))
    return np.concatenate(levels)


def _middle(frames: int) -> tuple[int, int]:
    """First frame of the middle of a recording, and number of its frames that are searched for."""
    count = min(frames, round(SECONDS / HOP)) // STEP
    return (frames - count * STEP) // 2, count


def _search(
    clips: Sequence[Clip], courses: Sequence[np.ndarray], order: Sequence[int], training: int
) -> dict[int, list[_Found]]:
    """For each recording those, longer or as long, of which a stretch has the course of its middle."""
    found: dict[int, list[_Found]] = {}
    groups: dict[int, list[int]] = {}  # frames of the middle to recordings, shorter ones first
    queries: dict[int, list[np.ndarray]] = {}
    for holder in order:
        for count, numbers in groups.items():
            table = np.stack(queries[count]) if len(queries[count]) > 1 else queries[count][0][None]
            best, frames = _best(table, courses[holder], count)
            for row in np.flatnonzero(best >= COURSE).tolist():
                if min(numbers[row], holder) < training:
                    found.setdefault(numbers[row], []).append(_Found(float(best[row]), holder, int(frames[row])))
        first, count = _middle(len(courses[holder]))
        query = courses[holder][first : first + count * STEP : STEP]
        query = query - query.mean(axis=0) if count else query
        if (size := float(np.linalg.norm(query))) > 0:
            groups.setdefault(count, []).append(holder)
            queries.setdefault(count, []).append((query / size).ravel())
    return found


def _best(queries: np.ndarray, course: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Highest correlation of queries (Q, count * BANDS) with a stretch of a course, and its first frame, (Q,) each."""
    best, frames = np.full(len(queries), -1.0), np.zeros(len(queries), int)
    span = (count - 1) * STEP + 1
    for start in range(0, len(course) - span + 1, OFFSETS):
        part = course[start : start + OFFSETS + span - 1]
        stretches = np.lib.stride_tricks.sliding_window_view(part, span, axis=0)[..., ::STEP].swapaxes(1, 2)
        stretches = stretches - stretches.mean(axis=1, keepdims=True)
        size = np.sqrt((stretches**2).sum(axis=(1, 2)))
        value = queries @ stretches.reshape(len(size), -1).T
        value = np.divide(value, size, out=np.zeros_like(value), where=size > 0)
        place = value.argmax(axis=1)
        highest = value[np.arange(len(queries)), place]
        better = highest > best
        best[better], frames[better] = highest[better], start + place[better]
    return best, frames


def _lies_within(clip: Clip, holder: Clip, frame: int) -> bool:
    """Whether a recording lies within another, where its middle may be found at a frame of that."""
    first, count = _middle((clip.samples - FRAME * _hop(clip)) // _hop(clip) + 1)
    begin = (frame - first) * HOP
    common = min(holder.seconds, begin + clip.seconds) - max(0.0, begin)
    if common < WITHIN * clip.seconds:
        return False
    spectra = []
    for each, start in ((clip, first * _hop(clip)), (holder, frame * _hop(holder))):
        length = round(count * STEP * HOP * each.rate)
        spectra.append(phases.phases(each.path, start, min(length, each.samples - start), length))
    return phases.agree(*spectra)
