"""The manifest: one row per clip, the only description of the recordings that later stages see."""

import contextlib
import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from system.errors import WheeltapperError

SPLITS = ("train", "test", "supplemental")
LABELS = ("normal", "anomaly", "")
DOMAINS = ("source", "target", "")


Key = tuple[str, str, str, str]  # machine, section, split, file


@dataclass(frozen=True)
class Clip:
    """One recording.

    A clip is identified by (corpus, machine, section, split, file). ``label`` and ``domain`` are empty where they are
    not known (the anonymous test clips of the evaluation machines); ``attributes`` is ``key_value_key_value...`` or
    empty; ``group`` names clips that must never be separated by a split (pieces of one recording), empty for a clip
    on its own; ``digest`` is the content hash of the file (audio.digest).
    """

    corpus: str
    machine: str
    section: str
    split: str
    file: str
    path: str
    label: str = ""
    domain: str = ""
    attributes: str = ""
    group: str = ""
    channels: int = 0
    rate: int = 0
    samples: int = 0
    digest: str = ""

    @property
    def key(self) -> Key:
        return (self.machine, self.section, self.split, self.file)

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


COLUMNS = tuple(field.name for field in fields(Clip))
INTEGERS = ("channels", "rate", "samples")


def write(path: str | os.PathLike, clips: Iterable[Clip]) -> None:
    """Writes a manifest whole or not at all; audio below the manifest's folder is written as a relative path."""
    from system.files import open_atomic

    path = Path(path)
    root = path.resolve().parent
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for clip in clips:
            row = [getattr(clip, name) for name in COLUMNS]
            audio_path = Path(clip.path).resolve()
            if audio_path.is_relative_to(root):
                row[COLUMNS.index("path")] = audio_path.relative_to(root).as_posix()
            else:
                row[COLUMNS.index("path")] = str(audio_path)
            writer.writerow(row)


def read(path: str | os.PathLike) -> list[Clip]:
    """Reads and checks a manifest; the clips come with absolute paths.

    Raises WheeltapperError naming the line and column of the first thing that is wrong.
    """
    path = Path(path)
    clips: list[Clip] = []
    seen: dict[tuple, int] = {}
    with _opened(path) as reader:
        root = path.resolve().parent
        for row in reader:
            clip = _parse(path, reader.line_num, row, root)
            if clip.key in seen:
                raise WheeltapperError(
                    f"{path}: line {reader.line_num}: {'/'.join(clip.key)} stands already in line {seen[clip.key]}"
                )
            seen[clip.key] = reader.line_num
            clips.append(clip)
    if not clips:
        raise WheeltapperError(f"{path}: expected at least one clip, found none")
    return clips


def check_header(path: str | os.PathLike) -> None:
    """Raises WheeltapperError where a file has not the columns of a manifest, whatever follows them."""
    with _opened(Path(path)):
        pass


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """csv's reader of a manifest, which has read the header."""
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected a manifest (wheeltapper prepare makes one), found nothing")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise WheeltapperError(
                    f"{path}: line 1: expected the columns {','.join(COLUMNS)}, found {','.join(header) or 'nothing'}"
                )
            yield reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected UTF-8 text with commas, found {error}") from error


def _parse(path: Path, line: int, row: list[str], root: Path) -> Clip:
    if len(row) != len(COLUMNS):
        raise WheeltapperError(f"{path}: line {line}: expected {len(COLUMNS)} columns, found {len(row)}")
    values: dict = dict(zip(COLUMNS, row, strict=True))
    for name in INTEGERS:
        if not values[name].isdecimal() or not 1 <= float(values[name]) < 2**63:
            raise WheeltapperError(f"{path}: line {line}: {name}: expected a positive integer, found {values[name]!r}")
        values[name] = int(values[name])
    for name, allowed in (("split", SPLITS), ("label", LABELS), ("domain", DOMAINS)):
        if values[name] not in allowed:
            raise WheeltapperError(
                f"{path}: line {line}: {name}: expected one of {', '.join(a or '(empty)' for a in allowed)}, "
                f"found {values[name]!r}"
            )
    for name in ("machine", "file", "path"):
        if not values[name]:
            raise WheeltapperError(f"{path}: line {line}: {name}: expected text, found nothing")
    values["path"] = str(root / values["path"])
    return Clip(**values)


def fingerprint(clips: Iterable[Clip]) -> str:
    """Hash of what the clips are and hold, wherever they lie: changes when one comes, goes, or sounds different."""
    hasher = hashlib.sha256()
    for clip in clips:
        known = (*clip.key, clip.label, clip.domain, clip.attributes, clip.group, clip.rate, clip.samples, clip.digest)
        hasher.update(repr(known).encode())
    return hasher.hexdigest()


def machines(clips: Iterable[Clip]) -> list[str]:
    """Machine names in order of first appearance."""
    return list(dict.fromkeys(clip.machine for clip in clips))


def is_development(clips: Iterable[Clip]) -> dict[str, bool]:
    """For each machine, whether all its test clips are labelled (development) or none is (evaluation).

    Raises WheeltapperError for a machine that mixes both.
    """
    found: dict[str, set[bool]] = {}
    for clip in clips:
        found.setdefault(clip.machine, set())
        if clip.split == "test":
            found[clip.machine].add(bool(clip.label))
    for machine, kinds in found.items():
        if len(kinds) > 1:
            raise WheeltapperError(f"{machine}: expected test clips all labelled or all anonymous, found both kinds")
    # A machine without test clips has no labels to develop on.
    return {machine: kinds == {True} for machine, kinds in found.items()}


def of_machines(clips: Sequence[Clip], which: str, where: str | os.PathLike = "recordings") -> list[Clip]:
    """The clips of the machines that count: ``all``, ``development`` (all test clips labelled) or ``evaluation``.

    Raises WheeltapperError, which begins with ``where``, where there are none.
    """
    if which == "all":
        return list(clips)
    development = is_development(clips)
    kept = [clip for clip in clips if development[clip.machine] == (which == "development")]
    if not kept:
        found = "labelled" if which == "evaluation" else "anonymous or missing"
        raise WheeltapperError(f"{where}: expected {which} machines, found only such whose test clips are {found}")
    return kept


def check_training(clips: Sequence[Clip], where: str | os.PathLike = "training") -> None:
    """Raises WheeltapperError, which begins with ``where``, unless there are clips and all are normal ones of the
    training split (the challenge's first rule)."""
    if not clips:
        raise WheeltapperError(f"{where}: expected at least one clip, found none")
    for clip in clips:
        if clip.split != "train" or clip.label == "anomaly":
            found = f"{clip.label or 'unlabelled'} {clip.split}"
            raise WheeltapperError(f"{where}: {clip.path}: expected a normal training clip, found {found}")


def group_by(clips: Sequence[Any], *names: str) -> dict[tuple, list[int]]:
    """Indices of the clips for each combination of the named fields, in order of first appearance."""
    groups: dict[tuple, list[int]] = {}
    for index, clip in enumerate(clips):
        groups.setdefault(tuple(getattr(clip, name) for name in names), []).append(index)
    return groups
