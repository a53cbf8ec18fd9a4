"""Readers of sound files without DCASE names: files listed in a CSV, with class and fold, or all files in a folder."""

import csv
import difflib
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from system import audio
from system.corpora.inspection import InspectedSound, inspect_all
from system.corpora.names import attribute_pairs, with_text_names
from system.errors import WheeltapperError
from system.manifest import Clip

log = logging.getLogger(__name__)

CLASS = "class"  # key of the attribute with a recording's class
NO_FOLD = "00"  # section of clips without a fold, as in challenge years with one section
SHOWN = 10
CONDITION = re.compile(r"(?P<column>[^=~]+)(?P<operator>[=~])(?P<value>.*)", re.DOTALL)

Progress = Callable[[int, int], None]


def prepare_table(
    table: str | os.PathLike,
    root: str | os.PathLike | None = None,
    file_column: str = "file",
    class_column: str = "",
    fold_column: str = "",
    group_column: str = "",
    where: Sequence[str] = (),
    corpus: str = "",
    normal: bool = False,
    threads: int = 4,
    progress: Progress | None = None,
) -> list[Clip]:
    """Reads the recordings listed in a CSV with a header, as clips of the training split; opens and checks every file.

    Args:
        table: the CSV, such as ESC-50's ``meta/esc50.csv``.
        root: folder that the paths are relative to; None for the table's folder.
        file_column: column with the path of each recording.
        class_column: column with its class, which becomes the attribute ``class_<value>``; underscores become hyphens,
            because they separate keys and values.
        fold_column: column with the fold of a published cross-validation, which becomes the section.
        group_column: column with the group that must not be split, such as the recording that clips were cut from.
        where: conditions that rows must meet: ``column=value``, or ``column~regex`` (found anywhere).
        corpus: name of corpus and machine; empty for the name of ``root``.
        normal: whether to label the recordings normal; otherwise they have no label.
        threads: number of files read at a time.
        progress: called with (done, total) after each file.

    Returns:
        Clips in the order of the table.

    Raises:
        WheeltapperError: missing column, invalid condition, no row that meets all conditions, empty cell, a file listed
            twice, or (the first ten) recordings that are missing or cannot be read.
    """
    table = Path(table)
    root = table.parent if root is None else Path(root)
    header, rows = _read(table)
    for column in filter(None, (file_column, class_column, fold_column, group_column)):
        _check_column(table, header, column)
    conditions = [_condition(table, header, text) for text in where]
    rows = [(line, row) for line, row in rows if all(holds(row) for holds in conditions)]
    if not rows:
        asked = f" where {' and '.join(where)}" if where else ""
        raise WheeltapperError(f"{table}: expected at least one row{asked}, found none")
    name = corpus or root.resolve().name
    clips: list[Clip] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        file = Path(_cell(table, line, row, file_column)).as_posix()
        if seen.setdefault(file, line) != line:
            raise WheeltapperError(
                f"{table}: line {line}: expected each file once, found {file} also in line {seen[file]}"
            )
        kind = _cell(table, line, row, class_column) if class_column else ""
        clip = Clip(name, name, NO_FOLD, "train", file, str(root / file), label="normal" if normal else "")
        clips.append(
            replace(
                clip,
                section=_cell(table, line, row, fold_column) if fold_column else NO_FOLD,
                attributes=f"{CLASS}_{kind.replace('_', '-')}" if kind else "",
                group=row[group_column].strip() if group_column else "",
            )
        )
    if class_column:
        _check_classes(table, {row[class_column].strip() for _, row in rows})
    return _inspect(clips, table, threads, progress)


