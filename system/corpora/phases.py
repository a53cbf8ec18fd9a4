"""Phases of recordings, which copies of a sound have in common, and takes of a machine only at a few frequencies.

Generalised cross-correlation with phase transform (Knapp and Carter 1976).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from system import audio
from system.corpora.fingerprints import phases
from system.parallel import map_in_order

COHERENCE = 0.5  # of phases, from which clips are copies; takes of a machine that repeats itself exactly reach 0.4
PART = 4096  # frequencies that are compared first; between two shifts of so few, 0.64 of the coherence is left
KEPT = 1 << 28  # bytes of spectra that are held at a time


@dataclass(frozen=True)
class Segment:
    """Part of a recording.

    Attributes:
        path: sound file.
        start: first sample.
        samples: that are read.
        length: of the transform, the samples with zeros after them.
    """

    path: str
    start: int
    samples: int
    length: int


def agreeing(
    pairs: Sequence[tuple[Segment, Segment]], workers: int, progress: Callable[[int, int], None] | None = None
) -> list[bool]:
    """For each pair of segments whether they hold the same sound.

    A recording is opened once for all its segments, unless there are more than memory should hold.

    Args:
        pairs: the segments.
        workers: number of files read at a time.
        progress: called with (pairs done, pairs) now and then.
    """
    found: list[bool] = []
    for portion in _portions(pairs):
        segments: dict[str, list[Segment]] = {}
        for segment in dict.fromkeys(each for pair in portion for each in pair):
            segments.setdefault(segment.path, []).append(segment)
        spectra: dict[Segment, np.ndarray] = {}
        for number, several in enumerate(map_in_order(_read, segments.values(), workers), 1):
            spectra.update(several)
            if progress:
                progress(len(found) + len(portion) * number // len(segments), len(pairs))
        found += [agree(spectra[one], spectra[other]) for one, other in portion]
    return found


def _portions(pairs: Sequence[tuple[Segment, Segment]]) -> Iterator[list[tuple[Segment, Segment]]]:
    """Pairs in order, as many at a time as the spectra of their segments may be held."""
    portion: list[tuple[Segment, Segment]] = []
    held: set[Segment] = set()
    size = 0
    for pair in pairs:
        fresh = set(pair) - held
        more = sum(8 * (segment.length // 2 + 1) for segment in fresh)
        if portion and size + more > KEPT:
            yield portion
            portion, held, size, fresh = [], set(), 0, set(pair)
            more = sum(8 * (segment.length // 2 + 1) for segment in fresh)
        portion.append(pair)
        held |= fresh
        size += more
    if portion:
        yield portion


def _read(segments: Sequence[Segment]) -> dict[Segment, np.ndarray]:
    """Phases of segments of one recording."""
    with audio.SoundReader(segments[0].path) as sound:
        return {each: phases(sound.read(each.start, each.samples), each.length) for each in segments}


def agree(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the ``coherence`` of two spectra of phases is that of copies; a part of the band rules out most pairs."""
    start = min(len(one), len(other)) // 8
    part = slice(start, start + PART)
    quick = np.abs(scipy.fft.ifft(one[part] * np.conj(other[part]))).max()
    return bool(quick >= COHERENCE / 2) and coherence(one, other) >= COHERENCE


def coherence(one: np.ndarray, other: np.ndarray) -> float:
    """Agreement of two spectra of phases, the magnitude of the mean of their products at the best shift, in [0, 1].

    Args:
        one: complex (frequencies,), magnitudes 1 or 0.
        other: the same of another recording; of another sampling rate where its length is another.
    """
    count = min(len(one), len(other))
    product = one[:count] * np.conj(other[:count])
    return float(np.abs(scipy.fft.irfft(product)).max()) * (count - 1) / count
