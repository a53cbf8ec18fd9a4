"""Tables of recordings as people write them, and names that no file system or package can take."""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from real_inputs import sounds
from real_inputs.case import Place, case, expect
from real_inputs.checks import no_traceback, refused, well
from real_inputs.program import Ended, run

TABLES, NAMES = "7 tables", "8 names"
FILES = ("a.wav", "b.wav", "c.wav", "d.wav")
MANIFEST = "corpus machine section split file path label domain attributes group channels rate samples digest"
HEADER = ["file", "machine", "split", "label", "domain"]
ROWS = [
    ["a.wav", "mill", "train", "normal", "source"],
    ["b.wav", "mill", "train", "normal", "target"],
    ["c.wav", "mill", "test", "normal", "source"],
    ["d.wav", "mill", "test", "anomaly", "target"],
]
Cells = Sequence[Sequence[str]]


def _recordings(folder: Path, names: Sequence[str] = FILES) -> Path:
    for name in names:
        sounds.put(folder / name, sounds.machine(name, 0.5))
    return folder


def _text(cells: Cells, delimiter: str = ",", end: str = "\n") -> str:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator=end).writerows(cells)
    return buffer.getvalue()


def _prepare(place: Place, content: str | bytes, *options: object, names: Sequence[str] = FILES) -> Ended:
    _recordings(place.folder, names)
    table = place / "table.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return run("prepare", table, "--out", place / "manifest.csv", *options)


def _manifest(place: Place) -> list[list[str]]:
    """Cells of ``HEADER`` of the manifest that was written, the file by its name, sorted."""
    with open(place / "manifest.csv", newline="", encoding="utf-8") as file:
        return sorted([Path(row["path"]).name, *(row[name] for name in HEADER[1:])] for row in csv.DictReader(file))


def _honoured(place: Place, ended: Ended, rows: Cells = ROWS) -> None:
    well(ended)
    found = _manifest(place)
    expect(found == sorted(map(list, rows)), f"the manifest to say {rows}", found)


@case(TABLES, "machine, split, label and domain are honoured")
def columns_are_honoured(place: Place) -> None:
    _honoured(place, _prepare(place, _text([HEADER, *ROWS])))


@case(TABLES, "the section is honoured")
def section_is_honoured(place: Place) -> None:
    cells = [[*row, f"0{number // 2}"] for number, row in enumerate(ROWS)]
    well(_prepare(place, _text([[*HEADER, "section"], *cells])))
    with open(place / "manifest.csv", newline="", encoding="utf-8") as file:
        found = {Path(row["path"]).name: row["section"] for row in csv.DictReader(file)}
    expect(found == {row[0]: row[-1] for row in cells}, "the sections of the table", found)


@case(TABLES, "columns in another order")
def columns_in_another_order(place: Place) -> None:
    _honoured(place, _prepare(place, _text([row[::-1] for row in [HEADER, *ROWS]])))


@case(TABLES, "an anomaly that the table puts among the training clips")
def anomaly_in_training(place: Place) -> None:
    rows = [*ROWS[:3], ["d.wav", "mill", "train", "anomaly", "target"]]
    refused(_prepare(place, _text([HEADER, *rows])), r"table\.csv", "line 5|d.wav", "anomaly|normal")


@case(TABLES, "anomalies in a table without a split are not learned")
def anomalies_without_a_split(place: Place) -> None:
    ended = _prepare(place, _text([[row[0], row[3]] for row in [HEADER, *ROWS]]))
    no_traceback(ended)
    if ended.status:
        refused(ended, r"table\.csv", "split|anomaly")
    else:
        learned = [row for row in _manifest(place) if row[2] == "train" and row[0] == "d.wav"]
        expect(not learned, "the anomaly not among the training clips", learned)


@case(TABLES, "a label left open is a clip without a label")
def label_left_open(place: Place) -> None:
    rows = [*ROWS[:2], ["c.wav", "mill", "test", "", "source"], ["d.wav", "mill", "test", "", "target"]]
    _honoured(place, _prepare(place, _text([HEADER, *rows])), rows)


@case(TABLES, "an unknown column: {}", ["lable", "spilt", "Maschine", "colour"])
def unknown_column(place: Place, name: str) -> None:
    content = _text([[*HEADER, name], *([*row, "x"] for row in ROWS)])
    refused(_prepare(place, content), r"table\.csv", re.escape(name))


@case(TABLES, "columns that options name are known")
def columns_of_options(place: Place) -> None:
    content = _text([["clip", "category", "fold", "take"], *([row[0], "rain", "1", row[0]] for row in ROWS)])
    options = ("--file-column", "clip", "--class-column", "category", "--fold-column", "fold", "--group-column", "take")
    well(_prepare(place, content, *options))


