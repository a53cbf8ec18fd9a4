"""Our results beside the published tables: columns, what may stand beside what, and the table as text.

Several runs of one system, its seeds, are one column with mean and standard deviation. Results on other machines never
stand beside published ones.
"""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from system.files import open_atomic
from system.leaderboard import tables
from system.leaderboard.tables import DEVELOPMENT, EVALUATION, SCORE, System, Table, mean

MEASURES = ("AUC (source)", "AUC (target)", "pAUC")
CLIPS = 200  # labelled test clips of every development machine of the challenge since 2022
NOT_COMPARABLE = (
    "Not what the published tables are about: other machines, not all of their clips, or measured for another year. No "
    "figure here may be held against one there."
)

Runs = tuple[float, ...]  # one figure a run, in percent


@dataclass(frozen=True)
class Column:
    """A system's figures, published or ours.

    Args:
        cells: machine -> measure -> percent, one a run. whole: official score by run, where a run says it itself.
        printed: means as printed, by measure and SCORE. system: tells of a published one. files, records: of our runs.
        like: the published system that ours copies, for tables with a row a system.
        complete: whether ours were measured for the table's year and on as many clips, as far as that is known.
    """

    name: str
    cells: Mapping[str, Mapping[str, Runs]]
    whole: Runs = ()
    printed: Mapping[str, float] = field(default_factory=dict)
    system: System | None = None
    files: tuple[str, ...] = ()
    records: tuple[Mapping[str, str], ...] = ()
    like: str = ""
    complete: bool = True

    @property
    def own(self) -> bool:
        return self.system is None

    @property
    def runs(self) -> int:
        return max((len(values) for row in self.cells.values() for values in row.values()), default=0)

    @property
    def machines(self) -> tuple[str, ...]:
        return tuple(self.cells)

    def figure(self, machine: str, measure: str) -> Runs:
        """Empty where there is none."""
        return self.cells.get(machine, {}).get(measure, ())

    def mean(self, machines: Sequence[str], measures: Sequence[str]) -> Runs:
        """Harmonic mean of these figures, run by run; empty where one is missing."""
        rows = [self.figure(machine, measure) for machine in machines for measure in measures]
        return tuple(mean(run) for run in zip(*rows, strict=True)) if rows and all(rows) else ()

    def foot(self, name: str, machines: Sequence[str], measures: Sequence[str]) -> Runs:
        """The mean of a measure, or SCORE, as it stands below these machines: printed, said by the run, or computed."""
        if set(machines) == set(self.cells):
            if name in self.printed:
                return (self.printed[name],)
            if name == SCORE and self.whole:
                return self.whole
        return self.mean(machines, measures if name == SCORE else [name])


@dataclass(frozen=True)
class Line:
    """A row of a block: the figures of every column; ``machine`` is empty at the foot, ``measure`` there also SCORE."""

    machine: str
    measure: str
    label: str
    values: tuple[Runs, ...]


@dataclass(frozen=True)
class Block:
    """Columns that may be compared, on these machines. ``means``: whether a mean over the machines means anything."""

    title: str
    lead: str
    machines: tuple[str, ...]
    measures: tuple[str, ...]
    columns: tuple[Column, ...]
    means: bool = True

    @property
    def by_system(self) -> bool:
        """Whether it is printed with a row a system, as a table of one measure is."""
        return len(self.measures) == 1

    @property
    def lines(self) -> list[Line]:
        """Table 1 of Wang and Liu 2026: a row a machine and measure, then the means of each measure and of all."""
        found = [
            Line(machine, measure, _label(measure), tuple(c.figure(machine, measure) for c in self.columns))
            for machine in self.machines
            for measure in self.measures
        ]
        for name in (*self.measures, SCORE) if self.means else ():
            values = tuple(column.foot(name, self.machines, self.measures) for column in self.columns)
            found.append(Line("", name, "hmean of all" if name == SCORE else _label(name), values))
        return found


@dataclass(frozen=True)
class Standing:
    """A system by its official scores alone, of one run or several; ``system`` tells of a published one."""

    name: str
    development: Runs = ()
    evaluation: Runs = ()
    system: System | None = None


def published_columns(table: Table) -> list[Column]:
    """The systems of a published table."""
    return [
        Column(
            system.name,
            {machine: {m: (value,) for m, value in row.items()} for machine, row in table.column(system.name).items()},
            printed=table.printed(system.name),
            system=system,
        )
        for system in table.systems
    ]


def spread(values: Runs, digits: int = 2) -> str:
    """Figures of runs as text: the figure, or mean ± standard deviation (of the sample); empty for none."""
    if not values:
        return ""
    return f"{fmean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def official_split(year: int, column: Column) -> str:
    """Which part of a challenge a column's machines belong to; empty where not all of them belong to one.

    Names alone are not enough, because years share some: see ``Column.complete``.
    """
    from system.corpora.challenge import load_year

    known = load_year(year)
    for split, names in ((DEVELOPMENT, known.dev), (EVALUATION, known.eval)):
        if set(column.machines) <= set(names):
            return split if column.complete else ""
    return ""


def blocks(board: str, own: Sequence[Column]) -> list[Block]:
    """The published tables of a board with our columns at the right; a block of its own for each set of other machines.

    Where a column of ours lacks machines of a table, it is once more compared on just those it has.

    Args:
        board: one of ``tables.boards()``.
    """
    year = challenge_year(board)
    if year is None:
        (table,) = (table for table in tables.tables() if table.board == board)
        alike = [column for column in own if column.complete and set(column.machines) <= set(table.machines)]
        others = [column for column in own if column not in alike]
        return beside(table, alike) + _apart(others, "Other recordings", NOT_COMPARABLE)
    placed = {split: [c for c in own if official_split(year, c) == split] for split in (DEVELOPMENT, EVALUATION, "")}
    found = []
    for split in (DEVELOPMENT, EVALUATION):
        table = tables.find(f"dcase{year}", split)
        if table:
            found += beside(table, placed[split])
        else:
            title = f"Our results on the {split} machines of {year}"
            found += _apart(placed[split], title, "Of these, no figures of other systems machine by machine are kept.")
    return found + _apart(placed[""], "Other recordings", NOT_COMPARABLE)


