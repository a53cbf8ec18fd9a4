"""Published tables of anomaly detection with our columns: as a page, and as a section of a run's report."""

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from markupsafe import Markup

from system import __version__
from system.files import open_atomic
from system.leaderboard import comparison, our_results, tables
from system.leaderboard.comparison import Block, Column, Runs, Standing
from system.leaderboard.tables import DEVELOPMENT, EVALUATION, SCORE
from system.report import charts
from system.report.load_run import Run
from system.report.template import template

GUESS = 50.0  # percent: what guessing reaches, where bars begin


def write_tables(
    path: str | os.PathLike, board: str, found: Sequence[Block], ranked: Sequence[Standing], own: Sequence[Column]
) -> None:
    """Writes the page whole or not at all; the same figures give the same page."""
    page = render(board, found, ranked, own)
    with open_atomic(path) as file:
        file.write(page)


def render(board: str, found: Sequence[Block], ranked: Sequence[Standing], own: Sequence[Column]) -> str:
    """The page as HTML.

    Args:
        board: one of ``tables.boards()``. found, ranked: as ``beside.blocks`` and ``beside.standings`` give them.
        own: our columns, for the list of where they are from.
    """
    known = [table for table in tables.tables() if table.board == board]
    return template("tables.html.j2").render(
        title=f"DCASE {board.removeprefix('dcase')} Task 2" if board.startswith("dcase") else board.upper(),
        challenge=board.startswith("dcase"),
        blocks=[block_view(block) for block in found],
        ranked=_ranked(ranked),
        tables=known,
        disagreements=[
            f"{table.source}: {system.name}, {'official score' if name == SCORE else name}: printed {printed:.2f}, its "
            f"figures give {computed:.2f}"
            for table in known
            for system, name, printed, computed in tables.disagreements(table)
        ],
        own=_own(own),
        version=__version__,
    )


def block_view(block: Block) -> dict[str, Any]:
    """A block as the template has it: its columns, and its lines by machine, those of the means last."""
    columns = [
        {
            "name": column.name,
            "own": column.own,
            "runs": f"{column.runs} runs" if column.runs > 1 else "1 run",
            "about": _about(column),
        }
        for column in block.columns
    ]
    shown = {"title": block.title, "lead": block.lead, "columns": columns, "by_system": block.by_system}
    if block.by_system:
        cells = zip(*(_cells(line.values, block.columns) for line in block.lines), strict=True)
        rows = [column | {"cells": each} for column, each in zip(columns, cells, strict=True)]
        return shown | {"machines": block.machines, "measure": block.measures[0], "rows": rows}
    groups = []
    for machine, lines in groupby(block.lines, key=lambda line: line.machine):
        rows = [
            {
                "label": line.label,
                "score": line.measure == SCORE,
                "cells": _cells(line.values, block.columns),
            }
            for line in lines
        ]
        groups.append({"name": machine or "All machines", "foot": not machine, "rows": rows})
    return shown | {"groups": groups}


def published(run: Run) -> dict[str, Any] | str:
    """Section of a report: the published tables of these machines with our systems, or what is known of others."""
    year = run.metrics.get("year")
    parts = {("systems", label): system for label, system in run.systems.items()}
    revealed = (run.metrics.get("evaluation") or {}).items()
    parts |= {("evaluation", label): system for label, system in revealed if system and system.get("per_machine")}
    if not parts:
        return "There are no labelled test clips in this run, so there is nothing to hold against published figures."
    orientation = _orientation(year)
    if not year or not orientation:
        return f"There are no published figures {f'of the challenge of {year} ' if year else ''}to hold them against."
    if any(set(comparison.MEASURES) - set(row) for system in parts.values() for row in system["per_machine"].values()):
        return "The run was measured by the rule of an early challenge, whose figures do not compare."
    complete = all(len(unit.clips) == comparison.CLIPS for unit in run.development)
    own = our_results.columns("ours", [parts], complete=complete)
    found = [
        block
        for split in (DEVELOPMENT, EVALUATION)
        if (table := tables.find(f"dcase{year}", split))
        and (ours := [column for column in own if comparison.official_split(year, column) == split])
        for block in comparison.beside(table, ours)
    ]
    rankings = [chart for block in found if (chart := _ranking(block))]
    return {
        "blocks": [block_view(block) for block in found],
        "rankings": rankings,
        "orientation": "" if found else orientation,
    }


