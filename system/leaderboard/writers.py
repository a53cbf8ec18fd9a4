"""Tables of the leaderboards as Markdown and as csv."""

import csv
import os
from collections.abc import Iterable, Sequence
from typing import Any

from system.files import open_atomic
from system.leaderboard.table import SCORE, Entry, Line, PublishedSource, Table


def markdown(found: Iterable[Table]) -> str:
    """The tables as Markdown, one below the other."""
    texts = []
    for table in found:
        heads, rows = _texts(table)
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * heads + " ---: |" * (len(rows[0]) - heads))
        texts += [f"## {table.title}", table.lead, "\n".join(lines)]
    return "\n\n".join(texts) + "\n"


def write_figures(path: str | os.PathLike, found: Iterable[Table]) -> None:
    """Writes csv with a line a figure: percent with four decimals, mean and standard deviation over the runs."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("block", "machine", "measure", "system", "origin", "percent", "deviation", "runs", "source"))
        for table in found:
            for line, cells in zip(table.lines, table.cells, strict=True):
                for entry, cell in zip(table.entries, cells, strict=True):
                    if cell.values:
                        row: list[Any] = [
                            table.title,
                            line.group,
                            line.name,
                            entry.name,
                            _origin(entry),
                            f"{cell.mean:.4f}",
                        ]
                        row += ["" if cell.spread is None else f"{cell.spread:.4f}", len(cell.values)]
                        writer.writerow([*row, entry.source.name if entry.source else ""])


def write_entries(path: str | os.PathLike, found: Sequence[Table]) -> None:
    """Writes csv with a line an entry of tables of the same figures: percent with two decimals, empty for none."""
    means = [line for line in found[0].lines if line.mean]
    columns = ["protocol", "rank", "encoder", "parameters", "origin", *map(_column, means)]
    columns += ["figures", "of_figures", "mean_of_figures", *found[0].names]
    columns += ["source", "address", "date", "note", "commit", "command", "file"]
    with open_atomic(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for table in found:
            for number, entry in enumerate(table.entries):
                writer.writerow(_row(table, number, entry))


def _row(table: Table, number: int, entry: Entry) -> dict[str, Any]:
    source = entry.source or PublishedSource("")
    record = entry.records[0] if entry.records else {}
    cells = [(line, row[number]) for line, row in zip(table.lines, table.cells, strict=True)]
    whole = next(cell for line, cell in cells if line.name == SCORE)
    return {
        "protocol": table.protocol,
        "rank": table.ranks[number],
        "encoder": entry.name,
        "parameters": source.parameters,
        "origin": _origin(entry),
        **{_column(line): "" if cell.over else str(cell) for line, cell in cells},
        "figures": len(entry.figures),
        "of_figures": len(table.figures),
        "mean_of_figures": f"{whole.mean:.2f}",
        "source": source.name,
        "address": source.address,
        "date": source.date,
        "note": source.note,
        "commit": record.get("commit", ""),
        "command": record.get("command", ""),
        "file": ", ".join(map(os.path.basename, entry.files)),
    }


def _column(line: Line) -> str:
    return f"mean_{line.name}" if line.mean and line.name != SCORE else line.name


def _origin(entry: Entry) -> str:
    return "measured" if entry.own else "published"


def _texts(table: Table) -> tuple[int, list[list[str]]]:
    """A table as text, and how many of its columns are heads."""
    rows = [[str(cell) or "-" for cell in row] for row in table.cells]
    names = [entry.name for entry in table.entries]
    if table.by_entry:
        heads = [table.head, *(_label(table, line) for line in table.lines)]
        return 1, [heads, *map(list, zip(names, *rows, strict=True))]
    found, before = [["Machine", "Metric", *names]], ""
    for line, row in zip(table.lines, rows, strict=True):
        group = line.group or ("Official score" if line.name == SCORE else "All (hmean)")
        found.append([group if group != before else "", line.label, *row])
        before = group
    return 2, found


def _label(table: Table, line: Line) -> str:
    if line.mean and line.group:
        return f"{table.labels[line.group]}: mean"
    return line.label if table.ranked else line.group