def challenge_year(board: str) -> int | None:
    """The year of the challenge whose board it is, None for another board."""
    return int(board.removeprefix("dcase")) if board.startswith("dcase") else None


def beside(table: Table, own: Sequence[Column]) -> list[Block]:
    """A published table with columns of ours whose machines are among its own, and its parts that they have alone."""
    published = published_columns(table)
    where = "at the right" if table.has_means else "below those that they copy"
    lead = table.source + (f", and our systems {where}." if own else ".")
    title = f"{table.split.capitalize()} machines of {table.year}" if table.has_means else table.title
    columns = [*published, *own]
    if not table.has_means:
        names = [column.name for column in published]
        places = {name: place for place, name in enumerate(names)}
        columns.sort(key=lambda column: places.get(column.like or column.name, len(names)))
    found = [Block(title, lead, table.machines, table.measures, tuple(columns), table.has_means)]
    parts = {tuple(m for m in table.machines if m in column.machines) for column in own} - {table.machines}
    for machines in sorted(parts, key=lambda part: (-len(part), part)):
        having = tuple(column for column in columns if set(machines) <= set(column.machines))
        lead = "For results that lack the others: every system on these alone"
        lead += ", so that no mean is the published one." if table.has_means else "."
        found.append(Block(f"On {_listing(machines)} alone", lead, machines, table.measures, having, table.has_means))
    return found


def standings(year: int, own: Sequence[Column]) -> list[Standing]:
    """Official scores of a year: by the evaluation machines, then, for those without, by the development machines.

    Ours are among them where they have all machines of a part.
    """
    from system.corpora.challenge import load_year

    known = load_year(year)
    found = [
        Standing(
            scored.system.full_name or scored.system.name,
            () if scored.development is None else (scored.development,),
            () if scored.evaluation is None else (scored.evaluation,),
            scored.system,
        )
        for scored in tables.scores(year)
    ]
    ours: dict[str, dict[str, Runs]] = {}
    for column in own:
        split = official_split(year, column)
        if split and set(column.machines) == set(known.dev if split == DEVELOPMENT else known.eval):
            ours.setdefault(column.name, {})[split] = column.foot(SCORE, column.machines, MEASURES)
    found += [Standing(name, **values) for name, values in ours.items()]
    evaluated = sorted((each for each in found if each.evaluation), key=lambda each: -fmean(each.evaluation))
    others = sorted((each for each in found if not each.evaluation), key=lambda each: -fmean(each.development))
    return [*evaluated, *others]


def markdown(found: Sequence[Block]) -> str:
    """The blocks as Markdown, one below the other."""
    parts = []
    for block in found:
        heads, table = _table(block)
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
        lines.insert(1, "|" + " --- |" * heads + " ---: |" * (len(table[0]) - heads))
        parts += [f"## {block.title}", block.lead, "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def write_csv(path: str | os.PathLike, found: Sequence[Block]) -> None:
    """Writes a line a figure: percent with four decimals, mean and standard deviation over the runs."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("block", "machine", "measure", "system", "origin", "percent", "deviation", "runs", "source"))
        for block in found:
            for line in block.lines:
                for column, values in zip(block.columns, line.values, strict=True):
                    if values:
                        deviation = f"{stdev(values):.4f}" if len(values) > 1 else ""
                        origin = "measured" if column.own else "published"
                        row = (block.title, line.machine, line.measure, column.name, origin, f"{fmean(values):.4f}")
                        writer.writerow((*row, deviation, len(values), column.system.source if column.system else ""))


def _table(block: Block) -> tuple[int, list[list[str]]]:
    """A block as text, and how many of its columns are heads."""
    lines = [(line, [spread(values) or "-" for values in line.values]) for line in block.lines]
    names = [column.name for column in block.columns]
    if block.by_system:
        figures = zip(*(texts for _, texts in lines), strict=True)
        rows = [[name, *texts] for name, texts in zip(names, figures, strict=True)]
        return 1, [[block.measures[0], *(line.machine for line, _ in lines)], *rows]
    table, before = [["Machine", "Metric", *names]], ""
    for line, texts in lines:
        group = line.machine or ("Official score" if line.measure == SCORE else "All (hmean)")
        table.append([group if group != before else "", line.label, *texts])
        before = group
    return 2, table


def _apart(columns: Sequence[Column], title: str, lead: str) -> list[Block]:
    """A block for each set of machines."""
    groups: dict[frozenset[str], list[Column]] = {}
    for column in columns:
        groups.setdefault(frozenset(column.machines), []).append(column)
    found = []
    for each in groups.values():
        machines = each[0].machines
        heading = f"{title}: {_listing(machines)}" if len(groups) > 1 else title
        measures = tuple(next(iter(each[0].cells.values())))
        found.append(Block(heading, lead, machines, measures, tuple(each), measures == MEASURES))
    return found


def _listing(machines: Sequence[str]) -> str:
    return " and ".join(machines) if len(machines) < 3 else f"{len(machines)} machines, {machines[0]} to {machines[-1]}"


def _label(measure: str) -> str:
    return measure.replace(" (", "(")  # AUC(source), as the table prints it
