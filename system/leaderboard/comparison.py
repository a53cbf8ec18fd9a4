"""Our results beside the published ones: which may stand in one table.

Several runs of one system, its seeds, are one entry with mean and standard deviation. Results on other machines, or by
another protocol, never stand beside published ones.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from system.benchmarks.protocols import AS_CODED, MODES
from system.corpora.challenge import first_shot_years, load_year
from system.leaderboard import published
from system.leaderboard.boards import BOARDS, Board
from system.leaderboard.published import DEVELOPMENT, EVALUATION, Published
from system.leaderboard.table import MEASURE_MEANS, SCORE, Entry, Figure, Table, best_first, listing, parts

MEASURES = ("AUC (source)", "AUC (target)", "pAUC")
CLIPS = 200  # labelled test clips of every development machine of the challenge since 2022
NOT_COMPARABLE = (
    "Not what the published tables are about: other machines, not all of their clips, or measured for another year. No "
    "figure here may be held against one there."
)
PREFIX = "dcase"
BARS = (
    "In percent, the more the better. A bar runs from a column's lowest figure to its highest, bold is the best. Rows "
    "that lack figures stand last and have no rank."
)


def boards() -> list[str]:
    """What ``wheeltapper leaderboard`` knows: benchmarks of encoders, years of the challenge, and other tables."""
    years = {f"{PREFIX}{year}" for year in first_shot_years()}
    return [*BOARDS, *sorted(years | {table.board for table in published.tables()})]


def challenge_year(board: str) -> int | None:
    """The year of the challenge whose board it is, None for another board."""
    return int(board.removeprefix(PREFIX)) if board.startswith(PREFIX) else None


def compare(board: str, own: Sequence[Entry]) -> list[Table]:
    """The published tables of a board with our entries; a table of its own for what must not stand beside them.

    Where an entry of ours lacks figures of a table, it is once more compared on just those it has.

    Args:
        board: one of ``boards()``.
    """
    if board in BOARDS:
        return _encoders(BOARDS[board], own)
    year = challenge_year(board)
    if year is None:
        (table,) = (table for table in published.tables() if table.board == board)
        alike = [entry for entry in own if entry.complete and set(entry.groups) <= set(table.groups)]
        others = [entry for entry in own if entry not in alike]
        return beside(table, alike) + _apart(others, "Other recordings", NOT_COMPARABLE)
    placed = {split: [e for e in own if official_split(year, e) == split] for split in (DEVELOPMENT, EVALUATION, "")}
    found = []
    for split in (DEVELOPMENT, EVALUATION):
        if known := published.find(board, split):
            found += beside(known, placed[split])
        else:
            title = f"Our results on the {split} machines of {year}"
            found += _apart(placed[split], title, "Of these, no figures of other systems machine by machine are kept.")
    return found + _apart(placed[""], "Other recordings", NOT_COMPARABLE)


def official_split(year: int, entry: Entry) -> str:
    """Which part of a challenge an entry's machines belong to; empty where not all of them belong to one.

    Names alone are not enough, because years share some: see ``Entry.complete``.
    """
    known = load_year(year)
    for split, names in ((DEVELOPMENT, known.dev), (EVALUATION, known.eval)):
        if set(entry.groups) <= set(names):
            return split if entry.complete else ""
    return ""


def beside(table: Published, own: Sequence[Entry]) -> list[Table]:
    """A published table with entries of ours whose machines are among its own, and its parts that they have alone."""
    where = "at the right" if table.rule else "below those that they copy"
    lead = table.source + (f", and our systems {where}." if own else ".")
    title = f"{table.split.capitalize()} machines of {table.year}" if table.rule else table.title
    entries = [*table.entries, *own]
    if not table.rule:
        names = [entry.name for entry in table.entries]
        places = {name: place for place, name in enumerate(names)}
        entries.sort(key=lambda entry: places.get(entry.like or entry.name, len(names)))
    whole = replace(table, title=title, lead=lead, entries=tuple(entries))
    alone = [replace(each, title=f"On {listing(each.groups, 'machines')} alone") for each in parts(whole, own)]
    return [whole, *alone]


def standings(year: int, own: Sequence[Entry]) -> Table:
    """Official scores of a year: by the evaluation machines, then, for those without, by the development machines.

    Ours are among them where they have all machines of a part.
    """
    known = load_year(year)
    found = [replace(e, name=(e.source and e.source.full_name) or e.name) for e in published.scores(year)]
    ours: dict[str, Entry] = {}
    for entry in own:
        split = official_split(year, entry)
        if split and set(entry.groups) == set(known.dev if split == DEVELOPMENT else known.eval):
            before = ours.get(entry.name, replace(entry, figures={}, given={}))
            score = entry.means(published.measured(dict.fromkeys(entry.groups, MEASURES)), MEASURE_MEANS)[SCORE]
            ours[entry.name] = replace(before, figures={**before.figures, ("", split): score})

    def place(entry: Entry) -> tuple[int, float]:
        later, split = (0, EVALUATION) if ("", EVALUATION) in entry.figures else (1, DEVELOPMENT)
        return later, -fmean(entry.figures["", split])

    lead = (
        "By the evaluation machines, whose labels nobody had; below, systems of which only the development machines "
        "are known, whose labels served to choose among systems. Bars run from a column's lowest figure to its "
        "highest, bold is the best."
    )
    figures = tuple(Figure("", split, split) for split in (EVALUATION, DEVELOPMENT))
    return Table("Official scores", lead, figures, tuple(sorted([*found, *ours.values()], key=place)), ranked=True)


def _encoders(board: Board, own: Sequence[Entry]) -> list[Table]:
    """The whole table of each protocol, and after it one of those figures that some of our entries have alone."""
    base = published.encoder_table(board)
    found = []
    for protocol in (AS_CODED, *(mode for mode in MODES if mode != AS_CODED)):
        ours = [entry for entry in own if entry.protocol == protocol]
        entries = (*(base.entries if protocol == AS_CODED else ()), *ours)
        if not entries:
            continue
        title, lead = "Ranking", f"Published results, and ours (marked) computed as the published code does. {BARS}"
        if protocol != AS_CODED:
            title = f"Our results by the {protocol} protocol"
            lead = f"Without the defects of the published code, so that they compare with one another only. {BARS}"
        whole = replace(base, title=title, lead=lead, entries=entries, protocol=protocol)
        found.append(best_first(whole))
        for part in parts(whole, ours):
            names = listing([figure.label for figure in part.figures], "figures")
            title = f"On {names} alone" + (f", protocol {protocol}" if protocol != AS_CODED else "")
            found.append(replace(part, title=title, labels={**part.labels, SCORE: "mean of these"}))
    return found


def _apart(entries: Sequence[Entry], title: str, lead: str) -> list[Table]:
    """A table for each set of machines."""
    groups: dict[frozenset[str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(frozenset(entry.groups), []).append(entry)
    found = []
    for each in groups.values():
        machines = each[0].groups
        measures = tuple(dict.fromkeys(name for _, name in each[0].figures))
        heading = f"{title}: {listing(machines, 'machines')}" if len(groups) > 1 else title
        rule = MEASURE_MEANS if measures == MEASURES else None
        figures = published.measured(dict.fromkeys(machines, measures))
        found.append(Table(heading, lead, figures, tuple(each), rule, head=measures[0]))
    return found
