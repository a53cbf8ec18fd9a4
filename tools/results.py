"""Fills the tables of the results pages from the csv files that hold the figures.

Usage: results.py [--write]        (without --write: names the pages whose tables differ, exit status 1 if any)

A table stands between two marks, which name its csv files relative to the repository:

    <!-- table: recipes/a/results/x.csv [recipes/b/results/x.csv ...] [; columns: a | b] [; where: column=a | b] -->
    <!-- end -->

All columns are shown except those that say where a row comes from (``PROVENANCE``), unless ``columns`` names others.
A column ``X sd`` is appended to X as "± sd", the columns ``X low`` and ``X high`` as "(low to high)"; without a column
X these two make one. ``where`` keeps the rows with one of these values.
"""

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from system.errors import WheeltapperError
from system.files import open_atomic

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("RESULTS.md", "recipes/*/RESULTS.md", "docs/measurements.md")
PROVENANCE = ("command", "commit", "config", "seeds")
AS_CODE = ("command", "config", "started", "test")
TABLE = re.compile(r"(?P<mark><!-- table: (?P<request>.+?) -->\n)(?P<body>.*?)(?P<end><!-- end -->)", re.DOTALL)

Row = Mapping[str, str]


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that hold tables."""
    return [path for pattern in PAGES for path in sorted(root.glob(pattern))]


def fill(text: str, root: Path = ROOT) -> str:
    """The text of a page with every table made from its csv files.

    Raises:
        WheeltapperError: a mark is misspelt, or one of a pair is missing.
    """
    marks = re.findall(r"<!-- *(table|end)\b[^\n]*-->|<!--[^\n]*-->", text)
    if marks != ["table", "end"] * (len(marks) // 2):
        raise WheeltapperError("marks: expected <!-- table: ... --> and <!-- end --> in turn, and no other comment")
    return TABLE.sub(lambda found: f"{found['mark']}{_table(found['request'], root)}{found['end']}", text)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a csv file; WheeltapperError where it is missing or a row has too few or too many cells."""
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected a csv file of results, found nothing")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        for line, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise WheeltapperError(f"{path}: row {line}: expected {len(reader.fieldnames or ())} cells")
    return rows


def _table(request: str, root: Path) -> str:
    """The Markdown table that a mark asks for."""
    files, *options = (part.strip() for part in request.split(";"))
    wanted = {name: value for name, _, value in (option.partition(": ") for option in options)}
    unknown = wanted.keys() - {"columns", "where"}
    if unknown:
        raise WheeltapperError(f"table: {request}: expected columns or where, found {', '.join(sorted(unknown))}")
    rows = [row for name in files.split() for row in read_rows(root / name)]
    if "where" in wanted:
        column, _, values = wanted["where"].partition("=")
        rows = [row for row in rows if row.get(column) in values.split(" | ")]
    if not rows:
        raise WheeltapperError(f"table: {request}: expected rows, found none")
    known = _shown(rows[0])
    columns = [name.strip() for name in wanted["columns"].split("|")] if "columns" in wanted else known
    for name in columns:
        if name not in [*known, *PROVENANCE]:
            raise WheeltapperError(f"table: {request}: expected a column of {', '.join(known)}, found {name}")
    lines = [columns, ["---"] * len(columns), *([_cell(row, name) for name in columns] for row in rows)]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _shown(row: Row) -> list[str]:
    """Columns of a table by default: no provenance, parts of an interval or deviation under the name of the whole."""
    names = [name for name in row if name not in PROVENANCE]
    parts = [re.sub(r" (sd|low|high)$", "", name) if _is_part(name, row) else name for name in names]
    return list(dict.fromkeys(parts))


def _is_part(name: str, row: Row) -> bool:
    if name.endswith((" low", " high")):
        whole = name.rsplit(" ", 1)[0]
        return f"{whole} low" in row and f"{whole} high" in row
    return name.endswith(" sd") and name.removesuffix(" sd") in row


def _cell(row: Row, name: str) -> str:
    value, low, high = row.get(name, ""), row.get(f"{name} low", ""), row.get(f"{name} high", "")
    if row.get(f"{name} sd"):
        value += f" ± {row[f'{name} sd']}"
    if low and high:
        value = f"{value} ({low} to {high})" if value else f"{low} to {high}"
    if name in AS_CODE and value:
        value = f"`{value}`"
    return value.replace("|", "\\|").replace("\n", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fills the tables of the results pages from their csv files.")
    parser.add_argument("--write", action="store_true", help="write the pages; without, only name those that differ")
    args = parser.parse_args(arguments)
    stale = []
    try:
        for path in pages():
            text = path.read_text(encoding="utf-8")
            try:
                filled = fill(text)
            except WheeltapperError as error:
                raise WheeltapperError(f"{path}: {error}") from error
            if filled != text:
                stale.append(path.relative_to(ROOT))
                if args.write:
                    with open_atomic(path) as file:
                        file.write(filled)
    except WheeltapperError as error:
        parser.exit(1, f"results: {error}\n")
    for name in stale:
        print(f"{name}: {'written' if args.write else 'tables differ from their csv: python tools/results.py --write'}")
    return int(bool(stale) and not args.write)


if __name__ == "__main__":
    sys.exit(main())