def prepare_files(
    folder: str | os.PathLike,
    corpus: str = "",
    normal: bool = False,
    threads: int = 4,
    progress: Progress | None = None,
) -> list[Clip]:
    """Reads all sound files below a folder, as clips of the training split; opens and checks every file.

    The name of the first subfolder is the machine; files directly in the folder get the folder's name as machine.

    Args:
        folder: folder with sound files at any depth.
        corpus: name of the corpus, empty for the folder's name.
        normal: see ``prepare_table``.
        threads: see ``prepare_table``.
        progress: see ``prepare_table``.

    Returns:
        Clips sorted by path.

    Raises:
        WheeltapperError: no sound file, or (the first ten) files that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise WheeltapperError(f"{folder}: expected a folder of sound files, found {found}")
    own = folder.resolve().name
    clips = []
    for path in with_text_names(audio.list_files(folder), folder):
        inside = path.relative_to(folder)
        machine = inside.parts[0] if len(inside.parts) > 1 else own
        label = "normal" if normal else ""
        clips.append(Clip(corpus or own, machine, NO_FOLD, "train", inside.as_posix(), str(path), label=label))
    if not clips:
        raise audio.nothing_found(folder)
    return _inspect(clips, folder, threads, progress)


def class_of(clip: Clip) -> str:
    """Class of a clip (see ``prepare_table``), or empty."""
    return dict(attribute_pairs(clip.attributes)).get(CLASS, "")


def _read(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header, and rows with their line numbers."""
    if not table.is_file():
        raise WheeltapperError(f"{table}: expected a CSV that lists sound files, found nothing")
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows = []
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise WheeltapperError(
                        f"{table}: line {reader.line_num}: expected {len(header)} columns, found {len(cells)}"
                    )
                rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheeltapperError(f"{table}: expected UTF-8 text with commas, found {error}") from error
    return header, rows


def _check_column(table: Path, header: list[str], column: str) -> None:
    if column not in header:
        longer = [name for name in header if name.startswith(column)]  # prefers filename to src_file for file
        near = longer or difflib.get_close_matches(column, header, n=1)
        advice = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(header) or 'none: it is empty'}"
        raise WheeltapperError(f"{table}: line 1: found no column {column}: {advice}")


def _condition(table: Path, header: list[str], text: str) -> Callable[[dict[str, str]], bool]:
    match = CONDITION.fullmatch(text)
    if not match:
        raise WheeltapperError(f"where: expected column=value or column~regex, found {text!r}")
    column, operator, value = match.group("column", "operator", "value")
    _check_column(table, header, column)
    if operator == "=":
        return lambda row: row[column].strip() == value
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise WheeltapperError(f"where: {text}: expected a regular expression, found {error}") from error
    return lambda row: pattern.search(row[column].strip()) is not None


def _cell(table: Path, line: int, row: dict[str, str], column: str) -> str:
    value = row[column].strip()
    if not value:
        raise WheeltapperError(f"{table}: line {line}: {column}: expected text, found nothing")
    return value


def _check_classes(table: Path, classes: set[str]) -> None:
    """Checks that replacing underscores by hyphens does not merge two classes."""
    written: dict[str, str] = {}
    for name in sorted(classes):
        other = written.setdefault(name.replace("_", "-"), name)
        if other != name:
            raise WheeltapperError(f"{table}: expected classes that differ in more than _ and -, found {other}, {name}")


def _inspect(clips: list[Clip], source: Path, threads: int, progress: Progress | None) -> list[Clip]:
    """Adds the properties of the files to the clips; raises WheeltapperError for the first ten unreadable ones."""
    sounds = inspect_all([clip.path for clip in clips], threads, progress)
    problems = [sound for sound in sounds if isinstance(sound, str)]
    if len(problems) == 1:
        raise WheeltapperError(f"{source}: {problems[0]}")
    if problems:
        more = f" (the first {SHOWN} are shown)" if len(problems) > SHOWN else ""
        head = f"{source}: {len(problems)} of {len(clips)} recordings cannot be used{more}"
        raise WheeltapperError("\n  ".join([head, *problems[:SHOWN]]))
    checked = []
    for clip, sound in zip(clips, sounds, strict=True):
        assert isinstance(sound, InspectedSound)
        if sound.silent:
            log.warning("%s: silent (all samples are zero), kept", clip.path)
        checked.append(
            replace(clip, channels=sound.channels, rate=sound.rate, samples=sound.samples, digest=sound.digest)
        )
    return checked