WRONG = {
    "label maybe": (3, "maybe"),
    "label 7": (3, "7"),
    "split validation": (2, "validation"),
    "split 3": (2, "3"),
    "domain elsewhere": (4, "elsewhere"),
}
MEANT = {
    "label ok": (3, "ok", "normal"),
    "label broken": (3, "broken", "anomaly"),
    "label 0": (3, "0", "normal"),
    "label abnormal": (3, "abnormal", "anomaly"),
    "split training": (2, "training", "train"),
    "domain src": (4, "src", "source"),
}


def _with_word(column: int, word: str) -> list[list[str]]:
    rows = [list(row) for row in ROWS]
    rows[2][column] = word
    return rows


@case(TABLES, "a word without meaning: {}", WRONG)
def wrong_word(place: Place, wrong: tuple[int, str]) -> None:
    column, word = wrong
    ended = _prepare(place, _text([HEADER, *_with_word(column, word)]))
    refused(ended, r"table\.csv", "line 4|c.wav", HEADER[column], re.escape(word))


@case(TABLES, "another word: {}: taken as meant, or refused", MEANT)
def another_word(place: Place, meant: tuple[int, str, str]) -> None:
    column, word, meaning = meant
    ended = _prepare(place, _text([HEADER, *_with_word(column, word)]))
    _read_or_refused(place, ended, HEADER[column], re.escape(word), rows=_with_word(column, meaning))


def _read_or_refused(place: Place, ended: Ended, *parts: str, rows: Cells = ROWS) -> None:
    """Expects the right manifest, or one line that says what is wrong with the table."""
    no_traceback(ended)
    if ended.status == 0:
        _honoured(place, ended, rows)
    else:
        refused(ended, r"table\.csv", *parts)


TEXT = _text([HEADER, *ROWS])
FORMS: dict[str, tuple[bytes, str]] = {
    "semicolons": (_text([HEADER, *ROWS], ";").encode(), "semicolon|separat|delimit"),
    "tabs": (_text([HEADER, *ROWS], "\t").encode(), r"\btabs?\b|separat|delimit"),
    "bars": (_text([HEADER, *ROWS], "|").encode(), r"\bbars?\b|pipe|separat|delimit"),
    "a byte order mark": (b"\xef\xbb\xbf" + TEXT.encode(), "byte order mark|BOM"),
    "a byte order mark and semicolons": (
        b"\xef\xbb\xbf" + _text([HEADER, *ROWS], ";").encode(),
        "semicolon|separat|delimit",
    ),
    "UTF-16": (TEXT.encode("utf-16"), "utf-16|utf-8"),
    "UTF-16 without a mark": (TEXT.encode("utf-16-le"), "utf-16|utf-8"),
    "Windows lines": (_text([HEADER, *ROWS], end="\r\n").encode(), "line"),
    "lines of an old Mac": (_text([HEADER, *ROWS], end="\r").encode(), "line"),
    "blank lines": (TEXT.replace("\n", "\n\n").encode(), "line"),
    "blanks around cells": (TEXT.replace(",", " , ").encode(), "line|column|split|label"),
    "all cells in quotes": ("\n".join(",".join(f'"{c}"' for c in r) for r in [HEADER, *ROWS]).encode(), "quot"),
    "single quotes": ("\n".join(",".join(f"'{c}'" for c in r) for r in [HEADER, *ROWS]).encode(), "'"),
    "capitals in the header": (TEXT.replace("file,machine", "File,Machine").encode(), "File"),
    "capitals in the words": (TEXT.replace("normal", "Normal").encode(), "Normal"),
    "no line end at the end": (TEXT.strip().encode(), "line"),
    "a separator too many": (TEXT.replace("\n", ",\n").encode(), "column|line"),
}


@case(TABLES, "{}: read, or refused by name", FORMS)
def form_of_the_table(place: Place, form: tuple[bytes, str]) -> None:
    content, part = form
    _read_or_refused(place, _prepare(place, content), part)


ODD_FILES = {
    "commas": "a, first.wav",
    "quotes": 'a "first".wav',
    "apostrophes": "a's.wav",
    "blanks": "a  b.wav",
    "umlauts": "Lüfter ä.wav",
    "a hash": "#1.wav",
    "a leading dash": "-a.wav",
}


@case(TABLES, "file names with {}", ODD_FILES)
def odd_file_names(place: Place, name: str) -> None:
    rows = [[name, *ROWS[0][1:]], *ROWS[1:]]
    _honoured(place, _prepare(place, _text([HEADER, *rows]), names=(name, *FILES[1:])), rows)


@case(TABLES, "umlauts in Latin-1: read, or refused by name")
def latin_1(place: Place) -> None:
    rows = [["Lüfter.wav", *ROWS[0][1:]], *ROWS[1:]]
    ended = _prepare(place, _text([HEADER, *rows]).encode("latin-1"), names=("Lüfter.wav", *FILES[1:]))
    _read_or_refused(place, ended, "utf-8|latin", rows=rows)


