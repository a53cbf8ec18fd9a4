"""The table model of all leaderboards: what was measured, whose results they are, and the cells made of both.

A row or a column is a line (a figure or a mean of figures) or an entry (an encoder or a system, published or ours). A
cell has the mean and the spread of its runs, whether it is published or ours, and the protocol.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np

from system.benchmarks.protocols import AS_CODED
from system.evaluation.metrics import harmonic_mean

SCORE = "score"  # the mean that ranks, beside the names of the other means
HALF = 0.005  # a printed figure stands for all that round to it: half a unit of the second decimal

Runs = tuple[float, ...]  # one value a run, in percent
Key = tuple[str, str]  # group and name of a figure


@dataclass(frozen=True)
class Figure:
    """What is measured.

    Args:
        group: the machine, or the task of a benchmark.
        name: the measure, or the data set.
        label: as the table prints it.
        about: one line for readers.
        chance: percent that guessing reaches.
    """

    group: str
    name: str
    label: str
    about: str = ""
    chance: float = 50.0

    @property
    def key(self) -> Key:
        return self.group, self.name


@dataclass(frozen=True)
class Rule:
    """How means are made: one for each value of an attribute of the figures, and the score as the mean of these means.

    Args:
        by: ``group`` (a mean for each task) or ``name`` (a mean for each measure).
        average: percent of several figures to percent.
    """

    by: str
    average: Callable[[Iterable[float]], float]

    def parts(self, figures: Iterable[Figure]) -> dict[str, list[Key]]:
        """Name of each mean -> keys of its figures."""
        found: dict[str, list[Key]] = {}
        for figure in figures:
            found.setdefault(getattr(figure, self.by), []).append(figure.key)
        return found

    def means(self, figures: Iterable[Figure], values: Mapping[Key, float]) -> dict[str, float]:
        """Means by name and ``SCORE``, in percent, each only where none of its figures is missing."""
        parts = self.parts(figures)
        found = {
            name: self.average([values[key] for key in keys])
            for name, keys in parts.items()
            if all(key in values for key in keys)
        }
        if found and len(found) == len(parts):
            found[SCORE] = self.average(found.values())
        return found


def harmonic(percent: Iterable[float]) -> float:
    """Harmonic mean of figures in percent."""
    return 100.0 * float(harmonic_mean(np.array(list(percent), float) / 100.0))


TASK_MEANS = Rule("group", fmean)  # RMIS (FISHER paper, section 4) and SIREN (ECHO paper, section 4)
MEASURE_MEANS = Rule("name", harmonic)  # the challenge's official score


@dataclass(frozen=True)
class PublishedSource:
    """Where a published entry is printed.

    Args:
        name: of the paper or page, as the read-me names it.
        address: of the source.
        date: or version of the source.
        by: who measured it: ``organisers`` of the challenge, ``authors`` of the system, or ``others``.
        copied_from: where the figure was read, if not at its source.
        parameters, note: as printed, and for readers.
        full_name: of the entry among systems of other papers, where that is not its name.
    """

    name: str
    address: str = ""
    date: str = ""
    by: str = ""
    copied_from: str = ""
    parameters: str = ""
    note: str = ""
    full_name: str = ""


@dataclass(frozen=True)
class Entry:
    """The figures of an encoder or of a system, published or ours.

    Args:
        figures: key -> percent, one a run.
        given: means by name and ``SCORE`` that are printed, or that the runs state themselves.
        source: of a published entry, None for ours.
        files, records: of our runs; a record has ``commit`` and ``command``.
        like: the published entry that ours copies.
        complete: whether ours has the published entries' recordings, as far as that is known.
    """

    name: str
    figures: Mapping[Key, Runs]
    given: Mapping[str, Runs] = field(default_factory=dict)
    source: PublishedSource | None = None
    protocol: str = AS_CODED
    files: tuple[str, ...] = ()
    records: tuple[Mapping[str, str], ...] = ()
    like: str = ""
    complete: bool = True

    @property
    def own(self) -> bool:
        return self.source is None

    @property
    def runs(self) -> int:
        return max(map(len, self.figures.values()), default=0)

    @property
    def groups(self) -> tuple[str, ...]:
        """Its machines, or tasks."""
        return tuple(dict.fromkeys(group for group, _ in self.figures))

    def values(self, group: str) -> dict[str, float]:
        """Figures of a machine or task by name, mean of the runs."""
        return {name: fmean(runs) for (other, name), runs in self.figures.items() if other == group}

    def only(self, keys: Collection[Key]) -> "Entry":
        """The entry with these figures alone; the given means are of other ones."""
        figures = {key: runs for key, runs in self.figures.items() if key in keys}
        return self if len(figures) == len(self.figures) else replace(self, figures=figures, given={})

    def means(self, figures: Sequence[Figure], rule: Rule) -> dict[str, Runs]:
        """Means of these figures by name and ``SCORE``, run by run; as given where these are all that it has."""
        keys = {figure.key for figure in figures}
        own = {key: runs for key, runs in self.figures.items() if key in keys}
        each = [rule.means(figures, {key: runs[n] for key, runs in own.items()}) for n in range(self.runs)]
        found = {name: tuple(run[name] for run in each) for name in (each[0] if each else {})}
        return found | dict(self.given) if keys == set(self.figures) else found


@dataclass(frozen=True)
class Line:
    """A figure of a table, or a mean: ``group`` is empty for the score and for the mean of a measure."""

    group: str
    name: str
    label: str
    about: str = ""
    chance: float = 50.0
    mean: bool = False


@dataclass(frozen=True)
class Cell:
    """The runs of an entry in a line (percent); ``over``: how many figures a partial mean has, such as ``3 of 11``."""

    values: Runs
    own: bool
    protocol: str
    over: str = ""

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the sample, where there are several runs."""
        return stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        if not self.values:
            return ""
        text = f"{self.mean:.2f}" + (f" ± {self.spread:.2f}" if self.spread is not None else "")
        return f"{text} ({self.over})" if self.over else text


