"""Reader of ``attributes_<NN>.csv`` beside train/ and test/: attributes that the file names may lack."""

import csv
import math
import re
from pathlib import Path

from system.corpora.names import attribute_class, attribute_pairs, composed, strip_no_attribute
from system.errors import WheeltapperError

FILE = re.compile(r"attributes_[0-9]{2}\.csv", re.IGNORECASE)
_COLUMN = re.compile(r"d([0-9]{1,3})([pv])")

Pairs = list[tuple[str, str]]


def read_attributes(path: Path) -> dict[tuple[str, str], Pairs]:
    """Reads an attribute file.

    Args:
        path: csv with the header ``file_name,d1p,d1v[,d2p,d2v...]`` (in any case); file_name is
            ``<machine>/<split>/<wav>``.

    Returns:
        (split folder, file name) to a list of (key, value), all ``names.composed``; the list is empty if a clip has no
        attributes.

    Raises:
        WheeltapperError: names the first line that is wrong.
    """
    found: dict[tuple[str, str], Pairs] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            columns = _columns(path, next(rows, []))
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                where = f"{path}: line {rows.line_num}"
                row = [composed(cell) for cell in row]
                name = row[0].strip().replace("\\", "/").split("/")
                if len(name) < 2 or not name[-1] or not name[-2]:
                    raise WheeltapperError(f"{where}: expected <machine>/<split>/<file>, found {row[0]!r}")
                pairs = _pairs(row, columns)
                key = (name[-2], name[-1])
                if found.setdefault(key, pairs) != pairs:
                    raise WheeltapperError(f"{where}: {'/'.join(key)} occurs twice with different attributes")
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected UTF-8 text with commas, found {error}") from error
    return found


def join_pairs(pairs: Pairs) -> str:
    """Joins pairs to ``key_value_key_value...`` as in a file name."""
    return "_".join(f"{key}_{value}" if value else key for key, value in pairs)


def contradicts(attributes: str, pairs: Pairs) -> bool:
    """Whether a key has another value in the attribute file than in the file name.

    Case is ignored, and 1 equals 1.0.

    Args:
        attributes: attributes in the file name.
        pairs: keys and values in the attribute file.
    """
    if attribute_class(join_pairs(pairs)).replace("_", "") == attribute_class(attributes).replace("_", ""):
        return False
    named: dict[str, set] = {}
    for key, value in attribute_pairs(attributes):
        named.setdefault(key.lower(), set()).add(_value(value))
    return any(key.lower() in named and _value(value) not in named[key.lower()] for key, value in pairs)


def _columns(path: Path, header: list[str]) -> list[tuple[int, int]]:
    names = [name.strip().lower() for name in header]
    where = {name: position for position, name in enumerate(names)}
    numbers = sorted({int(match[1]) for match in map(_COLUMN.fullmatch, names) if match})
    missing = [f"d{n}{kind}" for n in numbers for kind in "pv" if f"d{n}{kind}" not in where]
    if not names or names[0] != "file_name" or not numbers or missing:
        raise WheeltapperError(
            f"{path}: line 1: expected file_name,d1p,d1v[,d2p,d2v...], found {','.join(header) or 'nothing'}"
        )
    return [(where[f"d{n}p"], where[f"d{n}v"]) for n in numbers]


def _pairs(row: list[str], columns: list[tuple[int, int]]) -> Pairs:
    pairs = []
    for key_column, value_column in columns:
        key = row[key_column].strip() if key_column < len(row) else ""
        value = row[value_column].strip() if value_column < len(row) else ""
        if strip_no_attribute(key):
            pairs.append((key, value))
    return pairs


def _value(text: str) -> str | float:
    try:
        number = float(text)
    except ValueError:
        return text.lower()
    return number if math.isfinite(number) else text.lower()
