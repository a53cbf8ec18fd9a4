"""The recordings of a study: read from a manifest or a table, selected for each scope, split into three parts."""

import csv
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from system import manifest
from system.config import ScopeConfig
from system.corpora.inspection import InspectedSound, inspect_all
from system.errors import WheeltapperError
from system.evaluation.truth import LABELS
from system.files import open_atomic
from system.manifest import Clip

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitRow:
    """The part (one of PARTS) that a recording belongs to; ``name`` also identifies its embedding."""

    name: str
    machine: str
    section: str
    file: str
    group: str
    label: str
    part: str


COLUMNS = tuple(field.name for field in fields(SplitRow))


def name_of(clip: Clip) -> str:
    """Name of a clip in a study: machine/section/split/file of its manifest."""
    return "/".join(clip.key)


def read_recordings(path: str | os.PathLike, threads: int = 4) -> list[Clip]:
    """Reads the labelled recordings of a manifest.csv (``wheeltapper prepare``) or of a table as for ``wheeltapper
    emulate``.

    The split in the manifest is ignored, except that supplemental recordings are left out, like recordings without a
    label.

    Args:
        path: manifest or table.
        threads: threads that inspect the recordings of a table.

    Raises:
        WheeltapperError: the file is missing, damaged or has no labels, or a recording in a table is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected a manifest or a table of recordings, found nothing")
    with open(path, "rb") as file:
        first = file.readline().decode("utf-8", "replace").strip()
    found = manifest.read(path) if manifest.is_header(first.split(",")) else _from_table(path, threads)
    clips = [clip for clip in found if clip.label in LABELS and clip.split != "supplemental"]
    if not clips:
        raise WheeltapperError(f"{path}: expected recordings labelled {' or '.join(LABELS)}, found none")
    return clips


def _from_table(path: Path, threads: int) -> list[Clip]:
    from system.corpora import splits  # its imports are not needed for a manifest

    rows = splits.read_table(path)
    found = inspect_all([str(row.path) for row in rows], threads)
    sounds = [sound for sound in found if isinstance(sound, InspectedSound)]
    problems = [sound for sound in found if not isinstance(sound, InspectedSound)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise WheeltapperError(f"{problems[0]}{more}")
    return [
        Clip(
            corpus=path.stem,
            machine=row.machine,
            section="00",
            split="train",
            file=row.file,
            path=str(row.path),
            label=row.label,
            domain=row.domain,
            attributes=row.attributes,
            group=row.group,
            channels=sound.channels,
            rate=sound.rate,
            samples=sound.samples,
            digest=sound.digest,
        )
        for row, sound in zip(rows, sounds, strict=True)
    ]


def choose(clips: Sequence[Clip], scopes: Mapping[str, ScopeConfig]) -> dict[str, list[Clip]]:
    """Selects the clips of each scope.

    Raises:
        WheeltapperError: a machine or section does not exist, or a scope has only one label.
    """
    if not scopes:
        raise WheeltapperError("study.scopes: expected at least one, found none")
    machines = manifest.machines(clips)
    chosen = {}
    for name, scope in scopes.items():
        missing = [machine for machine in scope.machines if machine not in machines]
        if missing:
            raise WheeltapperError(
                f"study.scopes.{name}.machines: expected some of {', '.join(machines)}, found {', '.join(missing)}"
            )
        own = [clip for clip in clips if clip.machine in scope.machines]
        sections = sorted({clip.section for clip in own})
        missing = [section for section in scope.sections if section not in sections]
        if missing:
            raise WheeltapperError(
                f"study.scopes.{name}.sections: expected some of {', '.join(sections)}, found {', '.join(missing)}"
            )
        chosen[name] = [clip for clip in own if not scope.sections or clip.section in scope.sections]
        labels = {clip.label for clip in chosen[name]}
        if labels != set(LABELS):
            raise WheeltapperError(
                f"scope {name}: expected normal and anomalous recordings, found only {labels.pop()} ones"
            )
    return chosen


def split(clips: Iterable[Clip], seed: int, test: float, validation: float, grouped: bool = False) -> dict[str, str]:
    """The part of each clip, by its name (``name_of``).

    Of each machine, section and label, the share ``test`` is for test, the share ``validation`` of the rest for
    validation, and the others for training; numbers are rounded. The part of a clip depends on the seed and on the
    clips of its machine, section and label, not on their order or on other machines, so it is the same in every scope.

    Args:
        clips: labelled clips.
        seed: of the random order.
        test: share for test.
        validation: share of the rest for validation.
        grouped: keep all clips of a ``group`` in one part, also across machines. The group counts as one of the
            machine, section and label of its first anomalous clip, or of its first clip. The sizes of the parts are
            then as close to the shares as the randomly ordered groups allow.
    """
    units: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=name_of):
        name = f"group {clip.group}" if grouped and clip.group else f"clip {name_of(clip)}"
        units.setdefault(name, []).append(clip)
    strata: dict[tuple[str, ...], list[list[Clip]]] = {}
    for unit in units.values():
        leader = next((clip for clip in unit if clip.label == "anomaly"), unit[0])
        strata.setdefault((leader.machine, leader.section, leader.label), []).append(unit)
    parts: dict[str, str] = {}
    for key, members in strata.items():
        generator = np.random.default_rng([seed, *(zlib.crc32(text.encode()) for text in key)])
        shuffled = [members[i] for i in generator.permutation(len(members))]
        total = sum(map(len, shuffled))
        wanted = {TEST: _nearest(test * total)}
        wanted[VALIDATION] = _nearest(validation * (total - wanted[TEST]))
        for unit, part in zip(shuffled, _deal([len(unit) for unit in shuffled], wanted), strict=True):
            parts |= {name_of(clip): part for clip in unit}
    return parts


def _deal(sizes: Sequence[int], wanted: Mapping[str, int]) -> list[str]:
    """Part of each unit in turn: the first of ``wanted`` that it does not exceed by more than half of its size."""
    left = dict(wanted)
    dealt = []
    for size in sizes:
        part = next((part for part, room in left.items() if room >= (size + 1) // 2), TRAIN)
        if part in left:
            left[part] -= size
        dealt.append(part)
    return dealt


def _nearest(number: float) -> int:
    return int(np.floor(number + 0.5))


def split_rows(clips: Sequence[Clip], parts: Mapping[str, str]) -> list[SplitRow]:
    """Rows of a scope, sorted by name."""
    return [
        SplitRow(name_of(c), c.machine, c.section, c.file, c.group, c.label, parts[name_of(c)])
        for c in sorted(clips, key=name_of)
    ]


def check_split(rows: Sequence[SplitRow], scope: str) -> None:
    """Raises WheeltapperError if a label is missing in training or test, or fewer than three normal clips are for
    training.
    """
    for part, label, fewest in ((TRAIN, "normal", 3), (TRAIN, "anomaly", 1), (TEST, "normal", 1), (TEST, "anomaly", 1)):
        found = sum(row.part == part and row.label == label for row in rows)
        if found < fewest:
            total = sum(row.label == label for row in rows)
            raise WheeltapperError(
                f"scope {scope}: expected at least {fewest} {label} recordings for {part}, found {found} of {total}"
            )


def references(rows: Sequence[SplitRow]) -> np.ndarray:
    """Training data of unsupervised models: the normal recordings of the training part, bool (N,).

    Anomalous recordings of training and validation are not used at all, those of the test part only in the test.
    """
    chosen = np.array([row.part == TRAIN and row.label == "normal" for row in rows])
    check_normal(row for row, kept in zip(rows, chosen, strict=True) if kept)
    return chosen


def evaluated(rows: Sequence[SplitRow]) -> np.ndarray:
    """Recordings that are scored: those of the validation and test parts, bool (N,)."""
    return np.array([row.part != TRAIN for row in rows])


def check_normal(rows: Iterable[SplitRow]) -> None:
    """Raises WheeltapperError unless all rows are normal recordings of the training part; guards all unsupervised
    training.
    """
    for row in rows:
        if row.part != TRAIN or row.label != "normal":
            raise WheeltapperError(f"{row.name}: expected a normal clip to train on, found {row.label}, {row.part}")


def write_split(path: str | os.PathLike, rows: Iterable[SplitRow]) -> None:
    """Writes split.csv atomically."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(row) for row in rows)


def read_split(path: str | os.PathLike) -> list[SplitRow]:
    """Reads a file of ``write_split``; WheeltapperError if it is missing or damaged."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = list(csv.reader(file)) or [[]]
        rows = [SplitRow(*line) for line in lines]
    except (OSError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected a split ({','.join(COLUMNS)}), found {error}") from error
    if tuple(header) != COLUMNS or not rows or not all(row.part in PARTS and row.label in LABELS for row in rows):
        raise WheeltapperError(f"{path}: expected a split ({','.join(COLUMNS)}), found a damaged file")
    return rows