@dataclass(frozen=True)
class Table:
    """Entries that may be compared, on these figures.

    Args:
        rule: of the means, None where a mean says nothing.
        labels: of groups and of ``SCORE``, where they are not called by their names.
        ranked: whether entries stand best first, and the bars of the page run from lowest to highest.
        head: what the entries are called.
    """

    title: str
    lead: str
    figures: tuple[Figure, ...]
    entries: tuple[Entry, ...]
    rule: Rule | None = None
    protocol: str = AS_CODED
    labels: Mapping[str, str] = field(default_factory=dict)
    ranked: bool = False
    head: str = "System"

    @property
    def groups(self) -> tuple[str, ...]:
        """Machines, or tasks."""
        return tuple(dict.fromkeys(figure.group for figure in self.figures))

    @property
    def names(self) -> tuple[str, ...]:
        """Measures, or data sets."""
        return tuple(dict.fromkeys(figure.name for figure in self.figures))

    @property
    def by_entry(self) -> bool:
        """Whether a row is an entry; else a row is a line, as papers of the challenge print it."""
        return self.ranked or len(self.names) == 1

    @cached_property
    def means(self) -> list[dict[str, Runs]]:
        """Means of each entry."""
        return [entry.means(self.figures, self.rule) if self.rule else {} for entry in self.entries]

    @cached_property
    def ranks(self) -> list[int | None]:
        """From 1, of each entry that has a score; what is printed alike shares a rank."""
        scores = [round(fmean(means[SCORE]), 2) if SCORE in means else None for means in self.means]
        known = [score for score in scores if score is not None]
        return [None if score is None else 1 + sum(other > score for other in known) for score in scores]

    @cached_property
    def lines(self) -> list[Line]:
        """Ranked: the score, and each task's mean before its figures. Else the figures, then their means."""
        figures = [Line(f.group, f.name, f.label, f.about, f.chance) for f in self.figures]
        if not self.rule or len(figures) == 1:
            return figures
        chance = self.rule.means(self.figures, {figure.key: figure.chance for figure in self.figures})
        names = {figure.name: figure.label for figure in self.figures}
        score = Line("", SCORE, self.labels.get(SCORE, "hmean of all"), "", chance[SCORE], True)
        if not self.ranked:
            return [
                *figures,
                *(Line("", n, names[n], "", chance[n], True) for n in self.rule.parts(self.figures)),
                score,
            ]
        found = [score]
        for group in self.groups:
            if len(self.groups) > 1:
                found.append(Line(group, group, "mean", "", chance[group], True))
            found += [line for line in figures if line.group == group]
        return found

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """Line by line, a cell of each entry."""
        return [[self._cell(line, number) for number in range(len(self.entries))] for line in self.lines]

    def partial(self, number: int) -> dict[str, tuple[float, int]]:
        """Means that an entry lacks, of those of their figures that it has, and how many these are."""
        entry, rule = self.entries[number], self.rule
        there = [figure for figure in self.figures if figure.key in entry.figures]
        if rule is None or len(there) == len(self.figures):
            return {}
        counts = {name: len(keys) for name, keys in rule.parts(there).items()} | {SCORE: len(there)}
        found = {name: fmean(runs) for name, runs in entry.means(there, rule).items()}
        return {name: (mean, counts[name]) for name, mean in found.items() if name not in self.means[number]}

    def _cell(self, line: Line, number: int) -> Cell:
        entry = self.entries[number]
        if not line.mean:
            return Cell(entry.figures.get((line.group, line.name), ()), entry.own, entry.protocol)
        runs, over = self.means[number].get(line.name, ()), ""
        if not runs and self.ranked and line.name in (partial := self.partial(number)):
            mean, count = partial[line.name]
            total = len(self.figures) if line.name == SCORE else sum(f.group == line.name for f in self.figures)
            runs, over = (mean,), f"{count} of {total}"
        return Cell(runs, entry.own, entry.protocol, over)


