"""The leaderboards as pages, and the published tables as a section of a run's report."""

import os
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from system import __version__
from system.files import open_atomic
from system.leaderboard import comparison, our_results
from system.leaderboard import published as published_tables
from system.leaderboard.boards import BOARDS
from system.leaderboard.published import DEVELOPMENT, EVALUATION
from system.leaderboard.table import SCORE, Cell, Entry, Line, Table, disagreements
from system.report import charts
from system.report.load_run import RunData
from system.report.template import template

GUESS = 50.0  # percent: what guessing reaches, where the bars of tables that rank nothing begin
FEW = 3  # columns, at most, that get room for wide bars
WHO = {"organisers": "the organisers", "authors": "its authors", "others": "somebody else"}


def write_leaderboard(path: str | os.PathLike, board: str, found: Sequence[Table], own: Sequence[Entry]) -> None:
    """Writes the page whole or not at all; the same figures give the same page."""
    page = render(board, found, own)
    with open_atomic(path) as file:
        file.write(page)


def render(board: str, found: Sequence[Table], own: Sequence[Entry]) -> str:
    """The page as HTML.

    Args:
        board: one of ``comparison.boards()``.
        found: what the page shows, in this order.
        own: our entries, for the list of where they are from.
    """
    about = BOARDS.get(board)
    known = [table for table in published_tables.tables() if table.board == board]
    whole = published_tables.encoder_table(about) if about else None
    name = f"DCASE {board.removeprefix('dcase')} Task 2" if board.startswith("dcase") else board.upper()
    return template("leaderboard.html.j2").render(
        title=about.title if about else f"{name}: our results beside the published ones",
        board=about,
        challenge=board.startswith("dcase"),
        tables=[table_view(table) for table in found],
        sources=_encoder_sources(whole) if whole else [_table_source(table) for table in known],
        disagreements=_disagreements(whole)
        if whole
        else [f"{table.source}: {text}" for table in known for text in _disagreements(table)],
        own=_own(own, len(about.figures) if about else 0),
        version=__version__,
    )


def table_view(table: Table) -> dict[str, Any]:
    """A table as the template has it: a row an entry, or a row a line, by machine, those of the means last."""
    cells = [_cells(line, row, table.ranked) for line, row in zip(table.lines, table.cells, strict=True)]
    view = {"title": table.title, "lead": table.lead, "by_entry": table.by_entry, "ranked": table.ranked}
    entries = [
        {
            "name": entry.name,
            "own": entry.own,
            "runs": f"{entry.runs} runs" if entry.runs > 1 else "1 run",
            "about": _about(entry),
            "rank": (rank or "") if table.rule else None,
            "source": entry.source,
            "who": WHO.get(entry.source.by, "") if entry.source else "",
        }
        for entry, rank in zip(table.entries, table.ranks, strict=True)
    ]
    if table.by_entry:
        groups = [(line.group, line) for line in table.lines if line.group in table.labels]
        rows = zip(entries, zip(*cells, strict=True), strict=True)
        guess = [_cell(line, Cell((line.chance,), False, ""), ()) for line in table.lines]
        return view | {
            "head": table.head,
            "protocol": table.protocol,
            "groups": [(table.labels[g], len(list(lines))) for g, lines in groupby(groups, key=lambda pair: pair[0])],
            "heads": [_head(table, line) for line in table.lines],
            "few": table.ranked and len(table.lines) <= FEW,
            "rows": [entry | {"cells": row} for entry, row in rows],
            "guess": guess if table.ranked and table.rule else [],
        }
    bodies = []
    for machine, pairs in groupby(zip(table.lines, cells, strict=True), key=lambda pair: pair[0].group):
        lines = [{"label": line.label, "score": line.name == SCORE, "cells": row} for line, row in pairs]
        bodies.append({"name": machine or "All machines", "foot": not machine, "rows": lines})
    return view | {"columns": entries, "groups": bodies}


def published(run: RunData) -> dict[str, Any] | str:
    """Section of a report: the published tables of these machines with our systems, or what is known of others."""
    year = run.metrics.get("year")
    named = [("systems", *pair) for pair in run.systems.items()]
    named += [("evaluation", *pair) for pair in (run.metrics.get("evaluation") or {}).items()]
    parts = {
        (part, label): system | {"per_machine": our_results.official_rows(system)}
        for part, label, system in named
        if system and system.get("official_score") is not None and system.get("per_machine")
    }
    if not parts and run.systems:
        return "The run has no official score, so there is nothing to hold against published figures."
    if not parts:
        return "There are no labelled test clips in this run, so there is nothing to hold against published figures."
    orientation = _orientation(year)
    if year is None or not orientation:
        return f"There are no published figures {f'of the challenge of {year} ' if year else ''}to hold them against."
    if any(set(comparison.MEASURES) - set(row) for system in parts.values() for row in system["per_machine"].values()):
        return "The run was measured by the rule of an early challenge, whose figures do not compare."
    complete = all(len(unit.clips) == comparison.CLIPS for unit in run.development)
    own = our_results.entries("ours", [parts], complete=complete)
    found = [
        table
        for split in (DEVELOPMENT, EVALUATION)
        if (known := published_tables.find(f"dcase{year}", split))
        and (ours := [entry for entry in own if comparison.official_split(year, entry) == split])
        for table in comparison.beside(known, ours)
    ]
    return {
        "tables": [table_view(table) for table in found],
        "rankings": [chart for table in found if (chart := _ranking(table))],
        "orientation": "" if found else orientation,
    }


