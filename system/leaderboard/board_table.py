"""Published results and our own in one table: read, ranked, written as csv.

Published rows are figures as printed; they rank by the means that were printed with them. Our rows are results of the
benchmarks as JSON. A row without all figures has no score and no rank; figures of another protocol are never ranked
with the published ones.
"""

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from system.benchmarks.protocols import AS_CODED, MODES
from system.errors import WheeltapperError
from system.files import open_atomic, read_json
from system.leaderboard.boards import SCORE, Board

PUBLISHED = Path(__file__).parent / "published"
ROUNDING = 0.01  # how far means of rounded figures may lie from a rounded mean: half a unit each


@dataclass(frozen=True)
class Row:
    """An encoder's figures.

    Args:
        scores: percent by figure. protocol: ``as-coded`` also for published rows.
        means: as printed, by task and ``SCORE``; empty for our own rows.
        parameters: as printed. source, address, date, note: of published rows. record, file: of our own.
    """

    encoder: str
    scores: dict[str, float]
    protocol: str = AS_CODED
    means: dict[str, float] = field(default_factory=dict)
    parameters: str = ""
    source: str = ""
    address: str = ""
    date: str = ""
    note: str = ""
    record: dict[str, str] = field(default_factory=dict)
    file: str = ""

    @property
    def own(self) -> bool:
        return bool(self.file)


@dataclass(frozen=True)
class Entry:
    """A row in its place. ``rank`` from 1, None without a score; ``means`` by task and ``SCORE``, of full sets alone;
    ``partial``: (mean, figures it has) where some are missing, made by the same rule of those that there are."""

    row: Row
    rank: int | None
    means: dict[str, float]
    partial: dict[str, tuple[float, int]]

    @property
    def shown(self) -> float:
        """The score as it is printed, where there is one."""
        return round(self.means[SCORE], 2)


@dataclass(frozen=True)
class Block:
    """Rows that may be compared: one protocol, and the figures of ``board``, best first, those without score last."""

    board: Board
    protocol: str
    entries: list[Entry]