def best_first(table: Table) -> Table:
    """The table with its entries by falling score, those without one last, by the number of their figures."""

    def place(pair: tuple[Entry, dict[str, Runs]]) -> tuple[Any, ...]:
        entry, means = pair
        score = (0, -round(fmean(means[SCORE]), 2), entry.own) if SCORE in means else (1, -len(entry.figures), 0)
        return *score, entry.name

    return replace(table, entries=tuple(e for e, _ in sorted(zip(table.entries, table.means, strict=True), key=place)))


def parts(table: Table, own: Iterable[Entry]) -> list[Table]:
    """A table for each set of figures that some of our entries have without the others: all entries on these alone."""
    keys = [figure.key for figure in table.figures]
    sets = {tuple(key for key in keys if key in entry.figures) for entry in own} - {tuple(keys)}
    found = []
    for part in sorted(sets, key=lambda part: (-len(part), part)):
        figures = tuple(figure for figure in table.figures if figure.key in part)
        entries = tuple(entry.only(part) for entry in table.entries if set(part) <= set(entry.figures))
        if len(entries) > 1:
            kind = "encoder" if table.ranked else "system"
            lead = f"For results that lack the others: every {kind} on these alone"
            lead += ", so that no mean is the published one." if table.rule else "."
            found.append(replace(table, lead=lead, figures=figures, entries=entries))
    return [best_first(each) for each in found] if table.ranked else found


def listing(names: Sequence[str], noun: str) -> str:
    """Names as a heading has them."""
    return " and ".join(names) if len(names) < 3 else f"{len(names)} {noun}, {names[0]} to {names[-1]}"


def disagreements(table: Table) -> list[tuple[Entry, str, float, float]]:
    """Printed means that the figures do not give, whatever these were rounded from: entry, mean, printed, computed.

    A mean rises with every figure, so that the figures' lowest and highest values bound it.
    """
    found: list[tuple[Entry, str, float, float]] = []
    rule = table.rule
    if rule is None:
        return found
    for entry in table.entries:
        given = {} if entry.own else {name: runs[0] for name, runs in entry.given.items()}
        low, computed, high = (
            rule.means(table.figures, {key: runs[0] + shift for key, runs in entry.figures.items()})
            for shift in (-HALF, 0.0, HALF)
        )
        found += [
            (entry, name, printed, computed[name])
            for name, printed in given.items()
            if not low[name] - HALF - 1e-9 <= printed <= high[name] + HALF + 1e-9
        ]
    return found
