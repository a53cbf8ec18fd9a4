"""The published tables as data: ``published/*``, read and checked.

Of anomaly detection a yaml has a row a machine and measure and a column a system, as papers print it; a system that is
printed with nothing but its official score stands in ``dcase_scores.yaml``. Of RMIS and SIREN a csv has a row an
encoder.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from system.checked_yaml import Strict, read_checked
from system.errors import WheeltapperError
from system.leaderboard.boards import Board
from system.leaderboard.table import MEASURE_MEANS, SCORE, TASK_MEANS, Entry, Figure, Key, PublishedSource, Runs, Table

FOLDER = Path(__file__).parent / "published"
SCORES = "dcase_scores.yaml"
DEVELOPMENT, EVALUATION, TEST = "development", "evaluation", "test"
BASELINES = ("Baseline MSE", "Baseline MAHALA")  # of every year since 2023

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, strict=True)]
Year = Annotated[int, Field(gt=1900, lt=2100, strict=True)]


@dataclass(frozen=True)
class Published(Table):
    """A published table of anomaly detection.

    Args:
        board: whose it is, as ``wheeltapper leaderboard`` calls it.
        source, address: where it is printed.
        split: ``development``, ``evaluation`` or ``test``.
        clips: machine -> how many normal and anomalous ones, where printed.
    """

    board: str = ""
    source: str = ""
    address: str = ""
    year: int = 0
    split: str = TEST
    clips: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def entry(self, name: str) -> Entry:
        """The entry of a name; KeyError where there is none."""
        return {entry.name: entry for entry in self.entries}[name]

    def computed(self, name: str) -> dict[str, float]:
        """Means of an entry, made from its figures whatever is printed."""
        entry = replace(self.entry(name), given={})
        return {mean: runs[0] for mean, runs in entry.means(self.figures, self.rule or MEASURE_MEANS).items()}


class _System(Strict):
    name: str
    by: Literal["organisers", "authors", "others"]
    source: str
    address: str = ""
    copied_from: str = ""
    parameters: str = ""
    note: str = ""
    full_name: str = ""

    def as_source(self) -> PublishedSource:
        names = ("address", "by", "copied_from", "parameters", "note", "full_name")
        return PublishedSource(self.source, **{name: getattr(self, name) for name in names})


class _Scored(_System):
    year: Year
    development: Percent | None = None
    evaluation: Percent | None = None

    def scores(self) -> dict[Key, Runs]:
        printed = {("", DEVELOPMENT): self.development, ("", EVALUATION): self.evaluation}
        return {key: (score,) for key, score in printed.items() if score is not None}


class _Scores(Strict):
    title: str
    unit: Literal["percent"]
    systems: tuple[_Scored, ...]

    @model_validator(mode="after")
    def _check(self) -> "_Scores":
        for number, system in enumerate(self.systems):
            if system.development is None and system.evaluation is None:
                raise ValueError(f"systems.{number}: expected {DEVELOPMENT} or {EVALUATION}, found neither")
        _once([f"{system.name} of {system.year}" for system in self.systems])
        return self


class _File(Strict):
    title: str
    source: str
    address: str = ""
    year: Year
    split: Literal["development", "evaluation", "test"]
    unit: Literal["percent"]
    systems: tuple[_System, ...] = Field(min_length=1)
    cells: dict[str, dict[str, tuple[Percent, ...]]] = Field(min_length=1)
    means: dict[str, tuple[Percent | None, ...]] = {}
    score: tuple[Percent | None, ...] = ()
    clips: dict[str, tuple[PositiveInt, PositiveInt]] = {}

    @model_validator(mode="after")
    def _check(self) -> "_File":
        _once([system.name for system in self.systems])
        measures = list(next(iter(self.cells.values())))
        for machine, rows in self.cells.items():
            if list(rows) != measures:
                raise ValueError(f"cells.{machine}: expected {', '.join(measures)} as in the first")
        if self.means and list(self.means) != measures:
            raise ValueError(f"means: expected {', '.join(measures)}")
        if self.clips and list(self.clips) != list(self.cells):
            raise ValueError(f"clips: expected {', '.join(self.cells)}")
        rows = {f"cells.{machine}.{m}": row for machine, rows in self.cells.items() for m, row in rows.items()}
        for where, row in {**rows, **self.means, SCORE: self.score or self.systems}.items():
            if len(row) != len(self.systems):
                raise ValueError(f"{where}: expected {len(self.systems)} figures, one a system, found {len(row)}")
        return self


@lru_cache(maxsize=1)
def tables() -> tuple[Published, ...]:
    """All published tables of anomaly detection."""
    return tuple(read_table(path) for path in sorted(FOLDER.glob("*.yaml")) if path.name != SCORES)


def find(board: str, split: str) -> Published | None:
    """The table of a board and split, where there is one."""
    return next((table for table in tables() if (table.board, table.split) == (board, split)), None)


def read_table(path: Path) -> Published:
    """Reads and checks a table; the file is called ``<board>_<split>.yaml``.

    Raises:
        WheeltapperError: names the file and the place: damage, a key that is unknown, missing or given twice, a row
            without a figure for every system, a figure that is no percentage.
    """
    given = read_checked(path, _File, "a published table")
    board, _, split = path.stem.rpartition("_")
    if split != given.split or (board.startswith("dcase") and board != f"dcase{given.year}"):
        raise WheeltapperError(
            f"{path}: expected year and split as the name says, found {given.year} and {given.split}"
        )
    entries = []
    for number, system in enumerate(given.systems):
        cells = {(machine, m): (row[number],) for machine, rows in given.cells.items() for m, row in rows.items()}
        printed = {name: row[number] for name, row in {**given.means, SCORE: given.score}.items() if row}
        means = {name: (value,) for name, value in printed.items() if value is not None}
        entries.append(Entry(system.name, cells, means, system.as_source()))
    rule = None if split == TEST else MEASURE_MEANS
    facts = given.model_dump(include={"source", "address", "year", "split", "clips"})
    figures = measured(given.cells)
    lead = f"{given.source}."
    return Published(given.title, lead, figures, tuple(entries), rule, head=figures[0].name, board=board, **facts)


def measured(machines: Mapping[str, Iterable[str]]) -> tuple[Figure, ...]:
    """Figures of machines, each with the measures that stand below it."""
    return tuple(
        Figure(machine, name, name.replace(" (", "(")) for machine, measures in machines.items() for name in measures
    )


@lru_cache(maxsize=1)
def printed_scores() -> tuple[_Scored, ...]:
    """The systems that are printed with nothing but a score."""
    return read_scores(FOLDER / SCORES)


def read_scores(path: Path) -> tuple[_Scored, ...]:
    """Reads and checks a list of official scores; WheeltapperError as of ``read_table``."""
    return read_checked(path, _Scores, "official scores").systems


def scores(year: int) -> list[Entry]:
    """All published systems of a year with their official scores alone, those of the tables first.

    Figures have the split (``development``, ``evaluation``) for a name, and no group.
    """
    found: dict[str, Entry] = {}
    known = [table for split in (DEVELOPMENT, EVALUATION) if (table := find(f"dcase{year}", split))]
    for table, entry in [(each, entry) for each in known for entry in each.entries]:
        score = entry.given.get(SCORE, (round(table.computed(entry.name)[SCORE], 2),))
        before = found.get(entry.name, replace(entry, figures={}, given={}))
        if before.source and entry.source:
            names = dict.fromkeys((before.source.name, entry.source.name))
            before = replace(before, source=replace(before.source, name="; ".join(names)))
        found[entry.name] = replace(before, figures={**before.figures, ("", table.split): score})
    more = [system for system in printed_scores() if system.year == year]
    return [*found.values(), *(Entry(each.name, each.scores(), source=each.as_source()) for each in more)]


def encoders(board: Board) -> list[Entry]:
    """The published rows of RMIS or SIREN, from papers and from official pages."""
    found = []
    with open(FOLDER / f"{board.name.replace('-', '_')}.csv", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            figures = {figure.key: (float(line.pop(figure.name)),) for figure in board.figures}
            columns = {task.name: f"mean_{task.name}" for task in board.tasks} | {SCORE: SCORE}
            means = {name: (float(line.pop(column)),) for name, column in columns.items() if column in line}
            found.append(Entry(line.pop("encoder"), figures, means, PublishedSource(line.pop("source"), **line)))
    return found


def encoder_table(board: Board) -> Table:
    """The published table of RMIS or SIREN."""
    labels = {task.name: task.label for task in board.tasks} | {SCORE: board.label}
    entries = tuple(encoders(board))
    return Table("Ranking", "", board.figures, entries, TASK_MEANS, labels=labels, ranked=True, head="Encoder")


def _once(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"systems: expected each system once, found {name} again")
