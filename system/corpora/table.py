"""Readers of sound files without the challenge's layout: those that a table lists, or all files in a folder."""

import difflib
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from system import audio, naming
from system.corpora import columns, delimited, listed_paths
from system.corpora.columns import ATTRIBUTE
from system.corpora.delimited import Delimited, Row
from system.corpora.inspection import check_recordings
from system.corpora.names import attribute_pairs, parse_name, strip_no_attribute, with_text_names
from system.errors import WheeltapperError
from system.manifest import INTEGERS, Clip

CLASS = "class"  # key of the attribute with a recording's class
NO_FOLD = "00"  # section of clips without a fold, as in challenge years with one section
OTHERS = ("refuse", "ignore", "attributes")  # what becomes of columns that a manifest does not know
EXAMPLE = "file,machine,split,label,domain"
CONDITION = re.compile(r"(?P<column>[^=~]+)(?P<operator>[=~])(?P<value>.*)", re.DOTALL)

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Columns:
    """Columns of one table.

    Args:
        fields: field of ``Clip`` (and ``anomaly``, ``class``, ``fold``) to the name of the table's column.
        attributes: key of an attribute to the name of its column.
    """

    fields: Mapping[str, str]
    attributes: Mapping[str, str]


def prepare_table(
    table: str | os.PathLike,
    root: str | os.PathLike | None = None,
    file_column: str = "",
    class_column: str = "",
    fold_column: str = "",
    group_column: str = "",
    where: Sequence[str] = (),
    corpus: str = "",
    normal: bool = False,
    others: str = "refuse",
    threads: int = 4,
    progress: Progress | None = None,
) -> list[Clip]:
    """Reads the recordings of ``list_table``; opens and checks every file.

    Args:
        table, root, file_column, class_column, fold_column, group_column, where, corpus, normal, others: of
            ``list_table``.
        threads: number of files read at a time.
        progress: called with (done, total) after each file.

    Returns:
        Clips in the order of the table.

    Raises:
        WheeltapperError: as ``list_table``, or (the first ten) recordings that are missing, cannot be read, or are not
            as the table says (channels, rate, samples, digest).
    """
    clips, places = list_table(
        table, root, file_column, class_column, fold_column, group_column, where, corpus, normal, others
    )
    return check_recordings(clips, table, progress, places=places, threads=threads)


