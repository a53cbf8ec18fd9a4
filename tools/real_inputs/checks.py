"""What several cases expect of a command and of judged recordings."""

import re
from collections.abc import Iterable

from real_inputs.case import Failed, expect, shorten
from real_inputs.program import Ended, Judged, Row

# Exit statuses of ``score`` for recordings: all judged, some in error, something unusable.
JUDGED, IN_ERROR, UNUSABLE_STATUS = 0, 1, 4
NORMAL, ANOMALY, UNUSABLE = "normal", "ANOMALY", "UNUSABLE"


def no_traceback(ended: Ended) -> None:
    if "Traceback (most recent call last)" in ended.text:
        raise Failed(f"expected no traceback; found {shorten(ended.text, 500)}")


def well(ended: Ended, what: str = "the command") -> Ended:
    """Expects exit status 0."""
    no_traceback(ended)
    expect(ended.status == 0, f"{what} to end well", f"status {ended.status}: {ended.text}")
    return ended


def refused(ended: Ended, *parts: str) -> Ended:
    """Expects exit status 1 and one line of error that holds all of some regular expressions, whatever the case."""
    no_traceback(ended)
    expect(ended.status == 1, "a refusal with status 1", f"status {ended.status}: {ended.text}")
    said = [line for line in ended.err.splitlines() if line.startswith("wheeltapper ")]
    expect(len(said) == 1, "one line of error", ended.err)
    expect(len(said[0]) < 1500, "a line of less than 1500 letters", f"{len(said[0])}")
    named = [line for line in ended.err.splitlines() if all(re.search(part, line, re.IGNORECASE) for part in parts)]
    expect(named, f"a line that names {' and '.join(parts)}", ended.err)
    return ended


def named(ended: Ended, *parts: str) -> str:
    """Expects a line of the output that holds all of some regular expressions, whatever the case; returns it."""
    lines = ended.lines(*parts)
    expect(lines, f"a line with {' and '.join(parts)}", ended.text)
    return lines[0]


def judged(found: Judged, count: int) -> list[Row]:
    """Expects a row without an error for each of so many recordings; statuses other than those of errors."""
    no_traceback(found.ended)
    errors = [row.error for row in found.rows if row.error]
    expect(
        len(found.rows) == count and not errors and found.ended.status in (JUDGED, UNUSABLE_STATUS),
        f"{count} judged recordings",
        f"status {found.ended.status}, {len(found.rows)} rows, errors {errors[:2]}: {found.ended.err}",
    )
    return found.rows


def healthy(rows: Iterable[Row], most: int = 2) -> None:
    """Expects no more than so many alarms (one in ten is asked for), and no sensor that is called broken."""
    rows = list(rows)
    told = [(row.name, row.decision, round(row.deviations, 2)) for row in rows if row.decision != NORMAL]
    alarms = sum(row.decision == ANOMALY for row in rows)
    expect(alarms <= most and len(told) == alarms, f"{len(rows)} healthy recordings, at most {most} alarms", told)


def faulty(rows: Iterable[Row]) -> None:
    """Expects an alarm for each recording."""
    told = [(row.name, row.decision, round(row.deviations, 2)) for row in rows if row.decision != ANOMALY]
    expect(not told, "every fault to be flagged", told)


def remarked_or_healthy(rows: Iterable[Row], most: int = 2) -> None:
    """Expects a remark at each alarm beyond so many: the program says what it cannot judge."""
    silent = [(row.name, round(row.deviations, 2)) for row in rows if row.decision == ANOMALY and not row.remark]
    expect(len(silent) <= most, f"at most {most} alarms without a remark", silent)


def same_scores(rows: Iterable[Row], others: Iterable[Row], tolerance: float) -> None:
    """Expects the same decisions, and deviations that differ by no more than a tolerance."""
    for row, other in zip(rows, others, strict=True):
        expect(
            row.decision == other.decision and abs(row.deviations - other.deviations) <= tolerance,
            f"{other.decision} at {other.deviations:.3f} +- {tolerance} deviations",
            f"{row.decision} at {row.deviations:.3f} ({row.name})",
        )
