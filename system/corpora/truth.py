"""Reader of the ground truth of the evaluation machines, which the organisers publish after the challenge."""

import csv
import logging
import os
import re
from pathlib import Path

from system.corpora.challenge import Year, load_year
from system.corpora.names import parse_name
from system.errors import WheeltapperError
from system.evaluation.truth import Truth

log = logging.getLogger(__name__)

LABELS = {"0": "normal", "1": "anomaly"}
DOMAINS = {"0": "source", "1": "target"}
_GROUND_TRUTH = re.compile(r"ground_truth_(?P<machine>.+?)_(?:section|id)_(?P<section>[0-9]{2})(?:_\w+)?\.csv")


def read_truth(path: str | os.PathLike, year: int | Year, corrected: bool = False) -> list[Truth]:
    """Reads the ground truth of one year's evaluation machines.

    Two formats are supported. A file ``eval_data_list_<year>.csv``: a line with a machine's name, then lines
    ``anonymous.wav,labelled.wav`` (in 2020 followed by 0 or 1). A folder with ``ground_truth_data/`` and
    ``ground_truth_domain/`` as in the official evaluator: ``ground_truth_<machine>_section_<NN>_test.csv`` with lines
    ``name,0|1``.

    In the published list of 2022 half the labels of ToyCar and ToyTrain are wrong, so it is refused. It is recognised
    by labelled names whose numbers differ from the anonymous ones. In the corrected list, which is accepted, both have
    the same number.

    Args:
        path: file or folder.
        year: year of the challenge.
        corrected: accept a list with the sign of a known defect, because its labels were corrected.

    Returns:
        Rows in the order of the files.

    Raises:
        WheeltapperError: names the first line that is wrong.
    """
    path = Path(path)
    year = load_year(year) if isinstance(year, int) else year
    if path.is_dir():
        rows = _read_folder(path, year)
    elif path.is_file():
        rows = _read_list(path, year, corrected)
    else:
        raise WheeltapperError(f"{path}: expected the truth of {year.year}, found nothing")
    if not rows:
        raise WheeltapperError(f"{path}: expected the truth of {year.year}, found no clip")
    seen = set()
    for row in rows:
        if row.machine not in year.eval or row.section not in year.eval[row.machine].sections:
            raise WheeltapperError(
                f"{path}: expected evaluation machines and sections of {year.year}, "
                f"found {row.machine} section {row.section}"
            )
        if (row.machine, row.file) in seen:
            raise WheeltapperError(f"{path}: expected each clip once, found {row.machine}/{row.file} twice")
        seen.add((row.machine, row.file))
    return rows


def _read_list(path: Path, year: Year, corrected: bool) -> list[Truth]:
    machine = ""
    rows: list[Truth] = []
    for where, cells in _lines(path):
        if len(cells) == 1:
            machine = cells[0]
            continue
        if not machine:
            raise WheeltapperError(f"{where}: expected the name of a machine first, found {','.join(cells)!r}")
        if len(cells) > 3:
            raise WheeltapperError(f"{where}: expected anonymous.wav,labelled.wav, found {','.join(cells)!r}")
        rows.append(_list_row(where, year, machine, cells, corrected))
    doubtful = sorted({row.machine for row in rows} & {name for defect in year.defects for name in defect.machines})
    if doubtful:
        log.warning("%s: the domains of %s come from a defective list and are not verified", path, ", ".join(doubtful))
    return rows


def _list_row(where: str, year: Year, machine: str, cells: list[str], corrected: bool) -> Truth:
    try:
        anonymous, labelled = (parse_name(name, year.layout) for name in cells[:2])
    except WheeltapperError as error:
        raise WheeltapperError(f"{where}: {error}") from error
    label, domain = labelled.label, labelled.domain
    if len(cells) == 3 and LABELS.get(cells[2]) != label:
        raise WheeltapperError(f"{where}: expected 0 (normal) or 1 (anomaly) as in {cells[1]}, found {cells[2]!r}")
    if not label or anonymous.label:
        raise WheeltapperError(f"{where}: expected anonymous.wav,labelled.wav, found {cells[0]},{cells[1]}")
    if anonymous.section != labelled.section or anonymous.domain not in ("", domain):
        raise WheeltapperError(f"{where}: expected two names of one section and domain, found {cells[0]},{cells[1]}")
    for defect in year.defects:
        if machine in defect.machines and anonymous.index != labelled.index and not corrected:
            raise WheeltapperError(f"{where}: refused: {defect.reason}")
    return Truth(machine, anonymous.section, cells[0], domain, label)


def _read_folder(path: Path, year: Year) -> list[Truth]:
    labels = _read_values(path / "ground_truth_data", LABELS, year)
    domains = {} if year.layout == "id" else _read_values(path / "ground_truth_domain", DOMAINS, year, required=False)
    rows = []
    for (machine, section, name), label in labels.items():
        domain = domains.get((machine, section, name)) or parse_name(name, year.layout).domain
        if not domain and year.layout != "id":
            raise WheeltapperError(
                f"{path / 'ground_truth_domain'}: expected the domain of {machine}/{name}, found none"
            )
        rows.append(Truth(machine, section, name, domain, label))
    return rows


def _read_values(
    folder: Path, meanings: dict[str, str], year: Year, required: bool = True
) -> dict[tuple[str, str, str], str]:
    values: dict[tuple[str, str, str], str] = {}
    named = ((file, _GROUND_TRUTH.fullmatch(file.name)) for file in sorted(folder.glob("*.csv")))
    files = [(file, match) for file, match in named if match]
    if required and not files:
        raise WheeltapperError(f"{folder}: expected ground_truth_<machine>_section_<NN>_test.csv, found none")
    for file, match in files:
        for where, cells in _lines(file):
            if len(cells) != 2 or cells[1] not in meanings:
                raise WheeltapperError(f"{where}: expected name.wav,0 or name.wav,1, found {','.join(cells)!r}")
            try:
                section = parse_name(cells[0], year.layout).section
            except WheeltapperError as error:
                raise WheeltapperError(f"{where}: {error}") from error
            key = (match["machine"], match["section"], cells[0])
            if section != match["section"] or key in values:
                raise WheeltapperError(f"{where}: expected a new clip of section {match['section']}, found {cells[0]}")
            values[key] = meanings[cells[1]]
    return values


def _lines(path: Path) -> list[tuple[str, list[str]]]:
    """Non-blank lines: file and line for messages, and stripped cells without trailing empty ones."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            lines = [(f"{path}: line {rows.line_num}", ",".join(row).rstrip(", ").split(",")) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected UTF-8 text with commas, found {error}") from error
    return [(where, [cell.strip() for cell in cells]) for where, cells in lines if cells != [""]]
