"""Machines of a package: the challenge year that they belong to, and missing, extra or misspelt ones."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from submission.findings import Collector, listing
from system.corpora.challenge import Year, first_shot_years, load_year

OFFICIAL_CLIPS = 200
SIMILAR = 0.8


@dataclass
class Scope:
    """Machines and sections that a package must cover.

    Args:
        year: year of the challenge, None for machines of no year.
        expected: pairs of machine and section.
        rehearsal: whether the package cannot be meant for the challenge.
        aliases: misspelt machine to the correct one.
    """

    year: Year | None
    expected: set[tuple[str, str]]
    rehearsal: bool = False
    aliases: dict[str, str] = field(default_factory=dict)

    def is_official(self, machine: str) -> bool:
        return self.year is not None and (machine in self.year.eval or machine in self.year.dev)


def find_scope(found: set[tuple[str, str]], year: int | None, where: str, collector: Collector) -> Scope:
    """Finds the machines that a package must cover, and reports deviations.

    Args:
        found: (machine, section) of the files in the package.
        year: year of the challenge, None for the year whose evaluation machines match best.
        where: name of the package in the findings.
        collector: receives the findings.
    """
    machines = sorted({machine for machine, _ in found})
    inferred = load_year(year) if year is not None else infer_year(machines)
    development = _development_year(machines, year)
    if development is not None and machines:
        collector.warning(
            where,
            f"expected evaluation machines, found only development machines ({development.year}): a rehearsal, not a "
            "submission",
        )
        return Scope(development, found, rehearsal=True)
    if inferred is None:
        familiar = sorted({m for m in machines for y in first_shot_years() if m in load_year(y).eval})
        known = f"; {listing(familiar)} alone would be" if familiar else ""
        collector.warning(
            where, f"not a challenge year's machines (rehearsal): {listing(machines, 8) or 'none at all'}{known}"
        )
        return Scope(None, found, rehearsal=True)
    return _official(found, inferred, where, collector)


def infer_year(machines: Iterable[str]) -> Year | None:
    """Year whose evaluation machines match best; None if less than half of the machines of either side match."""
    machines = set(machines)
    best: tuple[float, int, Year] | None = None
    for number in first_shot_years():
        year = load_year(number)
        alike = len(machines & set(year.eval)) + len(_aliases(machines, year))
        if alike and 2 * alike >= min(len(machines), len(year.eval)):
            overlap = alike / (len(machines) + len(year.eval) - alike)
            if best is None or (overlap, number) > best[:2]:
                best = (overlap, number, year)
    return best[2] if best else None


def development_year(machines: Iterable[str]) -> int | None:
    """The year whose development machines hold most of these, the newest of several; None where none holds any."""
    machines = set(machines)
    held = [(len(machines & set(load_year(year).dev)), year) for year in first_shot_years()]
    most, year = max(held)
    return year if most else None


def audio_clips(folder: str | os.PathLike, collector: Collector) -> dict[str, frozenset[str]]:
    """Machine to names of its test clips, from ``<folder>/<machine>/test/*.wav``."""
    folder = Path(folder)
    clips: dict[str, frozenset[str]] = {}
    try:
        for machine in sorted(os.listdir(folder)):
            test = folder / machine / "test"
            if test.is_dir():
                clips[machine] = frozenset(name for name in os.listdir(test) if name.lower().endswith(".wav"))
    except OSError as error:
        collector.error(str(folder), f"expected a folder of <machine>/test/*.wav, found {error.strerror or error}")
        return {}
    if not any(clips.values()):
        collector.error(str(folder), "expected <machine>/test/*.wav, found none")
    return clips


def check_audio(scope: Scope, clips: dict[str, frozenset[str]], folder: str, collector: Collector) -> None:
    """Compares the machines of the package with those of the recordings."""
    packaged = {machine for machine, _ in scope.expected}
    for machine in sorted(packaged - set(clips)):
        collector.error(folder, f"expected {machine}/test/*.wav for the scores in the package, found none")
    anonymous = {m for m, names in clips.items() if names and not any(_is_labelled(name) for name in names)}
    for machine in sorted(set(clips) - packaged):
        if machine in anonymous and not (scope.year and machine in scope.year.dev):
            collector.error(folder, f"{machine} has anonymous test clips: expected scores for it, found none")


def section_of(name: str) -> str:
    """Section in a clip's name, "00" if there is none."""
    return name[8:10] if name.startswith("section_") and name[8:10].isdigit() else "00"


def _official(found: set[tuple[str, str]], year: Year, where: str, collector: Collector) -> Scope:
    machines = {machine for machine, _ in found}
    aliases = _aliases(machines, year)
    for wrong, right in sorted(aliases.items()):
        collector.error(where, f"expected the machine {right}, found {wrong}")
    missing = sorted(set(year.eval) - machines - set(aliases.values()))
    if missing:
        collector.error(
            where, f"expected the evaluation machines of {year.year}, found no files at all for {', '.join(missing)}"
        )
    for machine in sorted(machines - set(year.eval) - set(aliases)):
        known = ", ".join(year.eval)
        collector.error(where, f"expected {known} ({year.year}), found also {machine}{_kind_of(machine, year)}")
    expected = {(machine, section) for machine, about in year.eval.items() for section in about.sections}
    for machine, section in sorted(found):
        right = aliases.get(machine, machine)
        if right in year.eval and section not in year.eval[right].sections:
            sections = ", ".join(year.eval[right].sections)
            collector.error(where, f"{right}: expected section {sections}, found section {section}")
    # Missing machines are reported above; only single missing files are reported per system.
    return Scope(year, {pair for pair in expected if pair[0] not in missing}, aliases=aliases)


def _kind_of(machine: str, year: Year) -> str:
    if machine in year.dev:
        return ", a development machine"
    years = [str(number) for number in first_shot_years() if machine in load_year(number).eval]
    if years:
        return f", a machine of {', '.join(years)}"
    near = [name for name in year.eval if _fold(name) == _fold(machine)]
    return f" ({near[0]} misspelt)" if near else ""


def _development_year(machines: list[str], year: int | None) -> Year | None:
    """Newest year, or the given one, whose development machines include all of these."""
    for number in [year] if year is not None else reversed(first_shot_years()):
        if set(machines) <= set(load_year(number).dev):
            return load_year(number)
    return None


def _aliases(machines: Iterable[str], year: Year) -> dict[str, str]:
    """Machines that are not of the year, to a missing machine of the year with a similar name."""
    machines = set(machines)
    absent = [machine for machine in year.eval if machine not in machines]
    aliases: dict[str, str] = {}
    for name in sorted(machines - set(year.eval) - set(year.dev)):
        # Machines of other years are no misspellings, however similar (ToyDrone and HoveringDrone, Scanner and Sander).
        if any(name in load_year(other).eval or name in load_year(other).dev for other in first_shot_years()):
            continue
        folded = [machine for machine in absent if _fold(machine) == _fold(name)]
        near = folded or get_close_matches(name, absent, n=1, cutoff=SIMILAR)
        if near:
            aliases[name] = near[0]
            absent.remove(near[0])
    return aliases


def _fold(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _is_labelled(name: str) -> bool:
    return "normal_" in name or "anomaly_" in name
