"""Copies among the recordings of a machine: the same sound, whatever header, format, gain and first sample of the file.

Two takes of a steady machine have the same spectrum, and two of a machine that works in cycles the same course of
levels, so neither says that recordings are copies. Phases do: takes have them in common at a few frequencies at most,
copies at nearly all. So copies are found by the generalised cross-correlation with phase transform (Knapp and Carter
1976), for pairs whose courses of levels agree. Copies that are trimmed, repeated or part of a long one are searched for
in the whole of it (``contained``).
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from system.corpora import contained, phases
from system.corpora.fingerprints import FRAMES, SECONDS, Fingerprint, Fingerprints, middle
from system.corpora.phases import Segment
from system.errors import WheeltapperError
from system.files import open_atomic
from system.groups import connected
from system.manifest import Clip, Key, group_by, machines
from system.parallel import map_in_order

SHIFT = 20  # frames by which copies may be shifted
COURSE = 0.5  # correlation of the courses of levels from which phases are compared
RELATED = 0.12  # correlation of products of phases from which phases are compared; copies reach the coherence squared
ROWS = 1024  # recordings that are compared with all others at a time
COLUMNS = ("machine", "section", "split", "file", "copy_of", "equal")


@dataclass(frozen=True)
class Copy:
    """A recording with the sound of a training recording of the same machine and section.

    Attributes:
        clip: machine, section, split and file of the recording.
        of: file of the training recording.
        equal: whether the files are equal too.
    """

    clip: Key
    of: str
    equal: bool


def find(
    clips: Sequence[Clip],
    workers: int = 4,
    progress: Callable[[int, int], None] | None = None,
    fingerprints: Fingerprints | None = None,
) -> list[Copy]:
    """Training recordings that are copies of an earlier one, and test recordings that are copies of training ones.

    Args:
        clips: clips of the manifest, with digests.
        workers: number of files read at a time.
        progress: called with (done, total); a recording counts once for its fingerprint and once when it is compared.
        fingerprints: of the recordings; those that are missing are read.
    """
    known = fingerprints or Fingerprints()
    ordered = [clip for split in ("train", "test") for clip in clips if clip.split == split]
    told = progress or _ignore
    found: list[Copy] = []
    done, total = 0, 2 * len(ordered)
    for members in group_by(ordered, "machine", "section").values():
        first: dict[str, Clip] = {}
        for number in members:
            clip = ordered[number]
            same = first.setdefault(clip.digest or clip.path, clip)
            if same is not clip and same.split == "train":
                found.append(Copy(clip.key, same.file, True))
        different, prints = list(first.values()), []
        for fingerprint in map_in_order(known.get, [clip.path for clip in different], workers):
            prints.append(fingerprint)
            told(done + len(prints), total)
        done += len(members)
        for earlier, later in _copied(different, prints, workers, partial(_forward, told, done, len(members), total)):
            found.append(Copy(different[later].key, different[earlier].file, False))
        done += len(members)
        told(done, total)
    return found


def _ignore(done: int, total: int) -> None:
    """Of progress that nobody follows."""


def _forward(progress: Callable[[int, int], None], before: int, own: int, total: int, done: int, pairs: int) -> None:
    progress(before + own * done // pairs, total)


def _copied(
    clips: Sequence[Clip], prints: Sequence[Fingerprint], workers: int, progress: Callable[[int, int], None]
) -> list[tuple[int, int]]:
    """Numbers (earlier, later) of recordings of a machine with the same sound, by the later one."""
    training = sum(clip.split == "train" for clip in clips)
    candidates = [
        *_candidates(clips, prints, training),
        *contained.candidates(clips, [each.course for each in prints], training),
    ]
    agree = phases.agreeing([(one, other) for _, _, one, other in candidates], workers, progress)
    pairs = {(earlier, later) for (earlier, later, *_), same in zip(candidates, agree, strict=True) if same}
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]))


def unite(clips: Sequence[Clip], copies: Sequence[Copy]) -> list[Clip]:
    """Puts each training recording into one group with its copies.

    Args:
        clips: clips of the manifest.
        copies: what ``find`` found among them.

    Returns:
        The clips in their order. A group has the name of one of its recordings' groups, or else of its first recording.

    Raises:
        WheeltapperError: all training recordings of a machine and section are copies of one.
    """
    result = list(clips)
    found: dict[tuple, list[Copy]] = {}
    for copy in copies:
        found.setdefault(copy.clip[:3], []).append(copy)
    for group, members in group_by(clips, "machine", "section", "split").items():
        mine = found.get(group, [])
        if group[2] != "train" or not mine:
            continue
        own = [clips[number] for number in members]
        place = {clip.file: number for number, clip in enumerate(own)}
        pairs = [(place[copy.clip[3]], place[copy.of]) for copy in mine]
        files = [clip.file for clip in own]
        if not connected(files, pairs=pairs).any():
            raise WheeltapperError(
                f"{group[0]} section {group[1]}: expected at least 2 different training recordings, found {len(own)} "
                f"copies of one ({own[0].path}); add recordings of the healthy machine, or leave it out"
            )
        numbers = connected([clip.group for clip in own], pairs=pairs)
        for number in np.unique(numbers[np.unique(pairs)]):
            united = [members[item] for item in np.flatnonzero(numbers == number)]
            names = [clips[item].group for item in united if clips[item].group]
            name = names[0] if names else "/".join(clips[united[0]].key)
            for item in united:
                result[item] = replace(clips[item], group=name)
    return result


def notes(clips: Sequence[Clip], copies: Sequence[Copy]) -> list[str]:
    """What there is to say of copies: for each machine a line on its training and one on its test recordings.

    Equal files of other machines and sections, and of normal and anomalous test recordings, are named too.
    """
    found = _strays(clips)
    totals = Counter((clip.machine, clip.split) for clip in clips)
    first = {copy.clip: copy for copy in reversed(copies)}
    by_place: dict[tuple[str, str], list[Copy]] = {}
    for copy in first.values():
        by_place.setdefault((copy.clip[0], copy.clip[2]), []).append(copy)
    for machine in machines(clips):
        for split, meaning in (
            ("train", "each is left out together with the recording that it copies"),
            ("test", "their scores say nothing about new recordings"),
        ):
            if which := by_place.get((machine, split), []):
                total = totals[machine, split]
                equal = sum(copy.equal for copy in which)
                kinds = [f"{equal} equal"] * (equal > 0) + [f"{len(which) - equal} nearly equal"] * (equal < len(which))
                last = which[-1]
                found.append(
                    f"{machine}: {len(which)} of {total} {'training' if split == 'train' else 'test'} recordings are "
                    f"copies of training recordings ({', '.join(kinds)}; {last.clip[3]} of {last.of}): {meaning}"
                )
    return found


def _strays(clips: Sequence[Clip]) -> list[str]:
    """Notes on equal files in two places that exclude one another."""
    found: dict[tuple[str, str, str], list[tuple[Clip, Clip]]] = {}  # by machine, what it is and what that means
    for members in group_by(clips, "digest").values():
        first, *others = (clips[number] for number in members)
        for clip in others if first.digest else ():
            if (clip.machine, clip.section) != (first.machine, first.section):
                place = f"equal to recordings of {first.machine} section {first.section}"
                key = (clip.machine, place, "one of them lies in the wrong place")
            elif clip.split == first.split == "test" and clip.label != first.label:
                key = (clip.machine, "normal and anomalous at once", "results count them as both")
            else:
                continue
            found.setdefault(key, []).append((clip, first))
    counts = Counter(clip.machine for clip in clips)
    return [
        f"{machine}: {len(pairs)} of {counts[machine]} recordings are {what} "
        f"({pairs[0][0].file}, {pairs[0][1].file}): {meaning}"
        for (machine, what, meaning), pairs in found.items()
    ]


def write(path: str | os.PathLike, copies: Sequence[Copy]) -> None:
    """Writes copies as csv atomically, a line for each pair."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*copy.clip, copy.of, "yes" if copy.equal else "nearly"] for copy in copies)


