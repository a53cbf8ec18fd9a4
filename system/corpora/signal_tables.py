"""Tables of samples (vibration, current, force: a column a sensor, a row a moment) to sound files.

Values keep their unit: a sound file of floating-point numbers holds them as they are.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from system import audio
from system.errors import WheeltapperError
from system.sound_headers import check_rate

SUFFIXES = (".csv", ".tsv", ".txt", ".dat")
BEFORE = 200  # lines before the first row of numbers: names, units, what the recorder wrote of itself
SEPARATORS = (";", "\t", ",")  # else white space
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
TIME = re.compile(r"(time|zeit|t|timestamp|seconds|sample|index|n|nr|no)\b.*", re.IGNORECASE)
EVEN = 0.01  # of the usual step, by which the steps of a column of times may differ from it
START = 4096  # bytes in which a text shows itself


def convert(source: Path, out: Path, rate: int, columns: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Writes a sound file, float32 wav, for each table below a folder; a table that cannot be read is left out.

    Args:
        source: folder, whose folders and names the sound files get, or one table.
        out: folder to write to.
        rate: sampling rate of the tables in Hz.
        columns: names, or numbers from 1, of the columns that become channels; empty for all but the one of times.

    Returns:
        The files written, and one line for each table that cannot be read.

    Raises:
        WheeltapperError: no table, a rate that is none of a sensor, or two tables that would get one name.
    """
    check_rate(source, rate)
    if out.exists() and not out.is_dir():
        raise WheeltapperError(f"{out}: expected a folder to write to, found a file")
    tables = list_tables(source)
    root = source if source.is_dir() else source.parent
    names = [table.relative_to(root).with_suffix(".wav") for table in tables]
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice:
        raise WheeltapperError(f"{source}: expected one table for each recording, found several for {twice}")
    made, problems = [], []
    for table, name in zip(tables, names, strict=True):
        try:
            wave = read(table, columns)
        except WheeltapperError as error:
            problems.append(str(error))
            continue
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        audio.write_float(out / name, wave, rate)
        made.append(out / name)
    return made, problems


def is_table(path: Path) -> bool:
    """Whether a name is one of a table of samples."""
    return path.suffix.lower() in SUFFIXES


def list_tables(source: Path) -> list[Path]:
    """Tables below a folder, sorted by path, without hidden files; or the one that is named."""
    if not source.is_dir():
        return [source]
    found = sorted(p for p in source.rglob("*") if is_table(p) and p.is_file() and not p.name.startswith("."))
    if not found:
        raise WheeltapperError(f"{source}: expected tables of samples ({', '.join(SUFFIXES)}), found none")
    return found


def read(table: Path, columns: Sequence[str] = ()) -> np.ndarray:
    """Samples of a table, float32 (channels, samples).

    Separators are semicolons, tabs, commas or spaces; numbers may have a decimal comma where commas do not separate.

    Args:
        table: text, with or without lines before the numbers.
        columns: see ``convert``.

    Raises:
        WheeltapperError: no file, no numbers, a row of another length or with something else, or no such column.
    """
    if not table.is_file():
        raise WheeltapperError(
            f"{table}: expected a table of samples, found {'a folder' if table.is_dir() else 'nothing'}"
        )
    before, separator, names, width = _find_numbers(table)
    values = _parse(table, before, separator, width)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise WheeltapperError(
            f"{table}: expected finite numbers, found NaN or infinity in row {row + 1} of the numbers"
        )
    chosen = _chosen(table, columns, names, width) if columns else _all_but_times(names, values)
    return np.ascontiguousarray(values[:, chosen].T, np.float32)