@case(TABLES, "folders with backslashes: read, or refused by name")
def backslashes(place: Place) -> None:
    _recordings(place / "sub")
    content = _text([HEADER, *([f"sub\\{row[0]}", *row[1:]] for row in ROWS)])
    _read_or_refused(place, _prepare(place, content), r"\\|backslash")


@case(TABLES, "whole paths")
def whole_paths(place: Place) -> None:
    content = _text([HEADER, *([str(place / row[0]), *row[1:]] for row in ROWS)])
    _honoured(place, _prepare(place, content))


@case(TABLES, "recordings in another folder, --root")
def another_root(place: Place) -> None:
    _recordings(place / "elsewhere")
    (place / "t").mkdir()
    table = place / "t/table.csv"
    table.write_text(TEXT)
    _honoured(place, run("prepare", table, "--root", place / "elsewhere", "--out", place / "manifest.csv"))


NUMBERED = {
    "pandas": ["", *HEADER],
    "pandas, read and written again": ["Unnamed: 0", *HEADER],
    "R": HEADER,
}


@case(TABLES, "row numbers of {}", NUMBERED)
def numbered_rows(place: Place, header: list[str]) -> None:
    rows = [[str(number), *row] for number, row in enumerate(ROWS)]
    _honoured(place, _prepare(place, _text([header, *rows])))


ELSEWHERE = {
    "a drive of Windows": "C:\\data\\a.wav",
    "a share of Windows": "\\\\server\\data\\a.wav",
    "an address": "https://x.org/a.wav",
    "a home folder": "~/a.wav",
    "a variable": "$DATA/a.wav",
}


@case(TABLES, "the path of a recording is {}: refused by name", ELSEWHERE)
def path_elsewhere(place: Place, path: str) -> None:
    ended = _prepare(place, _text([HEADER, [path, *ROWS[0][1:]], *ROWS[1:]]))
    refused(ended, r"table\.csv", "line 2", "Windows|address|short form")


OPPOSITE = {"-1 for an anomaly": ("label", "-1"), "1 as a status": ("status", "1"), "1 as normal": ("is_normal", "1")}


@case(TABLES, "a label that may mean the opposite is refused: {}", OPPOSITE)
def label_of_two_meanings(place: Place, label: tuple[str, str]) -> None:
    header, rows = ["file", "split", label[0]], [["c.wav", "test", label[1]], ["d.wav", "test", "0"]]
    refused(_prepare(place, _text([header, *rows])), r"table\.csv", label[0])


@case(TABLES, "a machine that is missing is refused: {}", ["NA", "NaN", "#N/A"])
def missing_machine(place: Place, cell: str) -> None:
    rows = [[ROWS[0][0], cell, *ROWS[0][2:]], *ROWS[1:]]
    refused(_prepare(place, _text([HEADER, *rows])), r"table\.csv", "line 2", "machine")


BAD = {
    "a row twice": ([*ROWS, ROWS[1]], ("line 6", "b.wav")),
    "a file with two labels": ([*ROWS, ["d.wav", "mill", "test", "normal", "target"]], ("line 6", "d.wav")),
    "a row too short": ([*ROWS[:3], ["d.wav", "mill"]], ("line 5",)),
    "a row too long": ([*ROWS[:3], [*ROWS[3], "x", "y"]], ("line 5",)),
    "a missing file": ([*ROWS[:3], ["none.wav", *ROWS[3][1:]]], (r"none\.wav",)),
    "a file without a name": ([*ROWS[:3], ["", *ROWS[3][1:]]], ("line 5",)),
    "a folder as a file": ([*ROWS[:3], [".", *ROWS[3][1:]]], ("folder",)),
}


@case(TABLES, "{} is refused", BAD)
def bad_row(place: Place, bad: tuple[Cells, tuple[str, ...]]) -> None:
    rows, parts = bad
    refused(_prepare(place, _text([HEADER, *rows])), r"table\.csv", *parts)


@case(TABLES, "all missing files are named")
def all_missing_files(place: Place) -> None:
    rows = [*ROWS[:2], ["lost.wav", *ROWS[2][1:]], ["gone.wav", *ROWS[3][1:]]]
    ended = _prepare(place, _text([HEADER, *rows]))
    refused(ended, r"table\.csv")
    expect("lost.wav" in ended.err and "gone.wav" in ended.err, "both missing files named", ended.err)


@case(TABLES, "{} is refused", {"an empty table": "", "a header alone": _text([HEADER]), "no header": _text(ROWS)})
def table_without_content(place: Place, content: str) -> None:
    refused(_prepare(place, content), r"table\.csv")


