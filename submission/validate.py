"""Validator of submission packages, for the rules since 2023.

Checks folders, zip, CSVs, machines and clips, meta files and technical report; everything that can be checked without
the evaluation labels. Reports all findings at once, and never raises because of a package's content.
"""

import os
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from submission import facts as run_facts
from submission import machines_check, meta_check, outputs_check, pdf_check
from submission.archive import Tree, open_package
from submission.facts import RunFacts
from submission.findings import ERROR, WARNING, Collector, Finding, listing, shorten
from submission.machines_check import Scope
from submission.meta import SUFFIX
from submission.outputs_check import OutputFile
from system.corpora.challenge import first_shot_years

REPORT_SUFFIX = ".technical_report.pdf"
MAX_SYSTEMS = 4
__all__ = ["ERROR", "WARNING", "Finding", "RunFacts", "validate"]


@dataclass
class _System:
    """Folder of a system in task2/, with its files by kind."""

    label: str
    folder: str
    tables: list[str] = field(default_factory=list)
    metas: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    outputs: list[OutputFile] = field(default_factory=list)
    document: Any = None


def validate(
    path: str | os.PathLike,
    audio_dir: str | os.PathLike | None = None,
    year: int | None = None,
    facts: RunFacts | None = None,
) -> list[Finding]:
    """Checks a submission package.

    Args:
        path: zip, folder task2/, or folder that contains task2/.
        audio_dir: folder of ``<machine>/test/*.wav``; the package must contain exactly these clips of its machines.
            Without it, the files of all systems must contain the same clips.
        year: one of ``first_shot_years``; None for the year whose evaluation machines match best.
        facts: facts of the run, to compare claims with; None to skip the comparison.

    Returns:
        Errors, then warnings, sorted by file and line. A package without errors is valid.

    Example:
        >>> for finding in validate("exp/package.zip", year=2026):
        ...     print(finding)
    """
    collector = Collector()
    if year is not None and year not in first_shot_years():
        known = ", ".join(map(str, first_shot_years()))
        collector.error(str(path), f"expected a year of {known} to check for, found {year}")
        year = None
    with open_package(path, collector) as tree:
        if tree is not None:
            _check_tree(tree, audio_dir, year, facts, collector)
    if facts is not None:
        run_facts.check_run(facts, "run", collector)
    return collector.sorted()


def _check_tree(
    tree: Tree, audio_dir: str | os.PathLike | None, year: int | None, facts: RunFacts | None, collector: Collector
) -> None:
    systems = _find_systems(tree, collector)
    for system in systems:
        system.outputs = outputs_check.read_outputs(tree, system.tables, collector)
        if not system.tables:
            collector.error(tree.where(system.folder), "expected score and decision files (CSV), found none")
    found = {(output.machine, output.section) for system in systems for output in system.outputs}
    scope = machines_check.find_scope(found, year, tree.where(), collector)
    for system in systems:
        _check_meta(tree, system, scope, facts, collector)
    _check_distinct(tree, systems, collector)
    _check_outputs(tree, systems, scope, audio_dir, collector)
    _check_reports(tree, systems, collector)


def _find_systems(tree: Tree, collector: Collector) -> list[_System]:
    """Finds the folders of the systems; reports misplaced folders and files."""
    folders = sorted(name for name in tree.folders if "/" not in name)
    deeper = {
        folder: sorted(name for name in tree.folders if re.fullmatch(rf"{re.escape(folder)}/[^/]+", name))
        for folder in folders
        if not any(name.rpartition("/")[0] == folder for name in tree.files)
    }
    systems = []
    for folder in folders:
        nested = [name for name in deeper.get(folder, []) if meta_check.LABEL.fullmatch(name.rsplit("/", 1)[-1])]
        if nested:
            inside = listing([name.rsplit("/", 1)[-1] for name in nested])
            collector.error(
                tree.where(folder), f"expected the systems directly in task2/, found {inside} one folder too deep"
            )
        systems += [_System(name.rsplit("/", 1)[-1], name) for name in nested or [folder]]
    if not systems:
        collector.error(tree.where(), f"expected 1 to {MAX_SYSTEMS} system folders, found none")
    elif len(systems) > MAX_SYSTEMS:
        collector.error(tree.where(), f"expected at most {MAX_SYSTEMS} systems, found {len(systems)}")
    for system in systems:
        _check_label(tree, system, collector)
        _sort_files(tree, system, collector)
    return systems


def _check_label(tree: Tree, system: _System, collector: Collector) -> None:
    if meta_check.LABEL.fullmatch(system.label):
        return
    parts = system.label.split("_")
    hint = ""
    if len(parts) > 4:
        hint = ": too many underscores, write a hyphen within a name"
    elif len(parts) == 4 and parts[2] != "task2":
        hint = f": {shorten(parts[2])} is not task2"
    elif len(parts) == 4 and parts[3] not in ("1", "2", "3", "4"):
        hint = f": {shorten(parts[3])} is not 1 to 4"
    collector.error(tree.where(system.folder), f"expected {meta_check.label_form()}, found {system.label}{hint}")


