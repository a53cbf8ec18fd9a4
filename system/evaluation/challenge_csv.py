"""Reader and writer of the CSV files of a challenge submission.

A file has one line per clip, without a header, and two columns: the file name of a test clip, and its anomaly score or
decision (0 normal, 1 anomalous). The official evaluator pairs lines with clips by position after sorting, so it scores
files with any other format wrongly and without a warning. The reader therefore reports every deviation.
"""

import csv
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

from system import naming
from system.errors import WheeltapperError

SCORE, DECISION = KINDS = ("anomaly_score", "decision_result")
# Machine names are any text without path separators; the digits of the section end the name.
STANDARD = re.compile(rf"({SCORE}|{DECISION})_(.+)_section_([0-9]{{2}})(?:_test)?\.csv")
BASELINE = re.compile(rf"({SCORE}|{DECISION})_DCASE[0-9]{{4}}T2(.+)_section_([0-9]{{2}})_test_seed[0-9]+.*_Eval\.csv")
IDS = re.compile(rf"({SCORE})_(.+)_id_([0-9]{{2}})\.csv")

# A number as every program reads it: float() also takes underscores, the digits of all scripts, nan and inf.
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

Rows = list[tuple[str, float]]
Findings = list[tuple[int, str]]


def score_name(machine: str, section: str) -> str:
    """File name of the anomaly scores of a machine and section (two digits)."""
    return _name(SCORE, machine, section)


def decision_name(machine: str, section: str) -> str:
    """File name of the decisions of a machine and section (two digits)."""
    return _name(DECISION, machine, section)


def _name(kind: str, machine: str, section: str) -> str:
    name = f"{kind}_{machine}_section_{section}_test.csv"
    problem = naming.machine_problem(machine) or naming.section_problem(section)
    if problem or parse_name(name) != (kind, machine, section):
        raise WheeltapperError(f"{name!r}: {problem or 'expected a name of one machine and section, found another'}")
    return name


def parse_name(name: str) -> tuple[str, str, str] | None:
    """Parses the name of a challenge CSV.

    Args:
        name: file name as in 2021 and later (with or without ``_test``), as in 2020 (``_id_``), or as written by the
            baseline program (``..._DCASE<year>T2<machine>_section_<NN>_test_seed<seed><tag>_Eval``).

    Returns:
        Kind (SCORE or DECISION), machine and section; None for other file names.
    """
    for pattern in (BASELINE, STANDARD, IDS):
        match = pattern.fullmatch(name)
        if match:
            return match[1], match[2], match[3]
    return None


def list_folder(folder: str | os.PathLike) -> dict[tuple[str, str, str], Path]:
    """Finds the challenge CSVs in a folder; other files are ignored.

    Args:
        folder: the folder.

    Returns:
        (kind, machine, section) to path.

    Raises:
        WheeltapperError: no such folder, or two files for the same kind, machine and section.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise WheeltapperError(
            f"{folder}: expected a folder of challenge CSVs, found {'a file' * folder.exists() or 'nothing'}"
        )
    found: dict[tuple[str, str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        key = parse_name(path.name)
        if key is None or not path.is_file():
            continue
        if key in found:
            raise WheeltapperError(
                f"{folder}: expected one {key[0]} file for {key[1]} section {key[2]}, "
                f"found {found[key].name} and {path.name}"
            )
        found[key] = path
    return found


def write_scores(path: str | os.PathLike, scores: Mapping[str, float]) -> None:
    """Writes anomaly scores atomically, sorted by name and with full precision.

    Args:
        path: file to write.
        scores: file name of a clip to score.

    Raises:
        WheeltapperError: no scores, a score that is not finite, or a file name that the format cannot store.
    """
    for name, score in scores.items():
        if not math.isfinite(score):
            raise WheeltapperError(f"{path}: {name}: expected a finite score, found {score}")
    _write(path, {name: repr(float(score)) for name, score in scores.items()})


def write_decisions(path: str | os.PathLike, decisions: Mapping[str, int]) -> None:
    """Writes decisions atomically, sorted by name.

    Args:
        path: file to write.
        decisions: file name of a clip to 0 or 1.

    Raises:
        WheeltapperError: no decisions, another value, or a file name that the format cannot store.
    """
    for name, decision in decisions.items():
        if decision not in (0, 1):
            raise WheeltapperError(f"{path}: {name}: expected a decision of 0 or 1, found {decision}")
    _write(path, {name: str(int(decision)) for name, decision in decisions.items()})


def _write(path: str | os.PathLike, lines: Mapping[str, str]) -> None:
    from system.files import open_atomic

    if not lines:
        raise WheeltapperError(f"{path}: expected at least one clip to write, found none")
    for name in lines:
        if problem := naming.bare_file_problem(name):
            raise WheeltapperError(f"{path}: {problem}")
    with open_atomic(path) as file:
        file.writelines(f"{name},{lines[name]}\n" for name in sorted(lines))


def read(path: str | os.PathLike, kind: str = SCORE) -> Rows:
    """Reads a challenge CSV.

    Args:
        path: the file.
        kind: SCORE or DECISION.

    Returns:
        Pairs of file name and value, in the order of the file.

    Raises:
        WheeltapperError: names the line of the first finding of ``scan``.
    """
    rows, findings = scan(path, kind)
    if findings:
        line, message = findings[0]
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise WheeltapperError(f"{path}: line {line}: {message}{more}")
    return rows


def scan(path: str | os.PathLike, kind: str = SCORE) -> tuple[Rows, Findings]:
    """Reads a challenge CSV and returns its valid rows and all findings, see ``scan_bytes``.

    Raises:
        WheeltapperError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected a challenge CSV, found {'a folder' * path.is_dir() or 'nothing'}")
    return scan_bytes(path.read_bytes(), kind)


