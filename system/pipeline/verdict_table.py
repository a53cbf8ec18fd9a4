"""The verdicts of a finished run on new recordings, as a table: CSV, JSON, terminal."""

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from system.experiment import Experiment
from system.files import open_atomic, write_json
from system.pipeline.judging import Judged
from system.record import run_record
from system.text_table import aligned

COLUMNS = (
    *("file", "machine", "section", "score", "threshold", "decision", "deviations"),
    *("worst_start", "worst_end", "remark", "error"),
)
SHOWN = ("file", "machine", "score", "threshold", "decision", "deviations")
WORST = ("worst_start", "worst_end")  # seconds; shown where a recording has several windows

Row = dict[str, Any]


def row(judged: Judged) -> Row:
    """One recording as a row with ``COLUMNS`` and the course of a long one; what is not known is None."""
    verdict = judged.verdict
    found: Row = dict.fromkeys(COLUMNS) | {"file": _text(judged.path), "error": _text(judged.error), "course": []}
    if verdict is not None:
        found |= {name: getattr(verdict, name) for name in COLUMNS[1:5]}
        found |= {"decision": "ANOMALY" if verdict.anomalous else "normal", "deviations": verdict.deviations}
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
    """Writes rows as JSON, with the system of the run (number from 1) that judged."""
    system = {"label": run.labels[number - 1], "view": run.config.systems[number - 1].view}
    write_json(path, {"system": system, "recordings": list(rows), **run_record()})


def show_errors(rows: Sequence[Row]) -> bool:
    """Prints to standard error why recordings were not scored; returns whether there were any such."""
    errors = [row["error"] for row in rows if row["error"]]
    for error in errors:
        print(f"wheeltapper score: {_printable(error)}", file=sys.stderr)
    return bool(errors)


def show(rows: Sequence[Row]) -> None:
    """Prints the scored recordings to standard output, and counts and remarks to standard error."""
    scored = [row for row in rows if not row["error"]]
    if scored:
        shown = (*SHOWN, *WORST) if any(row["course"] for row in scored) else SHOWN
        print(aligned([shown, *([_cell(row, name) for name in shown] for row in scored)]))
    found = sum(row["decision"] == "ANOMALY" for row in scored)
    failed = f", {len(rows) - len(scored)} not scored" if len(scored) < len(rows) else ""
    print(f"{len(scored)} recordings, {found} anomalous{failed}", file=sys.stderr)
    remarks = Counter((row["machine"], row["remark"]) for row in scored if row["remark"])
    for (machine, remark), count in remarks.items():
        print(f"note: {machine}: scores that may mean little, of {count} recordings: {remark}", file=sys.stderr)


def _text(value: object) -> str:
    """Text that can be written as UTF-8: bytes of a file name that are none become backslash and number."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _printable(text: str) -> str:
    """Text for one line of a terminal in whatever encoding."""
    line = text if text.isprintable() else ascii(text)[1:-1]
    encoding = sys.stdout.encoding or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _cell(row: Row, name: str) -> str:
    if name == "machine" and row["section"] != "00":
        return f"{row['machine']}/{row['section']}"
    if row[name] is None:
        return ""
    return f"{row[name]:.3f}" if isinstance(row[name], float) else _printable(str(row[name]))


def _exact(value: object) -> object:
    return "" if value is None else repr(value) if isinstance(value, float) else value