def read(path: str | os.PathLike) -> list[Copy]:
    """Reads the file of ``write``; without one there are no copies.

    Raises:
        WheeltapperError: a line is not one that ``write`` writes.
    """
    if not os.path.exists(path):
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file, strict=True)
        if tuple(header) != COLUMNS:
            raise ValueError("other columns")
        return [Copy((a, b, c, d), of, equal == "yes") for a, b, c, d, of, equal in lines]
    except (ValueError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected copies of recordings (stage 0 writes them), found {error}") from error


def _candidates(clips: Sequence[Clip], prints: Sequence[Fingerprint], training: int) -> Iterator[contained.Candidate]:
    """Pairs of recordings whose middles agree in levels and phases, the earlier one of the first ``training``."""
    if not clips:
        return
    segments = [Segment(clip.path, *middle(clip.samples, clip.rate), round(SECONDS * clip.rate)) for clip in clips]
    rates = np.array([clip.rate for clip in clips])
    products = np.stack([each.products for each in prints]).astype(np.float32).view(np.complex64)[..., 0]
    products /= np.maximum(np.linalg.norm(products, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    for later, earlier in _alike(np.stack([each.middle for each in prints]), training):
        # Products of recordings of two rates are of other frequencies.
        likely = (np.abs(products[earlier] @ products[later].conj()) >= RELATED) | (rates[earlier] != rates[later])
        for number in earlier[likely].tolist():
            yield number, later, segments[number], segments[later]


def _alike(courses: np.ndarray, training: int) -> Iterator[tuple[int, np.ndarray]]:
    """Courses (N, FRAMES, BANDS), each with the numbers of the earlier ones that agree when one is shifted."""
    count = len(courses)
    for start in range(0, count, ROWS):
        stop = min(start + ROWS, count)
        first = min(stop, training)
        best = np.zeros((stop - start, first), np.float32)
        for shift in range(SHIFT + 1):
            late, early = courses[:stop, shift:], courses[:stop, : FRAMES - shift]
            for one, other in ((late, early), (early, late)):
                np.maximum(best, _correlation(one[start:], other[:first]), out=best)
        for later in range(start, stop):
            earlier = np.flatnonzero(best[later - start, : min(later, training)] >= COURSE)
            if len(earlier):
                yield later, earlier


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines between courses (N, frames, BANDS) and (M, frames, BANDS), (N, M); 0 for one that never changes."""
    one, other = one.reshape(len(one), -1), other.reshape(len(other), -1)
    scale = np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
    return np.divide(one @ other.T, scale, out=np.zeros_like(scale), where=scale > 0)