def scan_bytes(content: bytes, kind: str = SCORE) -> tuple[Rows, Findings]:
    """Reads the content of a challenge CSV.

    Windows line ends and spaces around the value are accepted. Findings are a byte-order mark, a header, tabs, blank
    lines, a wrong number of columns, a value that is not a finite number in plain digits or (for decisions) not 0 or
    1, a file name that is empty, has spaces around it or contains folders, and a file name that occurs twice.

    Args:
        content: content of the file.
        kind: SCORE or DECISION.

    Returns:
        Valid rows as (file name, value), and findings as (line number from 1, message).
    """
    rows: Rows = []
    findings: Findings = []
    if content.startswith(b"\xef\xbb\xbf"):
        findings.append((1, "expected plain UTF-8, found a byte-order mark, which becomes part of the first name"))
        content = content[3:]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return rows, [*findings, (content.count(b"\n", 0, error.start) + 1, f"expected UTF-8 text, found {error}")]
    lines = text.removesuffix("\n").split("\n")
    if not text.strip():
        return rows, [*findings, (1, "expected one line per clip, found an empty file")]
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        fields = _fields(line.removesuffix("\r"))
        fault = _fault(fields, number, kind)
        if fault:
            findings.append((number, fault))
            continue
        name, value = fields
        if name in first_line:
            findings.append((number, f"expected each clip once, found {name} as in line {first_line[name]}"))
            continue
        first_line[name] = number
        rows.append((name, float(value)))
    return rows, findings


def _fields(line: str) -> list[str]:
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error:
        return [line]


def _fault(fields: list[str], number: int, kind: str) -> str:
    """Message about what is wrong with a line, or empty."""
    what = "score" if kind == SCORE else "decision"
    line = ",".join(fields)
    if not line.strip():
        return "expected a file name and a number, found a blank line"
    if "\t" in line:
        return "expected a comma between file name and number, found a tab"
    if len(fields) != 2:
        return f"expected 2 columns, found {len(fields)}"
    name, text = fields
    try:
        value = float(text)
    except ValueError:
        if number == 1 and not Path(name.strip()).suffix:
            return f"expected no header, found {line!r}"
        return f"expected a number as the {what}, found {text!r}"
    if not math.isfinite(value):
        return f"expected a finite {what}, found {text.strip()}"
    if not NUMBER.fullmatch(text.strip(" ")):
        return f"expected a number in plain decimal digits as the {what}, found {text!r}"
    if kind == DECISION and value not in (0, 1):
        return f"expected a decision of 0 or 1, found {text.strip()}"
    if not name or name != name.strip() or "/" in name or "\\" in name:
        return f"expected a bare file name, found {name!r}"
    return ""