def _ranking(table: Table) -> Markup | None:
    """The table's systems by official score as bars; None where it has no official scores."""
    for line, cells in zip(table.lines, table.cells, strict=True):
        if line.name == SCORE:
            pairs = zip(table.entries, cells, strict=True)
            rows = [(entry.name, cell.mean, entry.own) for entry, cell in pairs if cell.mean is not None]
            return charts.ranking_chart(table.title, rows)
    return None


def _orientation(year: int | None) -> str:
    """The official baselines of a year in one sentence, for who has other recordings; empty where none are known."""
    parts = []
    for split in (DEVELOPMENT, EVALUATION):
        table = published_tables.find(f"dcase{year}", split)
        if table:
            first, second = (table.computed(name)[SCORE] for name in published_tables.BASELINES)
            parts.append(f"{first:.2f} % and {second:.2f} % ({split} machines)")
    if not parts:
        return ""
    return (
        "No published figures on exactly these recordings are kept here. On other recordings, the challenge's own of "
        f"{year}, the official autoencoder and its Mahalanobis variant had {', '.join(parts)}; that says nothing about "
        "how good this run is."
    )


def _about(entry: Entry) -> str:
    """A sentence on an entry, to appear above it."""
    source = entry.source
    if source is None:
        return f"measured here, {entry.runs} runs" if entry.runs > 1 else "measured here"
    copied = f", read in {source.copied_from}" if source.copied_from else ""
    note = f"{source.note}. " if source.note else ""
    return f"{note}{source.name}{copied}" + (f"; measured by {WHO[source.by]}" if source.by else "")


def _head(table: Table, line: Line) -> dict[str, Any]:
    label = line.label if table.ranked else line.group
    return {"label": label, "about": line.about, "outer": not (table.labels and line.group)}


def _cells(line: Line, cells: Sequence[Cell], ranked: bool) -> list[dict[str, Any]]:
    """The cells of a line; bars run from its lowest to its highest value, or from guessing to 100 %."""
    whole = [round(cell.mean, 2) for cell in cells if cell.mean is not None and not cell.over]
    span = (min(whole), max(whole)) if ranked and whole else (GUESS, 100.0)
    shown = [_cell(line, cell, span) for cell in cells]
    best = f"{max(whole):.2f}" if whole else "none"
    return [cell | {"best": cell["text"] == best and not cell["over"]} for cell in shown]


def _cell(line: Line, cell: Cell, span: Sequence[float]) -> dict[str, Any]:
    """A cell; without a bar where it has no span, no value, or a mean of a part."""
    value = None if cell.mean is None else round(cell.mean, 2)
    level = ""
    below = False
    if value is not None and span and not cell.over:
        low, high = span
        below = value < round(line.chance, 2)
        level = f"{100.0 * min(max((value - low) / (high - low), 0.0), 1.0):.1f}" if high > low else "100.0"
    return {
        "text": "" if value is None else f"{value:.2f}",
        "spread": "" if cell.spread is None else f"± {cell.spread:.2f}",
        "level": level,
        "best": False,
        "below": below,
        "over": cell.over,
        "own": cell.own,
        "mean": line.mean,
    }


def _disagreements(table: Table) -> list[str]:
    labels = {SCORE: "official score"} | {group: f"mean of {label.lower()}" for group, label in table.labels.items()}
    return [
        f"{entry.name}, {labels.get(name, name)}: printed {printed:.2f}, its figures give {computed:.2f}"
        for entry, name, printed, computed in disagreements(table)
    ]


def _encoder_sources(table: Table) -> list[dict[str, str]]:
    sources = Counter((e.source.name, e.source.address, e.source.date) for e in table.entries if e.source)
    return [
        {"name": name, "address": address, "text": f"{count} rows ({date}, {address})"}
        for (name, address, date), count in sources.most_common()
    ]


def _table_source(table: published_tables.Published) -> dict[str, str]:
    copied = [entry.name for entry in table.entries if entry.source and entry.source.copied_from]
    clips = ", ".join(f"{name} {normal} and {anomalous}" for name, (normal, anomalous) in table.clips.items())
    text = f"{table.title} ({table.split}, {table.year})."
    text += f" Copied there from the organisers: {', '.join(copied)}." if copied else ""
    text += f" Clips, normal and anomalous: {clips}." if clips else ""
    return {"name": table.source, "address": table.address, "text": text}


def _own(own: Sequence[Entry], count: int) -> list[dict[str, Any]]:
    """A row a file of ours; ``count``: of the figures of a benchmark, 0 for other tables."""
    files: dict[str, dict[str, Any]] = {}
    for entry in own:
        text = f"{entry.name} ({entry.protocol}, {len(entry.figures)} of {count} figures)" if count else entry.name
        for file, record in zip(entry.files, entry.records, strict=True):
            row = files.setdefault(file, {"file": "/".join(Path(file).parts[-3:]), "entries": [], **record})
            if text not in row["entries"]:
                row["entries"].append(text)
    return [{"commit": "", "command": ""} | row for row in files.values()]