def list_table(
    table: str | os.PathLike,
    root: str | os.PathLike | None = None,
    file_column: str = "",
    class_column: str = "",
    fold_column: str = "",
    group_column: str = "",
    where: Sequence[str] = (),
    corpus: str = "",
    normal: bool = False,
    others: str = "refuse",
) -> tuple[list[Clip], list[str]]:
    """Reads a table of recordings (``delimited.read``), one a row, without opening them.

    The table may have every column of a manifest, under the names in ``columns.NAMES`` and with the words in
    ``columns.WORDS``, and ``attr_<key>`` for attributes. What it does not say is taken from the names of files that
    follow the challenge's pattern; else a recording is for training, has no label, and its machine is the corpus.

    Args:
        table: a table such as ESC-50's ``meta/esc50.csv``.
        root: folder that the paths are relative to; None for the table's folder.
        file_column: column with the path of each recording; empty for ``path`` or ``file``.
        class_column: column with its class, which becomes the attribute ``class_<value>``; underscores become hyphens,
            because they separate keys and values.
        fold_column: column with the fold of a published cross-validation, which becomes the section.
        group_column: column with the group that must not be split, such as the recording that clips were cut from.
        where: conditions that rows must meet: ``column=value``, or ``column~regex`` (found anywhere).
        corpus: name of corpus and machine; empty for the name of ``root``.
        normal: whether recordings of a table without labels are normal; otherwise they have no label.
        others: of ``OTHERS``, for columns that a manifest does not know.

    Returns:
        Clips in the order of the table, and for each the number of its line as text.

    Raises:
        WheeltapperError: names line and column of what is wrong.
    """
    table = Path(table)
    own = table.resolve() if table.is_symlink() else table  # as manifests: below the file, not below a link to it
    root = own.parent if root is None else Path(root)
    named = {"file": file_column, "class": class_column, "fold": fold_column, "group": group_column}
    named = {field: column for field, column in named.items() if column}
    found = delimited.read(table, lambda name: bool(columns.column_of(name)) or name in named.values(), EXAMPLE)
    for column in named.values():
        _check_column(found, column)
    conditions = [_condition(found, text) for text in where]
    used = _columns(found, named, {column for column, _ in conditions}, others)
    rows = [(line, row) for line, row in found.rows if all(holds(row) for _, holds in conditions)]
    if not rows:
        asked = f" where {' and '.join(where)}" if where else ""
        raise WheeltapperError(f"{table}: expected at least one row{asked}, found none")
    if normal and {"label", "anomaly"} & set(used.fields):
        raise WheeltapperError(f"--normal: expected a table without labels, found them in {table}")
    if class_column:
        _check_classes(table, {row[class_column] for _, row in rows})
    named_files = _files(found, rows, used, root)
    clips: list[Clip] = []
    seen: dict[tuple, int] = {}
    for (line, row), (file, path) in zip(rows, named_files, strict=True):
        clip = _clip(f"{table}: line {line}", row, used, file, path, corpus or root.resolve().name)
        clip = replace(clip, label="normal") if normal and not clip.label and clip.split == "train" else clip
        if seen.setdefault(clip.key, line) != line:
            raise WheeltapperError(
                f"{table}: line {line}: expected each file once, found {file} also in line {seen[clip.key]}"
            )
        clips.append(clip)
    places = [f"line {line}" for line, _ in rows]
    _check_machines([f"{table}: {place}" for place in places], clips)
    if {"label", "anomaly"} & set(used.fields):
        _warn_unlabelled(table, clips)
    return clips, places


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
    _check_machines([clip.path for clip in clips], clips)
    return check_recordings(clips, folder, progress, threads=threads)


def class_of(clip: Clip) -> str:
    """Class of a clip (see ``prepare_table``), or empty."""
    return dict(attribute_pairs(clip.attributes)).get(CLASS, "")


def _columns(table: Delimited, named: Mapping[str, str], asked: set[str], others: str) -> _Columns:
    """What each column is; ``named`` by options, ``asked`` in conditions."""
    if others not in OTHERS:
        raise WheeltapperError(f"others: expected one of {', '.join(OTHERS)}, found {others!r}")
    fields, attributes = dict(named), dict[str, str]()
    for name in table.header:
        if name in named.values():
            continue
        field = columns.column_of(name)
        if field.startswith(ATTRIBUTE) or (not field and others == "attributes"):
            key = field.removeprefix(ATTRIBUTE) or columns.written(name)
            if attributes.setdefault(key, name) != name:
                raise WheeltapperError(
                    f"{table.path}: line 1: expected one column of attribute {key}, found {attributes[key]} and {name}"
                )
        elif field:
            if fields.setdefault(field, name) != name:
                raise WheeltapperError(
                    f"{table.path}: line 1: expected one column of {field}, found {fields[field]} and {name}"
                )
        elif name not in asked and others == "ignore":
            near = columns.nearest(name)
            log.warning("%s: left out the column %s%s", table.path, name, f"; did you mean {near}?" if near else "")
        elif name not in asked:
            near = columns.nearest(name)
            raise WheeltapperError(
                f"{table.path}: line 1: found an unknown column {naming.shown(name)}"
                f"{f': did you mean {near}?' if near else ''}; known are {', '.join(columns.NAMES)} and attr_<key>; "
                "prepare --other-columns ignore leaves others out, prepare --other-columns attributes keeps them"
            )
    for first, second in (("label", "anomaly"), ("fold", "section")):
        if first in fields and second in fields:
            raise WheeltapperError(
                f"{table.path}: line 1: expected one column of {first}, found {fields[first]} and {fields[second]}"
            )
    if not {"file", "path"} & set(fields):
        raise WheeltapperError(
            f"{table.path}: line 1: expected a column file or path, found {', '.join(table.header)}; --file-column "
            "names another"
        )
    return _Columns(fields, attributes)