def _sort_files(tree: Tree, system: _System, collector: Collector) -> None:
    for relative in sorted(tree.files):
        if not relative.startswith(system.folder + "/"):
            continue
        inside = relative[len(system.folder) + 1 :]
        name = inside.rsplit("/", 1)[-1]
        if name.endswith(".csv"):
            system.tables.append(relative)
        elif re.search(r"\.ya?ml$", name, re.IGNORECASE):
            system.metas.append(relative)
        elif name.endswith(REPORT_SUFFIX):
            system.reports.append(relative)
        else:
            system.others.append(relative)
            collector.warning(tree.where(relative), "expected only CSVs and one meta file here, found another file")
        if "/" in inside and relative not in system.others:
            collector.error(
                tree.where(relative), f"expected this file directly in {system.label}/, found it in a subfolder"
            )
    for folder in sorted(tree.folders):
        if folder.startswith(system.folder + "/") and not any(name.startswith(folder + "/") for name in tree.files):
            collector.warning(tree.where(folder), "expected no folders within a system, found an empty one")


def _check_meta(tree: Tree, system: _System, scope: Scope, facts: RunFacts | None, collector: Collector) -> None:
    wanted = f"{system.folder}/{system.label}{SUFFIX}"
    if wanted in system.metas:
        chosen = wanted
        for other in system.metas:
            if other != wanted:
                collector.warning(tree.where(other), f"expected one meta file, {system.label}{SUFFIX}; found another")
    elif system.metas:
        chosen = system.metas[0]
        collector.error(tree.where(chosen), f"expected the name {system.label}{SUFFIX}, found another")
    else:
        collector.error(tree.where(system.folder), f"expected {system.label}{SUFFIX}, found no meta file")
        return
    where = tree.where(chosen)
    try:
        with open(tree.files[chosen], "rb") as file:
            data = file.read(meta_check.MAX_BYTES + 1)
    except OSError as error:
        collector.error(where, f"expected a readable file, found {error.strerror or error}")
        return
    document, lines, problems = meta_check.parse(data)
    for line, message in problems:
        collector.error(where, message, line)
    if document is None and problems:
        return
    year = scope.year.year if scope.year else None
    official = frozenset(scope.year.dev) if scope.year and not scope.rehearsal else frozenset()
    collector.findings += meta_check.check(document, lines, where, system.label, year, scope.rehearsal, official)
    system.document = document
    _check_surname(system, where, lines, collector)
    _check_result_machines(document, lines, scope, where, collector)
    if facts is not None:
        run_facts.check_claims(facts, system.label, document, lines, where, collector)


def _check_surname(system: _System, where: str, lines: dict[str, int], collector: Collector) -> None:
    """Warns if the label does not begin with the corresponding author's last name; transliterations may differ."""
    authors = _get(system.document, "submission", "authors")
    for index, author in enumerate(authors if isinstance(authors, list) else ()):
        name = _get(author, "lastname")
        if _get(author, "corresponding") is True and isinstance(name, str):
            surname = system.label.split("_")[0]
            if _letters(name) != _letters(surname):
                key = f"submission.authors[{index}].lastname"
                collector.warning(
                    where,
                    f"{key}: expected {surname} as in the label, found {shorten(name)} for the corresponding author",
                    lines.get(key, 0),
                )


def _check_result_machines(
    document: Any, lines: dict[str, int], scope: Scope, where: str, collector: Collector
) -> None:
    machines = _get(document, "results", "development_dataset")
    if scope.year is None or not isinstance(machines, dict):
        return
    path = "results.development_dataset"
    missing = [machine for machine in scope.year.dev if machine not in machines]
    if missing:
        collector.warning(
            where,
            f"{path}: expected all development machines of {scope.year.year}, found none of {', '.join(missing)}",
            lines.get(path, 0),
        )
    for machine in machines:
        if machine not in scope.year.dev:
            kind = "an evaluation machine" if machine in scope.year.eval else "not a development machine"
            place = f"{path}.{machine}"
            collector.warning(
                where, f"{place}: expected development machines, found {kind} of {scope.year.year}", lines.get(place, 0)
            )


def _check_distinct(tree: Tree, systems: list[_System], collector: Collector) -> None:
    """Checks that indices are unique, that there is one team, and that names differ."""
    labels = [system.label for system in systems if meta_check.LABEL.fullmatch(system.label)]
    indices = defaultdict(list)
    for label in labels:
        indices[label[-1]].append(label)
    for index, same in sorted(indices.items()):
        if len(same) > 1:
            collector.error(tree.where(), f"expected each index once, found {index} in {', '.join(same)}")
    if sorted(indices) != [str(number) for number in range(1, len(indices) + 1)]:
        numbers = ", ".join(sorted(indices))
        collector.warning(
            tree.where(), f"expected systems numbered from 1 without gaps, 1 to {len(indices)}; found {numbers}"
        )
    teams = sorted({label.rsplit("_", 2)[0] for label in labels})
    if len(teams) > 1:
        collector.warning(tree.where(), f"expected systems of one team, found {', '.join(teams)}")
    for key in ("name", "abbreviation"):
        owners = defaultdict(list)
        for system in systems:
            value = _get(system.document, "submission", key)
            if isinstance(value, str):
                owners[value].append(system.label)
        for value, same in owners.items():
            if len(same) > 1:
                collector.warning(
                    tree.where(),
                    f"submission.{key}: expected one per system, found {shorten(value)} in {listing(same)}",
                )


