"""Recordings that lie within others: trimmed, repeated, or cut out of a long one.

The course of levels in the middle of the shorter one is searched for in the whole of the longer one, and phases are
compared where it is found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from system.corpora.fingerprints import COURSE_FRAME, HOP, SECONDS, hop
from system.corpora.phases import Segment
from system.manifest import Clip

STEP = 2  # hops from one frame to the next of those that are searched for
OFFSETS = 16384  # that are compared at a time
COURSE = 0.7  # correlation of the courses of levels from which phases are compared
NEAREST = 3  # recordings whose phases are compared with those of one; of a machine that works in cycles all are alike
WITHIN = 0.75  # share of the shorter recording that lies within the longer one; neighbours that overlap less are takes


@dataclass(frozen=True)
class _Found:
    """Where the middle of a recording may lie within another."""

    correlation: float
    holder: int
    frame: int


Candidate = tuple[int, int, Segment, Segment]


def candidates(clips: Sequence[Clip], courses: Sequence[np.ndarray], training: int) -> Iterator[Candidate]:
    """Pairs of recordings of which one may lie within the other.

    Args:
        clips: of one machine and section.
        courses: ``Fingerprint.course`` of each.
        training: the earlier one is among so many first ones.

    Yields:
        Numbers of the earlier and the later one, and the segments of both whose phases tell.
    """
    order = sorted(range(len(clips)), key=lambda number: (clips[number].seconds, number))
    for number, found in _search(courses, order, training).items():
        for each in sorted(found, key=lambda one: -one.correlation)[:NEAREST]:
            if segments := _segments(clips[number], clips[each.holder], each.frame):
                yield (min(number, each.holder), max(number, each.holder), *segments)


def _middle(frames: int) -> tuple[int, int]:
    """First frame of the middle of a recording, and number of its frames that are searched for."""
    count = min(frames, round(SECONDS / HOP)) // STEP
    return (frames - count * STEP) // 2, count


def _search(courses: Sequence[np.ndarray], order: Sequence[int], training: int) -> dict[int, list[_Found]]:
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


def _segments(clip: Clip, holder: Clip, frame: int) -> tuple[Segment, Segment] | tuple[()]:
    """The middle of a recording, and where it may be found in another, at a frame of that; none of a small overlap."""
    first, count = _middle((clip.samples - COURSE_FRAME * hop(clip.rate)) // hop(clip.rate) + 1)
    begin = (frame - first) * HOP
    common = min(holder.seconds, begin + clip.seconds) - max(0.0, begin)
    if common < WITHIN * clip.seconds:
        return ()
    return _segment(clip, first, count), _segment(holder, frame, count)


def _segment(clip: Clip, frame: int, count: int) -> Segment:
    start, length = frame * hop(clip.rate), round(count * STEP * HOP * clip.rate)
    return Segment(clip.path, start, min(length, clip.samples - start), length)