def _find_numbers(table: Path) -> tuple[int, str, list[str], int]:
    """Lines before the first row of numbers, the separator (empty: white space), names (or empty), and columns."""
    earlier: list[str] = []
    for line in _lines(table):
        separator = _separator(line, earlier[-1] if earlier else "")
        cells = _cells(line, separator)
        if cells and all(NUMBER.fullmatch(cell) for cell in cells):
            names = _cells(earlier[-1], separator) if earlier else []
            return len(earlier), separator, names if len(names) == len(cells) else [], len(cells)
        earlier.append(line)
        if len(earlier) > BEFORE:
            break
    found = repr(earlier[0][:40]) if earlier else "nothing"
    raise WheeltapperError(f"{table}: expected a row of numbers within the first {BEFORE} lines, found {found}")


def _separator(line: str, above: str) -> str:
    """Separator of a row of numbers; a single comma is a decimal one where the line above it has none."""
    found = next((separator for separator in SEPARATORS if separator in line.rstrip(separator + " ")), "")
    if found != ",":
        return found
    if len(line.replace(", ", ",").split()) > 1:
        return ""  # 0,12 0,34: white space separates
    return "" if line.count(",") == 1 and above and "," not in above else ","


def _cells(line: str, separator: str) -> list[str]:
    cells = [cell.strip() for cell in line.split(separator)] if separator else line.split()
    while cells and not cells[-1]:
        cells.pop()  # a separator at the end of each line
    return cells


def _lines(table: Path) -> Iterator[str]:
    """Lines without quotes; what is not UTF-8 can only be in the names, since numbers are ASCII."""
    with open(table, "rb") as file:
        start = file.read(START)
    wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in start and not wide:
        raise WheeltapperError(f"{table}: expected a table of samples as text, found other bytes")
    try:
        with open(table, encoding="utf-16" if wide else "utf-8-sig", errors="strict" if wide else "replace") as file:
            yield from (line.strip("\r\n").replace('"', "") for line in file)
    except UnicodeError as error:
        raise WheeltapperError(f"{table}: expected text, found damaged UTF-16") from error


def _parse(table: Path, before: int, separator: str, width: int) -> np.ndarray:
    """Numbers, float64 (rows, width)."""

    def rows() -> Iterator[str]:
        for number, line in enumerate(_lines(table)):
            if number >= before and line.strip():
                line = line if separator == "," else line.replace(",", ".")
                yield line.rstrip(f" {separator}") if separator else line

    try:
        values = np.loadtxt(rows(), np.float64, delimiter=separator or None, comments=None, ndmin=2)
    except ValueError as error:
        raise _first_problem(table, before, separator, width) or WheeltapperError(f"{table}: {error}") from error
    return values


def _first_problem(table: Path, before: int, separator: str, width: int) -> WheeltapperError | None:
    for number, line in enumerate(_lines(table)):
        if number < before or not line.strip():
            continue
        cells = _cells(line, separator)
        if len(cells) != width:
            return WheeltapperError(f"{table}: line {number + 1}: expected {width} columns, found {len(cells)}")
        odd = [cell for cell in cells if not NUMBER.fullmatch(cell)]
        if odd:
            return WheeltapperError(f"{table}: line {number + 1}: expected a number, found {odd[0][:40]!r}")
    return None


def _chosen(table: Path, columns: Sequence[str], names: Sequence[str], width: int) -> list[int]:
    """Positions of columns given by name, or by number from 1."""
    found = []
    for column in columns:
        if column in names:
            found.append(names.index(column))
        elif column.isdecimal() and 1 <= int(column) <= width:
            found.append(int(column) - 1)
        else:
            known = f"{', '.join(names)}, or " if names else ""
            raise WheeltapperError(f"{table}: expected a column of {known}1 to {width}, found {column!r}")
    return found


def _all_but_times(names: Sequence[str], values: np.ndarray) -> list[int]:
    """Positions of all columns but a first one that counts: even steps upwards, or named so and never falling."""
    everything = list(range(values.shape[1]))
    if len(everything) < 2 or len(values) < 3:
        return everything
    steps = np.diff(values[:, 0])
    usual = float(np.median(steps))
    even = usual > 0 and float(np.abs(steps - usual).max()) <= EVEN * usual
    named = bool(names) and TIME.fullmatch(names[0]) is not None and bool((steps >= 0).all())
    return everything[1:] if even or named else everything