MACHINES = {
    "a way out": "../../x",
    "the folder above": "..",
    "the folder itself": ".",
    "a whole path": "/tmp/x",
    "a folder in it": "a/b",
    "a backslash": "a\\b",
    "250 letters": "m" * 250,
    "a line break": "a\nb",
    "a tab": "a\tb",
    "an escape": "a\x1b[31mb",
    "a NUL": "a\0b",
    "a blank": " ",
    "nothing": "",
    "a colon": "a:b",
    "a star": "a*",
    "a name of Windows": "CON",
    "a formula": "=1+1",
    "a dot at its end": "mill.",
    "a blank at its end": "mill ",
}


def _own_manifest(place: Place, machine: str, section: str = "00", others: Cells = ()) -> Path:
    """A manifest by hand, of clips of half a second."""
    rows = [MANIFEST.split()]
    for name, own, number in [(machine, section, 0), *((*other, 1) for other in others)]:
        for split, label in (("train", "normal"), ("train", "normal"), ("train", "normal"), ("test", "anomaly")):
            file = f"{number}-{len(rows)}.wav"
            sounds.put(place / "sound" / file, sounds.machine(file, 0.5))
            facts = [label, "source", "", "", "2", "16000", "8000", ""]
            rows.append(["own", name, own, split, file, f"sound/{file}", *facts])
    path = place / "manifest.csv"
    path.write_text(_text(rows), newline="")
    return path


def _stage_0(place: Place, data: Path) -> Ended:
    exp, conf = place / "a/b/c/exp", place.bases.conf()
    before = set(place.folder.parent.glob("*"))
    known = set(place.folder.rglob("*"))
    ended = run("run", "--exp", exp, "--conf", conf, "--data", data, "--stop-stage", 0)
    strays = {path for path in place.folder.rglob("*") if path.is_file() and not path.is_relative_to(exp)} - known
    strays |= set(place.folder.parent.glob("*")) - before
    expect(not strays, "no file outside the experiment", strays)
    return ended


@case(NAMES, "a machine of a manifest: {}", MACHINES)
def machine_of_a_manifest(place: Place, name: str) -> None:
    refused(_stage_0(place, _own_manifest(place, name)), r"manifest\.csv", r"line \d+", "machine|NUL|text|csv")


@case(NAMES, "machines that differ in case alone")
def machines_that_differ_in_case(place: Place) -> None:
    data = _own_manifest(place, "mill", others=[("Mill", "00")])
    refused(_stage_0(place, data), "mill", "Mill")


@case(NAMES, "machines that differ in composition alone")
def machines_that_differ_in_composition(place: Place) -> None:
    names = [unicodedata.normalize(form, "Lüfter") for form in ("NFC", "NFD")]
    refused(_stage_0(place, _own_manifest(place, names[0], others=[(names[1], "00")])), "fter")


@case(
    NAMES,
    "a section of a manifest: {}",
    {"a way out": "../x", "a slash": "0/0", "a line break": "0\n0", "3 digits": "000"},
)
def section_of_a_manifest(place: Place, section: str) -> None:
    refused(_stage_0(place, _own_manifest(place, "mill", section)), r"manifest\.csv", r"line \d+", "section")


@case(NAMES, "a good machine of a manifest: {}", ["mill", "ToyCar", "3DPrinter", "pump-1"])
def good_machine(place: Place, name: str) -> None:
    well(_stage_0(place, _own_manifest(place, name)))


FOLDERS = {"250 letters": "m" * 250, "a line break": "a\nb", "a colon": "a:b", "a backslash": "a\\b", "blanks": "  "}


@case(NAMES, "a machine's folder: {}", FOLDERS)
def machine_folder(place: Place, name: str) -> None:
    sounds.corpus(place / "data", {"mill": (3, 0, 1, 1)}, 0.5, ("source",))
    os.rename(place / "data/mill", place / "data" / name)
    refused(_stage_0(place, place / "data"))


@case(NAMES, "machine folders that differ in case alone")
def machine_folders_that_differ_in_case(place: Place) -> None:
    for name in ("mill", "Mill"):
        sounds.corpus(place / "data", {"mill0": (3, 0, 1, 1)}, 0.5, ("source",))
        os.rename(place / "data/mill0", place / "data" / name)
    refused(_stage_0(place, place / "data"), "Mill")


@case(NAMES, "a machine of a table: {}", {"a way out": "../../x", "250 letters": "m" * 250, "a slash": "a/b"})
def machine_of_a_table(place: Place, name: str) -> None:
    ended = _prepare(place, _text([HEADER, *([row[0], name, *row[2:]] for row in ROWS)]))
    if ended.status == 0:  # then the stage must refuse it
        refused(_stage_0(place, place / "manifest.csv"), r"line \d+", "machine")
    else:
        refused(ended, r"table\.csv", "machine")