def _files(table: Delimited, rows: Sequence[tuple[int, Row]], used: _Columns, root: Path) -> list[tuple[str, str]]:
    """Name and path of the recording of each row."""
    column = used.fields["file" if "path" not in used.fields else "path"]
    cells = [(line, _cell(table.path, line, row, column)) for line, row in rows]
    paths: list[Path] = []
    seen: dict[str, int] = {}
    for line, cell in cells:
        path = listed_paths.locate(root, cell)
        listed_paths.check(f"{table.path}: line {line}", cell, path)
        place = os.path.normpath(listed_paths.single_root(str(path)))
        if seen.setdefault(place, line) != line:
            raise WheeltapperError(
                f"{table.path}: line {line}: expected each file once, found {Path(cell).as_posix()} also in line "
                f"{seen[place]}"
            )
        paths.append(path)
    if "path" in used.fields and "file" in used.fields:
        given = [_cell(table.path, line, row, used.fields["file"]).replace("\\", "/") for line, row in rows]
        return list(zip(given, map(str, paths), strict=True))
    inside = [path.relative_to(root) if path.is_relative_to(root) else None for path in paths]
    if any(name is None or ".." in name.parts for name in inside):
        absolute = [os.path.abspath(listed_paths.single_root(str(path))) for path in paths]
        above = os.path.commonpath([os.path.dirname(path) for path in absolute])
        inside = [Path(path).relative_to(above) for path in absolute]
    return [(str(name.as_posix()), str(path)) for name, path in zip(inside, paths, strict=True) if name is not None]


def _clip(where: str, row: Row, used: _Columns, file: str, path: str, corpus: str) -> Clip:
    """The clip of a row."""

    def cell(field: str, default: str = "") -> str:
        text = row[used.fields[field]] if field in used.fields else default
        return "" if columns.is_missing(text) else text

    def word(field: str, default: str = "") -> str:
        if field not in used.fields:
            return default
        name = used.fields[field]
        value = columns.value_of(field, row[name])
        if field == "label" and value and row[name][:1].isdecimal() and not columns.is_label(name):
            advice = "; call the column anomaly if 1 means one"
            raise WheeltapperError(f"{where}: {name}: expected a word, found {naming.shown(row[name])}{advice}")
        if value is None:
            advice = f"; of classes say --class-column {name}" if field == "label" else ""
            raise WheeltapperError(
                f"{where}: {name}: expected {columns.expected_words(field)}; found {naming.shown(row[name])}{advice}"
            )
        return value

    named = _named(file)
    labels = "anomaly" if "anomaly" in used.fields else "label"
    section = cell("section", named["section"] or NO_FOLD)
    if "fold" in used.fields:
        section = _filled(where, row, used.fields["fold"])
    elif match := columns.SECTION.fullmatch(section):
        section = match[1].zfill(2)
    fields: dict[str, Any] = {
        "corpus": cell("corpus") or corpus,
        "machine": unicodedata.normalize("NFC", _machine(where, row, used) or cell("corpus") or corpus),
        "section": section,
        "split": word("split", named["split"] or "train"),
        "file": file,
        "label": word(labels, named["label"]),
        "domain": word("domain", named["domain"]),
        "attributes": _attributes(where, row, used, named["attributes"]),
        "group": cell("group"),
        "digest": cell("digest").lower(),
    }
    for field in INTEGERS:
        number = columns.NUMBER.fullmatch(cell(field) or "0")
        if not number:
            raise WheeltapperError(
                f"{where}: {used.fields[field]}: expected a positive integer, found {naming.shown(cell(field))}"
            )
        fields[field] = int(number[1])
    _check_fields(where, fields, used)
    return Clip(path=path, **fields)


def _machine(where: str, row: Row, used: _Columns) -> str:
    return _filled(where, row, used.fields["machine"]) if "machine" in used.fields else ""