def _ranking(block: Block) -> Markup | None:
    """The block's systems by official score as bars; None where it has no official scores."""
    for line in block.lines:
        if not line.machine and line.measure == SCORE and not block.by_system:
            pairs = zip(block.columns, line.values, strict=True)
            rows = [(column.name, fmean(runs), column.own) for column, runs in pairs if runs]
            return charts.ranking_chart(block.title, rows)
    return None


def _orientation(year: int | None) -> str:
    """The official baselines of a year in one sentence, for who has other recordings; empty where none are known."""
    parts = []
    for split in (DEVELOPMENT, EVALUATION):
        table = tables.find(f"dcase{year}", split)
        if table:
            first, second = (table.computed(name)[SCORE] for name in tables.BASELINES)
            parts.append(f"{first:.2f} % and {second:.2f} % ({split} machines)")
    if not parts:
        return ""
    return (
        "No published figures on exactly these recordings are kept here. On other recordings, the challenge's own of "
        f"{year}, the official autoencoder and its Mahalanobis variant had {', '.join(parts)}; that says nothing about "
        "how good this run is."
    )


def _about(column: Column) -> str:
    """A sentence on a column, to appear above it."""
    system = column.system
    if system is None:
        return f"measured here, {column.runs} runs" if column.runs > 1 else "measured here"
    copied = f", read in {system.copied_from}" if system.copied_from else ""
    note = f"{system.note}. " if system.note else ""
    return f"{note}{system.source}{copied}; measured by {_who(system.by)}"


def _who(by: str) -> str:
    return {"organisers": "the organisers", "authors": "its authors", "others": "somebody else"}[by]


def _cells(values: Sequence[Runs], columns: Sequence[Column]) -> list[dict[str, Any]]:
    best = max((round(fmean(runs), 2) for runs in values if runs), default=None)
    return [_cell(runs, column.own, best) for runs, column in zip(values, columns, strict=True)]


def _cell(runs: Runs, own: bool, best: float | None) -> dict[str, Any]:
    if not runs:
        return {"text": "–", "spread": "", "level": 0, "best": False, "below": False, "own": own}
    value = round(fmean(runs), 2)
    return {
        "text": f"{value:.2f}",
        "spread": f"± {stdev(runs):.2f}" if len(runs) > 1 else "",
        "level": f"{100 * min(max(value - GUESS, 0), GUESS) / GUESS:.1f}",
        "best": value == best,
        "below": value < GUESS,
        "own": own,
    }


def _ranked(ranked: Sequence[Standing]) -> list[dict[str, Any]]:
    spans = {}
    for split in (EVALUATION, DEVELOPMENT):
        values = [fmean(runs) for standing in ranked if (runs := getattr(standing, split))]
        spans[split] = (min(values), max(values)) if values else (0.0, 1.0)
    rows = []
    for standing in ranked:
        system = standing.system
        cells = []
        for split, (low, high) in spans.items():
            runs = getattr(standing, split)
            best = round(high, 2) if high > low else None
            cell = _cell(runs, system is None, best)
            if runs:
                cell["level"] = f"{100 * (fmean(runs) - low) / (high - low):.1f}" if high > low else "100"
            cells.append(cell)
        rows.append(
            {
                "name": standing.name,
                "own": system is None,
                "parameters": system.parameters if system else "",
                "note": system.note if system else "",
                "by": _who(system.by) if system else "measured here",
                "source": system.source if system else "",
                "address": system.address if system else "",
                "copied_from": system.copied_from if system else "",
                "cells": cells,
            }
        )
    return rows


def _own(own: Sequence[Column]) -> list[dict[str, Any]]:
    """A row a file of ours."""
    files: dict[str, dict[str, Any]] = {}
    for column in own:
        for file, record in zip(column.files, column.records, strict=True):
            row = files.setdefault(file, {"file": "/".join(Path(file).parts[-3:]), "columns": [], **record})
            if column.name not in row["columns"]:
                row["columns"].append(column.name)
    return [{"commit": "", "command": ""} | row for row in files.values()]
