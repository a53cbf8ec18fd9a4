"""The published tables of anomaly detection as data: ``published/*.yaml``, read and checked.

A table has a row a machine and measure and a column a system, as papers print it. A system that is printed with nothing
but its official score stands in ``dcase_scores.yaml``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from system.errors import WheeltapperError
from system.evaluation.metrics import harmonic_mean

PUBLISHED = Path(__file__).parent / "published"
SCORES = "dcase_scores.yaml"
DEVELOPMENT, EVALUATION, TEST = "development", "evaluation", "test"
SPLITS = (DEVELOPMENT, EVALUATION, TEST)
WHO = ("organisers", "authors", "others")  # who measured: of the challenge, of the system, or somebody else
BASELINES = ("Baseline MSE", "Baseline MAHALA")  # of every year since 2023
SCORE = "score"  # the official score, beside the measures' names
HALF = 0.005  # a printed figure stands for all that round to it: half a unit of the second decimal

Cells = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class System:
    """A published system.

    Args:
        by: who measured it, one of WHO. source: where it is printed, as the read-me names it. address: of the source.
        copied_from: where the figure was read, if not at its source. parameters, note: as printed, and for readers.
        full_name: among systems of other papers, where it is not ``name``.
    """

    name: str
    by: str
    source: str
    address: str = ""
    copied_from: str = ""
    parameters: str = ""
    note: str = ""
    full_name: str = ""


@dataclass(frozen=True)
class Scored:
    """The official score of a system in percent, None where it is not printed."""

    system: System
    year: int
    development: float | None = None
    evaluation: float | None = None


@dataclass(frozen=True)
class Table:
    """A published table; all figures in percent.

    Args:
        board: whose it is, as ``wheeltapper leaderboard`` calls it.
        cells: machine -> measure -> one figure a system.
        means: printed harmonic means, measure -> one a system. score: printed official scores. None: not printed.
        clips: machine -> how many normal and anomalous ones, where printed.
    """

    board: str
    title: str
    source: str
    address: str
    year: int
    split: str
    systems: tuple[System, ...]
    cells: Cells
    means: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    score: Sequence[float | None] = ()
    clips: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def machines(self) -> tuple[str, ...]:
        return tuple(self.cells)

    @property
    def measures(self) -> tuple[str, ...]:
        return tuple(next(iter(self.cells.values())))

    @property
    def has_means(self) -> bool:
        """Whether a mean over the machines means anything: it does for the challenge."""
        return self.split != TEST

    def column(self, name: str) -> dict[str, dict[str, float]]:
        """Machine -> measure -> figure of the system of a name; KeyError where there is none."""
        index = self._index(name)
        return {machine: {m: row[index] for m, row in rows.items()} for machine, rows in self.cells.items()}

    def computed(self, name: str) -> dict[str, float]:
        """Harmonic means of a system by measure, and the official score, the mean of all its figures (SCORE)."""
        column = self.column(name)
        found = {measure: mean([rows[measure] for rows in column.values()]) for measure in self.measures}
        return found | {SCORE: mean([value for rows in column.values() for value in rows.values()])}

    def printed(self, name: str) -> dict[str, float]:
        """What is printed of that."""
        index = self._index(name)
        rows = {**self.means, SCORE: self.score}
        return {name: row[index] for name, row in rows.items() if row and row[index] is not None}

    def _index(self, name: str) -> int:
        names = [system.name for system in self.systems]
        if name not in names:
            raise KeyError(name)
        return names.index(name)


def mean(percent: Iterable[float]) -> float:
    """The challenge's mean of figures in percent: the harmonic one."""
    return 100.0 * float(harmonic_mean(np.array(list(percent), float) / 100.0))


def disagreements(table: Table) -> list[tuple[System, str, float, float]]:
    """Printed means that the cells do not give, whatever they were rounded from: system, measure, printed, computed.

    The mean rises with every cell, so that the cells' lowest and highest values bound it. The measure may be SCORE.
    """
    found = []
    for system in table.systems:
        column = table.column(system.name)
        for name, printed in table.printed(system.name).items():
            cells = [v for rows in column.values() for measure, v in rows.items() if name in (measure, SCORE)]
            low, high = (mean(value + shift for value in cells) for shift in (-HALF, HALF))
            if not low - HALF - 1e-9 <= printed <= high + HALF + 1e-9:
                found.append((system, name, printed, table.computed(system.name)[name]))
    return found


