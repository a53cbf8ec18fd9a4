"""The verdicts of a finished run on new recordings, as a table: CSV, JSON, terminal."""

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from system.experiment import Experiment
from system.false_alarms import false_alarm_text
from system.files import open_atomic, printable, read_json, write_json
from system.pipeline.judging import Judged
from system.record import run_record
from system.score_tables import FALSE_ALARMS, Group, threshold_key
from system.text_table import aligned

COLUMNS = (
    *("file", "machine", "section", "status", "score", "threshold", "decision", "deviations"),
    *("worst_start", "worst_end", "remark", "error"),
)
SHOWN = ("file", "machine", "score", "threshold", "decision", "deviations")
WORST = ("worst_start", "worst_end")  # seconds; shown where a recording has several windows
UNUSABLE = "UNUSABLE"  # decision and status of a recording that a broken or another sensor made
REMARKS = 20  # lines of remarks

Row = dict[str, Any]


def row(judged: Judged) -> Row:
    """One recording as a row with ``COLUMNS`` and the course of a long one; what is not known is None."""
    verdict = judged.verdict
    found: Row = dict.fromkeys(COLUMNS) | {
        "file": printable(str(judged.path)),
        "status": "error",
        "error": printable(judged.error),
    }
    found["course"] = []
    if verdict is not None:
        found |= {name: getattr(verdict, name) for name in ("machine", "section", "score", "threshold", "deviations")}
        found["decision"] = UNUSABLE if verdict.unusable else "ANOMALY" if verdict.anomalous else "normal"
        found["status"] = UNUSABLE if verdict.unusable else "judged"
        found["remark"] = verdict.remark
        if verdict.worst:
            found |= dict(zip(WORST, verdict.worst, strict=True))
            found["course"] = [{"start": start, "score": score} for start, score in verdict.course]
    return found


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows; numbers keep all their digits."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_exact(row[name]) for name in COLUMNS] for row in rows)


def write_results(path: Path, rows: Sequence[Row], run: Experiment, number: int) -> None:
    """Writes rows as JSON, with the system of the run (number from 1) that judged and its expected false alarms."""
    system = {"label": run.labels[number - 1], "view": run.config.systems[number - 1].view}
    expected = {threshold_key(*group): found for group, found in _expected(rows, run, number).items()}
    write_json(path, {"system": system, "false_alarms": expected, "recordings": list(rows), **run_record()})


def exit_status(rows: Sequence[Row]) -> int:
    """1 if a recording could not be read, else 4 if one is unusable, else 0."""
    statuses = {row["status"] for row in rows}
    return 1 if "error" in statuses else 4 if UNUSABLE in statuses else 0


def show_errors(rows: Sequence[Row]) -> None:
    """Prints to standard error why recordings were not judged."""
    for row in rows:
        if row["error"]:
            print(f"wheeltapper score: {_shown(row['error'])}", file=sys.stderr)


def show_false_alarms(rows: Sequence[Row], run: Experiment, number: int) -> None:
    """Prints to standard error what false alarms to expect of the thresholds that judged."""
    for (machine, section), found in list(_expected(rows, run, number).items())[:REMARKS]:
        print(f"note: {_shown(machine)} section {section}: {false_alarm_text(found)}", file=sys.stderr)


def _expected(rows: Sequence[Row], run: Experiment, number: int) -> dict[Group, Any]:
    """``false_alarms.expected_false_alarms`` of the machines and sections that were judged, where the run has them."""
    path = run.system(run.labels[number - 1]) / FALSE_ALARMS
    known = read_json(path) if path.is_file() else {}
    groups = dict.fromkeys((row["machine"], row["section"]) for row in rows if row["decision"])
    return {group: known[threshold_key(*group)] for group in groups if threshold_key(*group) in known}


def show(rows: Sequence[Row]) -> None:
    """Prints the judged recordings to standard output, and counts and remarks to standard error."""
    judged = [row for row in rows if not row["error"]]
    if judged:
        shown = (*SHOWN, *WORST) if any(row["course"] for row in judged) else SHOWN
        print(aligned([shown, *([_cell(row, name) for name in shown] for row in judged)]))
    decisions = Counter(row["decision"] for row in judged)
    counts = [f"{len(judged)} recordings", f"{decisions['ANOMALY']} anomalous"]
    counts += [f"{decisions[UNUSABLE]} unusable"] if decisions[UNUSABLE] else []
    counts += [f"{len(rows) - len(judged)} not scored"] if len(judged) < len(rows) else []
    print(", ".join(counts), file=sys.stderr)
    remarks: dict[tuple[str, bool, str], list[str]] = {}
    for row in judged:
        if row["remark"]:
            key = row["machine"], row["decision"] == UNUSABLE, row["remark"]
            remarks.setdefault(key, []).append(row["file"])
    for (machine, unusable, remark), files in list(remarks.items())[:REMARKS]:
        meaning = "unusable" if unusable else "scores that may mean little"
        whose = f"{len(files)} recordings" if len(files) > 1 else _shown(files[0])
        print(f"note: {machine}: {meaning}, {whose}: {remark}", file=sys.stderr)
    if len(remarks) > REMARKS:
        print(f"note: {len(remarks) - REMARKS} more remarks in --csv and --json", file=sys.stderr)


def _shown(text: str) -> str:
    """Text for one line of a terminal in whatever encoding."""
    line = text if text.isprintable() else ascii(text)[1:-1]
    encoding = sys.stdout.encoding or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _cell(row: Row, name: str) -> str:
    if name == "machine" and row["section"] != "00":
        return f"{row['machine']}/{row['section']}"
    value = row[name]
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else _shown(str(value))


def _exact(value: object) -> object:
    return "" if value is None else repr(value) if isinstance(value, float) else value
