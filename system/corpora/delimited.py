"""Tables of text as people and spreadsheets write them: the file tells encoding and separator, a row has its line."""

import codecs
import contextlib
import csv
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from system.audio import EXTENSIONS
from system.errors import WheeltapperError
from system.naming import shown

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xls", ".ods")  # the last three are refused, by their content
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
BOMS = (  # the mark of UTF-32 begins with that of UTF-16
    *((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")),
    *((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")),
)
BINARY = {
    b"PK\x03\x04": "a spreadsheet (xlsx, ods) or zip",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (xls)",
    b"RIFF": "a sound file",
    b"fLaC": "a sound file",
    b"OggS": "a sound file",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a parquet file",
    b"%PDF": "a PDF",
}
LARGEST = 1 << 28  # bytes

Row = dict[str, str]


@dataclass(frozen=True)
class Delimited:
    """A table of text: its header, and its rows with the number of their last line. No cell has spaces around it."""

    path: Path
    separator: str
    header: tuple[str, ...]
    rows: list[tuple[int, Row]]


def read(path: Path, known: Callable[[str], bool], example: str) -> Delimited:
    """Reads a table with a header.

    The separator is the one of ``SEPARATORS`` by which the header has most known columns. Empty lines, empty
    columns at the end, a first column without a name that numbers the rows (pandas and R write one), and a line
    ``sep=;`` before the header are passed over.

    Args:
        path: the file; UTF-8, with or without a byte-order mark, or UTF-16.
        known: whether a column's name is known.
        example: a header, for messages.

    Raises:
        WheeltapperError: no file, not text, another encoding, no header, a column twice, or a row of another length.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise WheeltapperError(f"{path}: expected a CSV that lists sound files, found {found}")
    text = _decode(path)
    separator, first = _header(path, text, known, example)
    try:
        lines = list(itertools.islice(_cells(text, separator), first, None))
    except csv.Error as error:
        raise WheeltapperError(f"{path}: expected text with quotes in pairs, found {error}") from error
    header, lines = _without_index(tuple(lines[0][1]), lines[1:])
    widest = max(len(header), min((len(cells) for _, cells in lines), default=0))  # each line may end in separators
    width, rows = max((number for number, name in enumerate(header, 1) if name), default=0), []
    header = header[:width]
    for name in header:
        if not name:
            raise WheeltapperError(f"{path}: line 1: expected a name for each column, found {shown(','.join(header))}")
        if header.count(name) > 1:
            raise WheeltapperError(f"{path}: line 1: expected each column once, found {shown(name)} twice")
    for line, cells in lines:
        if not width <= len(cells) <= widest or any(cells[width:]):
            advice = _advice(separator, cells, width)
            raise WheeltapperError(f"{path}: line {line}: expected {width} columns, found {len(cells)}{advice}")
        rows.append((line, dict(zip(header, cells[:width], strict=True))))
    return Delimited(path, separator, header, rows)


def _decode(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        raise WheeltapperError(f"{path}: expected a table of at most {LARGEST >> 20} MiB, found {path.stat().st_size}")
    data = path.read_bytes()
    for head, kind in BINARY.items():
        if data.startswith(head):
            raise WheeltapperError(f"{path}: expected a table as text, found {kind}; export it as CSV (UTF-8)")
    encoding = next((name for mark, name in BOMS if data.startswith(mark)), "utf-8")
    head = data[:200]
    if encoding == "utf-8" and head.count(b"\0") > len(head) // 4:
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"  # without the mark
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise WheeltapperError(f"{path}: expected {encoding.upper()} text, found {error.reason}") from error
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise WheeltapperError(
            f"{path}: line {line}: expected UTF-8 or UTF-16 text, found the byte 0x{byte:02x} (Latin-1 or "
            "Windows-1252?); save the table as CSV (UTF-8)"
        ) from error
    if "\0" in text:
        raise WheeltapperError(f"{path}: expected a table as text, found NUL characters: a binary or damaged file")
    return text


def _cells(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not empty, with their numbers."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num, [cell.strip() for cell in cells]


def _without_index(
    header: tuple[str, ...], lines: list[tuple[int, list[str]]]
) -> tuple[tuple[str, ...], list[tuple[int, list[str]]]]:
    """Header and lines without a first column of row numbers, whose name is empty, pandas' own, or left out by R."""
    firsts = [cells[0] for _, cells in lines]
    if not firsts or not all(map(str.isdecimal, firsts)) or len(set(firsts)) < len(firsts):
        return header, lines
    if header[0] in ("", "Unnamed: 0"):
        header = header[1:]
    elif {len(cells) for _, cells in lines} != {len(header) + 1} or not any(cells[-1] for _, cells in lines):
        return header, lines
    return header, [(line, cells[1:]) for line, cells in lines]


def _header(path: Path, text: str, known: Callable[[str], bool], example: str) -> tuple[str, int]:
    """The separator, and the number of lines with text before the header."""
    best, found = (0, 0, 0), (",", 0)
    heads: list[str] = []
    for separator in SEPARATORS:
        lines: list[list[str]] = []
        with contextlib.suppress(csv.Error):  # of the second line, which rarely is the header: read() says it
            lines.extend(cells for _, cells in itertools.islice(_cells(text, separator), 2))
        hint = bool(lines) and "".join(lines[0]).lower() in ("sep=", f"sep={separator}")
        if hint:
            lines = lines[1:]
        if not lines:
            continue
        heads = lines[0]
        rank = (sum(map(known, lines[0])), int(hint), len(lines[0]))
        if rank > best:
            best, found = rank, (separator, int(hint))
    if not heads and not best[2]:
        raise WheeltapperError(f"{path}: expected a header such as {example}, found an empty file or damaged quotes")
    if not best[0]:
        head = next(line for line in text.splitlines() if line.strip())
        what = "a row without a header" if _is_row(head) else shown(head.strip())
        raise WheeltapperError(
            f"{path}: line 1: expected a header such as {example} (separated by {', '.join(SEPARATORS.values())}), "
            f"found {what}"
        )
    return found


def _is_row(line: str) -> bool:
    cells = (cell.strip(" \"'") for separator in SEPARATORS for cell in line.split(separator))
    return any(cell.lower().endswith(EXTENSIONS) for cell in cells)


def _advice(separator: str, cells: Sequence[str], width: int) -> str:
    if len(cells) > width:
        return f"; a {SEPARATORS[separator]} within a name needs quotes around the name"
    return ""