@lru_cache(maxsize=1)
def tables() -> tuple[Table, ...]:
    """All published tables."""
    return tuple(read_table(path) for path in sorted(PUBLISHED.glob("*.yaml")) if path.name != SCORES)


def boards() -> list[str]:
    """What ``wheeltapper leaderboard`` knows of these."""
    return sorted({table.board for table in tables()})


def find(board: str, split: str) -> Table | None:
    """The table of a board and split, where there is one."""
    return next((table for table in tables() if (table.board, table.split) == (board, split)), None)


@lru_cache(maxsize=1)
def printed_scores() -> tuple[Scored, ...]:
    """The systems that are printed with nothing but a score."""
    return read_scores(PUBLISHED / SCORES)


def scores(year: int) -> list[Scored]:
    """Official scores of all published systems of a year of the challenge, those of the tables first."""
    found: dict[str, Scored] = {}
    for table in (find(f"dcase{year}", split) for split in (DEVELOPMENT, EVALUATION)):
        for system in table.systems if table else ():
            before = found.get(system.name, Scored(system, year))
            score = table.printed(system.name).get(SCORE, round(table.computed(system.name)[SCORE], 2))
            known = {DEVELOPMENT: before.development, EVALUATION: before.evaluation} | {table.split: score}
            sources = dict.fromkeys((before.system.source, system.source))
            found[system.name] = Scored(replace(before.system, source="; ".join(sources)), year, **known)
    return [*found.values(), *(scored for scored in printed_scores() if scored.year == year)]


def read_table(path: Path) -> Table:
    """Reads and checks a table; the file is called ``<board>_<split>.yaml``.

    Raises WheeltapperError that names the file and the place: damage, a key that is unknown, missing or given twice, a
    row without a figure for every system, a figure that is no percentage.
    """
    given = _mapping(_load(path), path, "file")
    keys = {name for name in Table.__dataclass_fields__ if name != "board"} | {"unit"}
    _keys(given, path, "file", keys, keys - {"address", "means", "score", "clips"})
    if given["unit"] != "percent":
        raise _wrong(path, "unit", "percent", given["unit"])
    if given["split"] not in SPLITS:
        raise _wrong(path, "split", " or ".join(SPLITS), given["split"])
    systems = _systems(given["systems"], path)
    cells = {str(m): _rows(rows, path, f"cells: {m}", len(systems)) for m, rows in _items(given, path, "cells")}
    measures = [list(rows) for rows in cells.values()]
    for machine, names in zip(cells, measures, strict=True):
        if names != measures[0]:
            raise _wrong(path, f"cells: {machine}", f"{', '.join(measures[0])} as in the first", ", ".join(names))
    means = _rows(given["means"], path, "means", len(systems), gaps=True) if "means" in given else {}
    if means and list(means) != measures[0]:
        raise _wrong(path, "means", ", ".join(measures[0]), ", ".join(means))
    score = _row(given["score"], path, "score", len(systems), gaps=True) if "score" in given else ()
    clips = {machine: _counts(row, path, machine) for machine, row in _items(given, path, "clips", {})}
    if clips and list(clips) != list(cells):
        raise _wrong(path, "clips", ", ".join(cells), ", ".join(clips))
    board, _, split = path.stem.rpartition("_")
    year = _year(given["year"], path, "year")
    if split != given["split"] or (board.startswith("dcase") and board != f"dcase{year}"):
        raise WheeltapperError(f"{path}: expected year and split as the name says, found {year} and {given['split']}")
    texts = {name: _text(given.get(name, ""), path, name) for name in ("title", "source", "address")}
    return Table(
        board, **texts, year=year, split=split, systems=systems, cells=cells, means=means, score=score, clips=clips
    )


