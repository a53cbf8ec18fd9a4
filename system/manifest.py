"""The manifest, a csv with one row per clip; later stages know recordings by it alone."""

import contextlib
import csv
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system import channel_choice, naming
from system.errors import WheeltapperError

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "test", "supplemental")
LABELS = ("normal", "anomaly", "")
DOMAINS = ("source", "target", "")
LONGEST = 20.0  # seconds of a reference; longer recordings are several (``system.windows``)


Key = tuple[str, str, str, str]  # machine, section, split, file
Row = Key | tuple[str, str, str, str, int, int]  # a recording by its key; of a window also first sample and samples


@dataclass(frozen=True, slots=True)  # of which a corpus has a million
class Clip:
    """A recording, identified by machine, section, split and file, or a window of it (``system.windows``)."""

    corpus: str
    machine: str
    section: str
    split: str  # train, test or supplemental
    file: str
    path: str
    label: str = ""  # normal, anomaly, or empty for anonymous test clips
    domain: str = ""  # source, target, or empty if unknown
    attributes: str = ""  # key_value_key_value..., or empty
    group: str = ""  # clips that a split must not separate (parts of one recording); empty for a single clip
    channels: int = 0
    rate: int = 0  # Hz
    samples: int = 0  # per channel
    digest: str = ""  # hash of the content, see audio.digest
    channel_choice: str = ""  # see system.channel_choice; empty: the first two
    start: int = 0  # first sample of the window
    window: int = 0  # samples of the window, which repeats a recording of fewer; 0 for the whole recording

    @property
    def key(self) -> Key:
        return (self.machine, self.section, self.split, self.file)

    @property
    def row(self) -> Row:
        return (*self.key, self.start, self.window) if self.window else self.key

    @property
    def held(self) -> int:
        """Samples that the recording has of the window."""
        return min(self.window, self.samples - self.start) if self.window else self.samples

    @property
    def seconds(self) -> float:
        return (self.window or self.samples) / self.rate

    @property
    def model_channels(self) -> int:
        """Number of channels that models take: 1 (near) or 2 (near and far)."""
        return channel_choice.count(self.channel_choice, self.channels)

    def select(self, wave: "np.ndarray") -> "np.ndarray":
        """The near and, if there is one, the far channel of the clip's waveform; see ``channel_choice.select``."""
        return channel_choice.select(self.channel_choice, wave, self.path)


WINDOW = ("start", "window")  # fields that are no columns of a manifest
OPTIONAL = ("channel_choice",)  # columns that are left out where all are empty
COLUMNS = tuple(field.name for field in fields(Clip) if field.name not in (*WINDOW, *OPTIONAL))
INTEGERS = ("channels", "rate", "samples")
# Columns of the same few words, and the file, which tables of scores and embeddings name too: one copy in memory.
REPEATED = ("corpus", "machine", "section", "split", "file", "label", "domain", "attributes", "channel_choice")
CHECKS: dict[str, Callable[[str], str]] = {
    "machine": lru_cache(maxsize=1024)(naming.machine_problem),
    "section": lru_cache(maxsize=1024)(naming.text_problem),
    "file": naming.file_problem,
    "attributes": lru_cache(maxsize=1024)(naming.text_problem),
    "group": naming.text_problem,
    "corpus": lru_cache(maxsize=1024)(naming.text_problem),
}


def write(path: str | os.PathLike, clips: Iterable[Clip]) -> None:
    """Writes a manifest atomically; paths of recordings below the manifest's folder are relative.

    Raises:
        WheeltapperError: the path of a recording is not UTF-8.
    """
    from system.files import is_text, open_atomic, printable

    path = Path(path)
    folder, root = Path(os.path.abspath(path)).parent, path.resolve().parent
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        clips = list(clips)
        columns = COLUMNS + tuple(name for name in OPTIONAL if any(getattr(clip, name) for clip in clips))
        writer.writerow(columns)
        for clip in clips:
            row = [getattr(clip, name) for name in columns]
            row[COLUMNS.index("path")] = written = _written_path(clip.path, folder, root)
            if not is_text(written):
                raise WheeltapperError(
                    f"{path}: expected paths of recordings in UTF-8, found {printable(clip.path)}; rename the folder"
                )
            writer.writerow(row)


def _written_path(path: str, folder: Path, root: Path) -> str:
    """Relative below the manifest's folder, however the two are reached. Links stay, so that their name is known."""
    absolute = Path(os.path.abspath(path))
    if absolute.is_relative_to(folder):
        return absolute.relative_to(folder).as_posix()
    real = absolute.parent.resolve() / absolute.name
    return real.relative_to(root).as_posix() if real.is_relative_to(root) else str(absolute)


def read(path: str | os.PathLike) -> list[Clip]:
    """Reads and checks a manifest.

    Returns:
        The clips, with absolute paths.

    Raises:
        WheeltapperError: names the first line and column that are wrong.
    """
    return read_lines(path)[0]


def read_lines(path: str | os.PathLike) -> tuple[list[Clip], list[str]]:
    """Reads a manifest as ``read``; returns the clips, and for each ``line`` and the number of its line."""
    path = Path(path)
    clips: list[Clip] = []
    seen: dict[tuple, int] = {}
    with _opened(path) as (columns, reader):
        root = path.resolve().parent
        for row in reader:
            if not row:
                continue
            clip = _parse(path, reader.line_num, columns, row, root)
            if clip.key in seen:
                raise WheeltapperError(
                    f"{path}: line {reader.line_num}: expected each clip once, found {'/'.join(clip.key)} also in line "
                    f"{seen[clip.key]}"
                )
            seen[clip.key] = reader.line_num
            clips.append(clip)
    if not clips:
        raise WheeltapperError(f"{path}: expected at least one clip, found none")
    return clips, [f"line {line}" for line in seen.values()]


