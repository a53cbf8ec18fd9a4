"""The page of a benchmark's results: one self-contained HTML file."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from system import __version__
from system.benchmarks.protocols import AS_CODED
from system.files import open_atomic
from system.leaderboard.board_table import Block, Entry, Row, disagreements
from system.leaderboard.boards import SCORE, Board
from system.report.template import template

NAMED = 3  # maximum number of columns named in a heading
FEW = 3  # up to this number of columns have wide bars

Cell = dict[str, Any]


def write_leaderboard(path: str | os.PathLike, board: Board, found: Sequence[Block]) -> None:
    """Writes the page atomically; the same rows give the same page."""
    page = render(board, found)
    with open_atomic(path) as file:
        file.write(page)


def render(board: Board, found: Sequence[Block]) -> str:
    """The page as HTML.

    Args:
        found: whole tables and those of fewer figures, as ``leaderboard.blocks`` gives them.
    """
    rows = [entry.row for block in found if block.board == board for entry in block.entries]
    published = [row for row in rows if not row.own]
    labels = {task.name: f"mean of {task.label.lower()}" for task in board.tasks} | {SCORE: board.label}
    return template("leaderboard.html.j2").render(
        board=board,
        blocks=[_block(board, block, number) for number, block in enumerate(found)],
        disagreements=[
            f"{row.encoder}, {labels[name]}: printed {printed:.2f}, its columns give {computed:.2f}"
            for row, name, printed, computed in disagreements(board, published)
        ],
        sources=_sources(published),
        notes=[f"{row.encoder}: {row.note}" for row in published if row.note],
        own=[row for row in rows if row.own],
        version=__version__,
    )


def _block(whole: Board, block: Block, number: int) -> dict[str, Any]:
    """A table as the template has it; of one figure it has no mean, of one task no mean of the task."""
    board, entries = block.board, block.entries
    score = "" if len(board.names) == 1 else board.label if board == whole else "mean of these"
    means = len(board.tasks) > 1
    columns = [SCORE] if score else []
    for task in board.tasks:
        columns += [task.name] if means else []
        columns += [figure.name for figure in task.figures]
    values = [entry.means | entry.row.scores for entry in entries]
    spans = {
        name: (min(own), max(own)) for name in columns if (own := [round(v[name], 2) for v in values if name in v])
    }
    title, lead = _heading(whole, block)
    rows = [
        {
            "kind": "own" if entry.row.own else "",
            "rank": entry.rank or "",
            "name": entry.row.encoder,
            "parameters": entry.row.parameters,
            "cells": [_cell(board, entry, name, spans) for name in columns],
            "address": entry.row.address,
            "source": entry.row.source or f"measured here, {block.protocol}",
        }
        for entry in entries
    ]
    chance = board.means(board.chance) | board.chance
    guess = [_value(f"{chance[name]:.2f}", name, board) for name in columns]
    nameless = dict.fromkeys(("rank", "parameters", "address", "source"), "")
    return {
        "name": f"table{number}",
        "title": title,
        "lead": lead,
        "protocol": block.protocol,
        "tasks": board.tasks,
        "task_means": int(means),
        "score": score,
        "few": len(columns) <= FEW,
        "rows": [*rows, nameless | {"kind": "guess", "name": "Guessing", "cells": guess}],
    }


def _heading(whole: Board, block: Block) -> tuple[str, str]:
    """Title and what to make of the table."""
    if block.board != whole:
        labels = [figure.label for figure in block.board.figures]
        named = " and ".join(labels) if len(labels) <= NAMED else f"{len(labels)} of {len(whole.names)} figures"
        return (
            f"On {named} alone" + ("" if block.protocol == AS_CODED else f", protocol {block.protocol}"),
            "For results that lack the other figures: every row that has these, ranked by them only. Not the "
            "benchmark's order.",
        )
    bars = (
        "In percent, higher is better. A bar runs from a column's lowest figure to its highest, the best is bold. "
        "Rows that lack figures are last and have no rank."
    )
    if block.protocol == AS_CODED:
        return "Ranking", f"Published results, and ours (marked) computed as the published code does. {bars}"
    return (
        f"Our results by the {block.protocol} protocol",
        f"Without the defects of the published code, so that they compare with one another only. {bars}",
    )


def _cell(board: Board, entry: Entry, name: str, spans: dict[str, tuple[float, float]]) -> Cell:
    values = entry.means | entry.row.scores
    if name in values:
        low, high = spans[name]
        value = round(values[name], 2)
        level = 100.0 * (value - low) / (high - low) if high > low else 100.0
        return _value(f"{value:.2f}", name, board) | {"level": f"{level:.1f}", "best": value == high}
    if name not in entry.partial:
        return _value("", name, board)
    mean, count = entry.partial[name]
    figures = [task.figures for task in board.tasks if name in (task.name, SCORE)]
    return _value(f"{mean:.2f}", name, board) | {"partial": f"{count} of {sum(map(len, figures))}"}


def _value(text: str, name: str, board: Board) -> Cell:
    """A cell without bar."""
    return {"text": text, "level": "0", "best": False, "partial": "", "mean": name not in board.names}


def _sources(rows: Sequence[Row]) -> list[dict[str, Any]]:
    counts = Counter((row.source, row.address, row.date) for row in rows)
    return [dict(name=s, address=a, date=d, count=count) for (s, a, d), count in counts.most_common()]