def read_scores(path: Path) -> tuple[Scored, ...]:
    """Reads and checks a list of official scores; WheeltapperError as of ``read_table``."""
    given = _mapping(_load(path), path, "file")
    _keys(given, path, "file", {"title", "unit", "systems"}, {"title", "unit", "systems"})
    if given["unit"] != "percent":
        raise _wrong(path, "unit", "percent", given["unit"])
    found: dict[tuple[int, str], Scored] = {}
    for number, row in enumerate(_list(given["systems"], path, "systems"), 1):
        where = f"systems: {number}"
        row = dict(_mapping(row, path, where))
        year = _year(row.pop("year", None), path, f"{where}: year")
        values = {
            split: _figure(row.pop(split), path, f"{where}: {split}")
            for split in (DEVELOPMENT, EVALUATION)
            if split in row
        }
        if not values:
            raise _wrong(path, where, f"{DEVELOPMENT} or {EVALUATION}", "neither")
        system = _system(row, path, where)
        if (year, system.name) in found:
            raise _wrong(path, where, "each system once", f"{system.name} again")
        found[year, system.name] = Scored(system, year, **values)
    return tuple(found.values())


class _Loader(yaml.SafeLoader):
    """Plain YAML in which no key may stand twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.MarkedYAMLError(problem=f"{key.value} twice, again in line {line}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _load(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a published table, found nothing") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WheeltapperError(f"{path}: expected yaml, found {' '.join(str(error).split())}") from error


def _wrong(path: Path, where: str, expected: str, found: Any) -> WheeltapperError:
    shown = "nothing" if found is None else found if isinstance(found, str) and found else repr(found)
    return WheeltapperError(f"{path}: {where}: expected {expected}, found {shown[:80]}")


def _mapping(value: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise _wrong(path, where, "keys and values", value)
    return value


def _items(given: dict[str, Any], path: Path, name: str, default: Any = None) -> Iterable[tuple[str, Any]]:
    return _mapping(given[name], path, name).items() if name in given else (default or {}).items()


def _list(value: Any, path: Path, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _wrong(path, where, "a list", value)
    return value


def _keys(given: dict[str, Any], path: Path, where: str, known: set[str], needed: set[str]) -> None:
    for name in given:
        if name not in known:
            raise _wrong(path, where, f"some of {', '.join(sorted(known))}", str(name))
    missing = sorted(needed - set(given))
    if missing:
        raise _wrong(path, where, ", ".join(missing), None)


def _text(value: Any, path: Path, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(path, where, "text", value)
    return value


def _year(value: Any, path: Path, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1900 < value < 2100:
        raise _wrong(path, where, "a year", value)
    return value


def _figure(value: Any, path: Path, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:  # neither is NaN
        raise _wrong(path, where, "a percentage, 0 to 100", value)
    return float(value)


def _row(value: Any, path: Path, where: str, count: int, gaps: bool = False) -> tuple[Any, ...]:
    """One figure a system; with ``gaps`` null where there is none."""
    row = _list(value, path, where)
    if len(row) != count:
        raise _wrong(path, where, f"{count} figures, one a system", f"{len(row)}")
    return tuple(None if gaps and figure is None else _figure(figure, path, where) for figure in row)


def _rows(value: Any, path: Path, where: str, count: int, gaps: bool = False) -> dict[str, tuple[Any, ...]]:
    given = _mapping(value, path, where)
    return {str(name): _row(row, path, f"{where}: {name}", count, gaps) for name, row in given.items()}


def _counts(value: Any, path: Path, machine: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(type(v) is int and 0 < v < math.inf for v in value):
        raise _wrong(path, f"clips: {machine}", "counts of normal and of anomalous clips", value)
    return value[0], value[1]


def _system(row: Any, path: Path, where: str) -> System:
    given = _mapping(row, path, where)
    _keys(given, path, where, {each.name for each in fields(System)}, {"name", "by", "source"})
    system = System(**{name: _text(value, path, f"{where}: {name}") for name, value in given.items()})
    if system.by not in WHO:
        raise _wrong(path, f"{where}: by", " or ".join(WHO), system.by)
    return system


def _systems(value: Any, path: Path) -> tuple[System, ...]:
    systems = [_system(row, path, f"systems: {number}") for number, row in enumerate(_list(value, path, "systems"), 1)]
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise _wrong(path, "systems", "each system once", f"{name} again")
    return tuple(systems)