def _check_outputs(
    tree: Tree, systems: list[_System], scope: Scope, audio_dir: str | os.PathLike | None, collector: Collector
) -> None:
    groups: dict[tuple[str, str], list[OutputFile]] = defaultdict(list)
    for system in systems:
        for output in system.outputs:
            output.machine = scope.aliases.get(output.machine, output.machine)
            groups[output.machine, output.section].append(output)
        outputs_check.check_complete(system.outputs, scope.expected, tree.where(system.folder), collector)
        outputs_check.check_values(system.outputs, tree, collector)
        _check_baseline_year(tree, system, scope, collector)
    outputs_check.check_copies([system.outputs for system in systems], tree, collector)
    clips: dict[str, frozenset[str]] = {}
    if audio_dir is not None:
        clips = machines_check.audio_clips(audio_dir, collector)
        if clips:
            machines_check.check_audio(scope, clips, str(audio_dir), collector)
    for (machine, section), outputs in sorted(groups.items()):
        if machine in clips:
            expected = frozenset(name for name in clips[machine] if machines_check.section_of(name) == section)
            source = f"{Path(str(audio_dir)).name}/{machine}/test"
        else:
            expected, relative = outputs_check.reference_names(outputs)
            source = tree.where(relative)
            count = len(expected)
            if scope.is_official(machine) and expected and count != machines_check.OFFICIAL_CLIPS:
                wanted = f"{machines_check.OFFICIAL_CLIPS} clips of {machine} section {section}"
                collector.warning(source, f"expected {wanted}, found {count}")
        for output in outputs:
            outputs_check.check_names(output, expected, source, tree, collector, scope.rehearsal)


def _check_baseline_year(tree: Tree, system: _System, scope: Scope, collector: Collector) -> None:
    if scope.year is None or scope.rehearsal:
        return
    for output in system.outputs:
        match = re.search(r"_DCASE(\d{4})T2", output.relative.rsplit("/", 1)[-1])
        if match and int(match[1]) != scope.year.year:
            collector.error(tree.where(output.relative), f"expected DCASE{scope.year.year}T2, found DCASE{match[1]}T2")


def _check_reports(tree: Tree, systems: list[_System], collector: Collector) -> None:
    """Checks that there is one PDF for all systems, or one for each."""
    top = sorted(name for name in tree.files if "/" not in name)
    teams = sorted({system.label.rsplit("_", 2)[0] for system in systems})
    common = {f"{team}_task2{REPORT_SUFFIX}" for team in teams}
    own = {f"{system.label}{REPORT_SUFFIX}" for system in systems}
    good = [name for name in top if name in common | own]
    for system in systems:
        for relative in system.reports:
            if relative.rsplit("/", 1)[-1] == f"{system.label}{REPORT_SUFFIX}":
                good.append(relative)
            else:
                collector.warning(tree.where(relative), f"expected {system.label}{REPORT_SUFFIX}, found another name")
    names = {name.rsplit("/", 1)[-1] for name in good}
    strays = [name for name in top if name not in good]
    pdfs = [name for name in strays if name.lower().endswith(".pdf")]
    lacking = [
        system
        for system in systems
        if not names & {f"{system.label.rsplit('_', 2)[0]}_task2{REPORT_SUFFIX}", f"{system.label}{REPORT_SUFFIX}"}
    ]
    if lacking:
        found = f"{', '.join(pdfs)}: rename it" if pdfs else "no technical report"
        if names & own:
            found = f"none for {', '.join(system.label for system in lacking)}"
        wanted = " or ".join(sorted(common)[:2]) or f"<Surname>_<Institute>_task2{REPORT_SUFFIX}"
        collector.error(tree.where(), f"expected {wanted}, found {found}")
    for relative in [*good, *(pdfs if lacking else [])]:
        _check_pdf(tree, relative, collector)
    for name in strays:
        if name not in pdfs or not lacking:
            collector.warning(
                tree.where(name), "expected only systems and the technical report here, found another file"
            )


def _check_pdf(tree: Tree, relative: str, collector: Collector) -> None:
    where, path = tree.where(relative), tree.files[relative]
    try:
        found = pdf_check.fault(path)
    except OSError as error:
        collector.error(where, f"expected a readable file, found {error.strerror or error}")
        return
    if found:
        level, message = found
        (collector.error if level == ERROR else collector.warning)(where, message)


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum())


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