def _check_fields(where: str, fields: Mapping[str, Any], used: _Columns) -> None:
    checks = {"machine": naming.machine_problem, "file": naming.file_problem, "corpus": naming.text_problem}
    checks |= {"attributes": naming.text_problem, "group": naming.text_problem}
    if "fold" not in used.fields:
        checks["section"] = naming.section_problem
    for field, problem in checks.items():
        if text := problem(fields[field]):
            raise WheeltapperError(f"{where}: {used.fields.get(field, field)}: {text}")
    if fields["split"] == "":
        raise WheeltapperError(f"{where}: split: expected train or test, found nothing")
    if fields["split"] == "train" and fields["label"] == "anomaly":
        advice = "" if "split" in used.fields else "; a column split says which recordings are for testing"
        raise WheeltapperError(f"{where}: expected normal recordings in split train, found an anomaly{advice}")


def _named(file: str) -> dict[str, str]:
    """What a name by the challenge's pattern says; empty texts for other names."""
    try:
        found = parse_name(file.rpartition("/")[2])
    except WheeltapperError:
        return dict.fromkeys(("section", "split", "label", "domain", "attributes"), "")
    split = "supplemental" if found.content else found.split or ("" if found.label else "test")
    return {
        "section": found.section,
        "split": split,
        "label": "normal" if found.content == "machine" else found.label,
        "domain": found.domain,
        "attributes": found.attributes,
    }


def _attributes(where: str, row: Row, used: _Columns, default: str) -> str:
    own = {*used.attributes, *used.fields} & {*used.attributes, CLASS, "attributes"}
    given = row[used.fields["attributes"]] if "attributes" in used.fields else ""
    parts = [] if columns.is_missing(given) else [strip_no_attribute(given)]
    if CLASS in used.fields:
        parts.append(f"{CLASS}_{_filled(where, row, used.fields[CLASS]).replace('_', '-')}")
    parts += [
        f"{key}_{columns.written(row[column])}"
        for key, column in used.attributes.items()
        if columns.written(row[column]) and not columns.is_missing(row[column])
    ]
    return unicodedata.normalize("NFC", "_".join(filter(None, parts))) if own else default


def _filled(where: str, row: Row, column: str) -> str:
    if not row[column] or columns.is_missing(row[column]):
        found = f"{naming.shown(row[column])}, a missing value" if row[column] else "nothing"
        raise WheeltapperError(f"{where}: {column}: expected text, found {found}")
    return row[column]


def _check_column(table: Delimited, column: str) -> None:
    if column not in table.header:
        longer = [name for name in table.header if name.startswith(column)]  # prefers filename to src_file for file
        near = longer or difflib.get_close_matches(column, table.header, n=1)
        advice = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(table.header)}"
        raise WheeltapperError(f"{table.path}: line 1: found no column {column}: {advice}")


def _condition(table: Delimited, text: str) -> tuple[str, Callable[[Row], bool]]:
    """The column that a condition names, and whether a row meets it."""
    match = CONDITION.fullmatch(text)
    if not match:
        raise WheeltapperError(f"where: expected column=value or column~regex, found {text!r}")
    column, operator, value = match.group("column", "operator", "value")
    _check_column(table, column)
    if operator == "=":
        return column, lambda row: row[column] == value
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise WheeltapperError(f"where: {text}: expected a regular expression, found {error}") from error
    return column, lambda row: pattern.search(row[column]) is not None


def _cell(table: Path, line: int, row: Row, column: str) -> str:
    return _filled(f"{table}: line {line}", row, column)


def _check_machines(places: Sequence[str], clips: Sequence[Clip]) -> None:
    for problem in naming.machine_problems([clip.machine for clip in clips], places):
        raise WheeltapperError(problem)


def _warn_unlabelled(table: Path, clips: Sequence[Clip]) -> None:
    """Training recordings are normal by the rules of the challenge; where labels are given, a gap may be an error."""
    count = sum(clip.split == "train" and not clip.label for clip in clips)
    if count:
        log.warning("%s: %d training recordings without a label, learned as normal", table, count)


def _check_classes(table: Path, classes: set[str]) -> None:
    """Checks that replacing underscores by hyphens does not merge two classes."""
    written: dict[str, str] = {}
    for name in sorted(classes):
        other = written.setdefault(name.replace("_", "-"), name)
        if other != name:
            raise WheeltapperError(f"{table}: expected classes that differ in more than _ and -, found {other}, {name}")