def read_published(board: Board) -> list[Row]:
    """The rows of papers and of official pages."""
    rows = []
    with open(PUBLISHED / f"{board.name.replace('-', '_')}.csv", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            scores = {name: float(line.pop(name)) for name in board.names}
            names = {task.name: f"mean_{task.name}" for task in board.tasks} | {SCORE: SCORE}
            means = {name: float(line.pop(column)) for name, column in names.items() if column in line}
            rows.append(Row(scores=scores, means=means, **line))
    return rows


def read_results(board: Board, paths: Iterable[str | os.PathLike]) -> list[Row]:
    """Our rows, one a file.

    A file is a JSON object with ``benchmark`` (the board's name), ``encoder`` (as it shall be shown), ``protocol``,
    ``scores`` (percent by figure, as many as there are) and ``record`` with ``commit`` and ``command``; what else it
    has is not looked at. A result without any score is passed over.

    Raises WheeltapperError for another shape, an unknown figure, a score that is no percentage, and a second result of
    the same encoder and protocol.
    """
    rows: list[Row] = []
    files: dict[tuple[str, str], str | os.PathLike] = {}
    for path in paths:
        row = _own_row(board, path)
        if not row.scores:
            continue
        other = files.setdefault((row.encoder, row.protocol), path)
        if len(files) == len(rows):
            raise WheeltapperError(
                f"{path}: expected one result of encoder {row.encoder!r} by protocol {row.protocol}, found it also in "
                f"{other}"
            )
        rows.append(row)
    return rows


def rank(board: Board, rows: Sequence[Row]) -> list[Entry]:
    """Rows by falling score, those without one after them by the number of their figures; what rounds alike ties."""
    entries = []
    for row in rows:
        means = board.means(row.scores) | row.means
        entries.append(Entry(row, None, means, _partial(board, row.scores, means)))
    full = sorted((e for e in entries if SCORE in e.means), key=lambda e: (-e.shown, e.row.own, e.row.encoder))
    rest = sorted((e for e in entries if SCORE not in e.means), key=lambda e: (-len(e.row.scores), e.row.encoder))
    return [replace(entry, rank=1 + sum(other.shown > entry.shown for other in full)) for entry in full] + rest


def blocks(board: Board, rows: Sequence[Row]) -> list[Block]:
    """The whole table of each protocol, and after it, for our rows that lack figures, one of just those they have.

    Of the latter only tables with rows that compare.
    """
    found = []
    for protocol in (AS_CODED, *(mode for mode in MODES if mode != AS_CODED)):
        own = [row for row in rows if row.protocol == protocol]
        if not own:
            continue
        found.append(Block(board, protocol, rank(board, own)))
        sets = [tuple(name for name in board.names if name in row.scores) for row in own]
        for names in sorted(set(sets) - {board.names}, key=lambda names: (-len(names), names)):
            part = board.only(names)
            alike = [row for row in own if set(names) <= set(row.scores)]
            if len(alike) > 1:
                found.append(Block(part, protocol, rank(part, [_only(row, names) for row in alike])))
    return found


def disagreements(board: Board, rows: Iterable[Row]) -> list[tuple[Row, str, float, float]]:
    """Printed means that their columns do not give to rounding: row, task or ``SCORE``, printed, computed."""
    found = []
    for row in rows:
        computed = board.means(row.scores)
        for name, printed in row.means.items():
            if abs(printed - computed[name]) > ROUNDING + 1e-9:
                found.append((row, name, printed, computed[name]))
    return found


def write_csv(path: str | os.PathLike, board: Board, found: Sequence[Block]) -> None:
    """Writes the whole tables, one below the other: percent with two decimals, empty where there is none."""
    means = [*(task.name for task in board.tasks if len(board.tasks) > 1), SCORE]
    columns = ["protocol", "rank", "encoder", "parameters", "origin", SCORE, *(f"mean_{name}" for name in means[:-1])]
    columns += ["figures", "of_figures", "mean_of_figures", *board.names]
    columns += ["source", "address", "date", "note", "commit", "command", "file"]
    with open_atomic(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for block in found:
            if block.board.names == board.names:
                writer.writerows(_line(board, means, block.protocol, entry) for entry in block.entries)


def _own_row(board: Board, path: str | os.PathLike) -> Row:
    value = read_json(path)
    if not isinstance(value, dict):
        raise WheeltapperError(f"{path}: expected a JSON object, the result of a benchmark, found {_short(value)}")
    for name, kind in (("benchmark", str), ("encoder", str), ("protocol", str), ("scores", dict), ("record", dict)):
        if not isinstance(value.get(name), kind) or (value[name] in ("", {}) and name != "scores"):
            expected = "text" if kind is str else "an object"
            raise WheeltapperError(f"{path}: {name}: expected {expected}, found {_short(value.get(name))}")
    if value["benchmark"] != board.name:
        raise WheeltapperError(f"{path}: benchmark: expected {board.name}, found {_short(value['benchmark'])}")
    if value["protocol"] not in MODES:
        raise WheeltapperError(f"{path}: protocol: expected {' or '.join(MODES)}, found {_short(value['protocol'])}")
    for name, score in value["scores"].items():
        if name not in board.names:
            raise WheeltapperError(f"{path}: scores: expected some of {', '.join(board.names)}, found {_short(name)}")
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 100:  # neither is NaN
            raise WheeltapperError(f"{path}: scores: {name}: expected a percentage, 0 to 100, found {_short(score)}")
    record = {name: value["record"].get(name) for name in ("commit", "command")}
    for name, text in record.items():
        if not isinstance(text, str):
            raise WheeltapperError(f"{path}: record: {name}: expected text, found {_short(text)}")
    scores = {name: float(score) for name, score in value["scores"].items()}
    return Row(value["encoder"], scores, value["protocol"], record=record, file=os.path.basename(path))


def _short(value: Any) -> str:
    """A value as an error message shows it."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _line(board: Board, means: Sequence[str], protocol: str, entry: Entry) -> dict[str, Any]:
    row = entry.row
    full = {(name if name == SCORE else f"mean_{name}"): _text(entry.means.get(name)) for name in means}
    return {
        "protocol": protocol,
        "rank": entry.rank,
        "encoder": row.encoder,
        "parameters": row.parameters,
        "origin": "measured" if row.own else "published",
        **full,
        "figures": len(row.scores),
        "of_figures": len(board.names),
        "mean_of_figures": _text(entry.partial[SCORE][0] if SCORE in entry.partial else entry.means[SCORE]),
        **{name: _text(row.scores.get(name)) for name in board.names},
        "source": row.source,
        "address": row.address,
        "date": row.date,
        "note": row.note,
        "commit": row.record.get("commit", ""),
        "command": row.record.get("command", ""),
        "file": row.file,
    }


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _only(row: Row, names: Sequence[str]) -> Row:
    """The row with these figures alone; the printed means are of other ones."""
    return replace(row, scores={name: row.scores[name] for name in names}, means={})


def _partial(board: Board, scores: dict[str, float], means: dict[str, float]) -> dict[str, tuple[float, int]]:
    found = {}
    part = board.only(scores)
    for name, value in part.means(scores).items():
        if name not in means:
            tasks = [task for task in part.tasks if name in (task.name, SCORE)]
            found[name] = value, sum(len(task.figures) for task in tasks)
    return found
