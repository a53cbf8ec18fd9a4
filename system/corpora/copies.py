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
import scipy.fft

from system import audio
from system.corpora import contained, phases
from system.errors import WheeltapperError
from system.files import open_atomic
from system.groups import connected
from system.manifest import Clip, Key, group_by, machines
from system.parallel import map_in_order

SECONDS = 2.0  # in the middle of a recording, that are compared
HOP = 0.032  # s, from frame to frame; a frame is twice as long
FRAMES = 61  # in SECONDS
BAND = 500  # Hz
BANDS = 16
SHIFT = 20  # frames by which copies may be shifted
COURSE = 0.5  # correlation of the courses of levels from which phases are compared
FLOOR = 1e-6  # of the mean power in a band: less is silence
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


def find(clips: Sequence[Clip], workers: int = 4, progress: Callable[[int, int], None] | None = None) -> list[Copy]:
    """Training recordings that are copies of an earlier one, and test recordings that are copies of training ones.

    Args:
        clips: clips of the manifest, with digests.
        workers: number of files read at a time.
        progress: called with (done, total) after each recording.
    """
    ordered = [clip for split in ("train", "test") for clip in clips if clip.split == split]
    found: list[Copy] = []
    done = 0
    for members in group_by(ordered, "machine", "section").values():
        first: dict[str, Clip] = {}
        for number in members:
            clip = ordered[number]
            same = first.setdefault(clip.digest or clip.path, clip)
            if same is not clip and same.split == "train":
                found.append(Copy(clip.key, same.file, True))
        different, excerpts = list(first.values()), []
        for excerpt in map_in_order(_excerpt, different, workers):
            excerpts.append(excerpt)
            if progress:
                progress(done + len(excerpts), 2 * len(ordered))
        training = sum(clip.split == "train" for clip in different)
        pairs = set(_pairs(excerpts, training))
        done += len(members)
        told = None if progress is None else partial(_forward, progress, done, 2 * len(ordered))
        pairs |= set(contained.pairs(different, training, workers, told))
        for earlier, later in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
            found.append(Copy(different[later].key, different[earlier].file, False))
        done += len(members)
    return found


def _forward(progress: Callable[[int, int], None], done: int, total: int, more: int) -> None:
    progress(done + more, total)


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
    for group, members in group_by(clips, "machine", "section", "split").items():
        mine = [copy for copy in copies if copy.clip[:3] == group]
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
    for machine in machines(clips):
        own = {copy.clip: copy for copy in reversed(copies) if copy.clip[0] == machine}
        for split, meaning in (
            ("train", "each is left out together with the recording that it copies"),
            ("test", "their scores say nothing about new recordings"),
        ):
            which = [copy for copy in own.values() if copy.clip[2] == split]
            total = sum((clip.machine, clip.split) == (machine, split) for clip in clips)
            if which:
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


@dataclass(frozen=True)
class _Excerpt:
    """The middle of a recording: what is compared of it."""

    path: str
    start: int
    samples: int
    length: int  # samples with the zeros that fill SECONDS up
    course: np.ndarray  # level in dB of each frame and band without the mean of the band, (FRAMES, BANDS)

    def phases(self) -> np.ndarray:
        """See ``phases.phases``."""
        return phases.phases(self.path, self.start, self.samples, self.length)


def _excerpt(clip: Clip) -> _Excerpt:
    length = round(SECONDS * clip.rate)
    samples = min(length, clip.samples)
    start = (clip.samples - samples) // 2
    course = _course(phases.loudest(audio.read(clip.path, start, samples)[0]), clip.rate)
    return _Excerpt(clip.path, start, samples, length, course)


def _course(wave: np.ndarray, rate: int) -> np.ndarray:
    """Levels of a waveform (samples,), as of ``_Excerpt``."""
    hop = max(1, int(HOP * rate))
    wave = np.pad(wave, (0, max(0, (FRAMES + 1) * hop - len(wave))))[: (FRAMES + 1) * hop]
    frames = np.lib.stride_tricks.sliding_window_view(wave, 2 * hop)[::hop]
    spectrum = scipy.fft.rfft(frames * np.hanning(2 * hop + 1)[:-1].astype(np.float32))
    power = (spectrum.real**2 + spectrum.imag**2)[:, :-1]
    band = np.minimum(np.arange(power.shape[1]) / (2 * hop) * rate // BAND, BANDS).astype(int)
    levels = np.zeros((len(power), BANDS), np.float32)
    for number in range(min(BANDS, band.max() + 1)):
        own = power[:, band == number].sum(axis=1)
        levels[:, number] = 10.0 * np.log10(np.maximum(own, FLOOR * max(own.mean(), np.finfo(np.float32).tiny)))
    return levels - levels.mean(axis=0)


def _pairs(excerpts: Sequence[_Excerpt], training: int) -> Iterator[tuple[int, int]]:
    """Numbers (earlier, later) of excerpts with the same sound; the earlier one is of the first ``training``."""
    alike = _alike(np.stack([excerpt.course for excerpt in excerpts])) if excerpts else np.zeros((0, 0), bool)
    known: dict[int, np.ndarray] = {}
    for later in range(len(excerpts)):
        candidates = np.flatnonzero(alike[: min(later, training), later])
        for number in [later, *candidates.tolist()] if len(candidates) else []:
            if number not in known:
                known[number] = excerpts[number].phases()
        for number in candidates.tolist():
            if phases.agree(known[number], known[later]):
                yield number, later


def _alike(courses: np.ndarray) -> np.ndarray:
    """Whether the courses (N, FRAMES, BANDS) of two excerpts agree when one is shifted, (N, N)."""
    count = len(courses)
    best = np.zeros((count, count), np.float32)
    for shift in range(SHIFT + 1):
        late = courses[:, shift:].reshape(count, -1)
        early = courses[:, : FRAMES - shift].reshape(count, -1)
        scale = np.outer(np.linalg.norm(late, axis=1), np.linalg.norm(early, axis=1))
        value = np.divide(late @ early.T, scale, out=np.zeros_like(scale), where=scale > 0)
        np.maximum(best, np.maximum(value, value.T), out=best)
    return best >= COURSE