def is_header(columns: Sequence[str]) -> bool:
    """Whether columns are those of a manifest."""
    return tuple(columns) in (COLUMNS, COLUMNS + OPTIONAL)


def check_header(path: str | os.PathLike) -> None:
    """Raises WheeltapperError if a file does not have the columns of a manifest; rows are not checked."""
    with _opened(Path(path)):
        pass


def is_manifest(path: str | os.PathLike) -> bool:
    """Whether a file begins with the header of a manifest."""
    try:
        with open(path, "rb") as file:
            return is_header(file.readline(1000).rstrip(b"\r\n").decode(errors="replace").split(","))
    except OSError:
        return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Opens a manifest and checks its header; yields its columns and the csv reader of its rows."""
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected a manifest (wheeltapper prepare writes one), found nothing")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            header = tuple(next(reader, []))
            if not is_header(header):
                raise WheeltapperError(
                    f"{path}: line 1: expected the columns {','.join(COLUMNS)}, found {','.join(header) or 'nothing'}"
                )
            yield header, reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected UTF-8 text with commas, found {error}") from error


def _parse(path: Path, line: int, columns: tuple[str, ...], row: list[str], root: Path) -> Clip:
    if len(row) != len(columns):
        raise WheeltapperError(f"{path}: line {line}: expected {len(columns)} columns, found {len(row)}")
    values: dict = dict(zip(columns, row, strict=True))
    for name in INTEGERS:
        if not (values[name].isascii() and values[name].isdecimal()) or not 1 <= float(values[name]) < 2**63:
            raise WheeltapperError(f"{path}: line {line}: {name}: expected a positive integer, found {values[name]!r}")
        values[name] = int(values[name])
    for name, allowed in (("split", SPLITS), ("label", LABELS), ("domain", DOMAINS)):
        if values[name] not in allowed:
            raise WheeltapperError(
                f"{path}: line {line}: {name}: expected one of {', '.join(a or '(empty)' for a in allowed)}, "
                f"found {values[name]!r}"
            )
    if problem := channel_choice.problem(values.get("channel_choice", "")):
        raise WheeltapperError(f"{path}: line {line}: channel_choice: {problem}")
    for name in ("machine", "file", "path"):
        if not values[name]:
            raise WheeltapperError(f"{path}: line {line}: {name}: expected text, found nothing")
    for name, problem_of in CHECKS.items():
        if problem := problem_of(values[name]):
            raise WheeltapperError(f"{path}: line {line}: {name}: {problem}")
    values["path"] = str(root / values["path"])
    for name in REPEATED:
        values[name] = sys.intern(values.get(name, ""))
    return Clip(**values)


def fingerprint(clips: Iterable[Clip]) -> str:
    """Hash of the clips' identities and contents, independent of their paths."""
    hasher = hashlib.sha256()
    for clip in clips:
        known = (*clip.key, clip.label, clip.domain, clip.attributes, clip.group, clip.rate, clip.samples, clip.digest)
        hasher.update(repr(known + (clip.channel_choice,) * bool(clip.channel_choice)).encode())
    return hasher.hexdigest()


def machines(clips: Iterable[Clip]) -> list[str]:
    """Machine names in order of first appearance."""
    return list(dict.fromkeys(clip.machine for clip in clips))


def is_development(clips: Iterable[Clip]) -> dict[str, bool]:
    """Whether each machine is a development machine, whose test clips are labelled, or an evaluation machine.

    Returns:
        Machine to flag; machines without test clips are not development machines.

    Raises:
        WheeltapperError: a machine with labelled and anonymous test clips.
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
    """Selects the clips of some machines.

    Args:
        clips: clips of the manifest.
        which: ``all``, ``development`` (labelled test clips) or ``evaluation``.
        where: start of the message if there are none.

    Raises:
        WheeltapperError: no such machines.
    """
    if which == "all":
        return list(clips)
    development = is_development(clips)
    kept = [clip for clip in clips if development[clip.machine] == (which == "development")]
    if not kept:
        found = "labelled" if which == "evaluation" else "anonymous or missing"
        raise WheeltapperError(f"{where}: expected {which} machines, found only machines whose test clips are {found}")
    return kept


def check_training(clips: Sequence[Clip], where: str | os.PathLike = "training") -> None:
    """Checks that there are clips and that all are normal training clips, as the challenge requires.

    Args:
        clips: clips to train on.
        where: start of the message.

    Raises:
        WheeltapperError: no clips, or another clip.
    """
    if not clips:
        raise WheeltapperError(f"{where}: expected at least one clip, found none")
    for clip in clips:
        if clip.split != "train" or clip.label == "anomaly":
            found = f"{clip.label or 'unlabelled'} {clip.split}"
            raise WheeltapperError(f"{where}: {clip.path}: expected a normal training clip, found {found}")


def group_by(clips: Sequence[object], *names: str) -> dict[tuple, list[int]]:
    """Groups clips, or other records, by fields.

    Args:
        clips: the clips.
        *names: names of their fields.

    Returns:
        Values of the fields to indices of clips, in order of first appearance.
    """
    groups: dict[tuple, list[int]] = {}
    for index, clip in enumerate(clips):
        groups.setdefault(tuple(getattr(clip, name) for name in names), []).append(index)
    return groups
