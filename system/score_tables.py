"""Tables of scores: of the windows and recordings of a run, and the files of a system."""

import csv
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from system.errors import WheeltapperError
from system.evaluation import challenge_csv
from system.files import open_atomic, write_json
from system.manifest import Key, Row, group_by

Group = tuple[str, str]  # machine, section

COLUMNS = ("machine", "section", "split", "file", "domain", "score")
MORE = {"group": "", "start": 0, "window": 0}  # further columns, where any row has another value
REFERENCES = "references.csv"
COURSES = "courses.csv"
THRESHOLDS = "thresholds.json"
FALSE_ALARMS = "false_alarms.json"


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Score of a test clip (split ``test``, empty domain), or leave-one-out score of a reference (split ``train``).

    References of the same ``group`` were left out together; an empty one stands for a single clip. ``start`` and
    ``window`` as of a ``Clip``: zero where the row is of a whole recording.
    """

    machine: str
    section: str
    split: str
    file: str
    domain: str
    score: float
    group: str = ""
    start: int = 0
    window: int = 0

    @property
    def key(self) -> Key:
        return (self.machine, self.section, self.split, self.file)

    @property
    def row(self) -> Row:
        return (*self.key, self.start, self.window) if self.window else self.key

    @classmethod
    def of(cls, row: Row, domain: str, score: float) -> "ScoreRow":
        """The score of a recording or window."""
        found = cls(*row[:4], domain, score)
        return replace(found, start=row[4], window=row[5]) if len(row) == 6 else found


def write_system(
    folder: str | os.PathLike,
    rows: Sequence[ScoreRow],
    thresholds: Mapping[Group, float],
    expected: Mapping[str, Any] | None = None,
    course: Sequence[ScoreRow] = (),
) -> list[Path]:
    """Writes the challenge CSVs of one system, and its reference scores and thresholds for later checks.

    Args:
        folder: folder of the system.
        rows: fused rows.
        thresholds: (machine, section) to threshold.
        expected: false-alarm rates of ``false_alarms.expected_false_alarms``, or None where nothing is known.
        course: ``fused_scores.courses`` of its test clips; without any there is no file of them.

    Returns:
        The files written.
    """
    folder = Path(folder)
    written = []
    members = group_by(rows, "machine", "section", "split")
    for (machine, section), threshold in thresholds.items():
        tests = [rows[index] for index in members.get((machine, section, "test"), ())]
        scores = {row.file: row.score for row in tests}
        if not scores:
            continue
        written.append(folder / challenge_csv.score_name(machine, section))
        challenge_csv.write_scores(written[-1], scores)
        written.append(folder / challenge_csv.decision_name(machine, section))
        challenge_csv.write_decisions(written[-1], {name: int(score > threshold) for name, score in scores.items()})
    written += [folder / REFERENCES, folder / THRESHOLDS]
    write_rows(folder / REFERENCES, [row for row in rows if row.split == "train"])
    write_json(folder / THRESHOLDS, {threshold_key(*group): threshold for group, threshold in thresholds.items()})
    if course:
        written.append(folder / COURSES)
        write_rows(written[-1], course)
    if expected is not None:
        written.append(folder / FALSE_ALARMS)
        write_json(written[-1], expected)
    return written


def threshold_key(machine: str, section: str) -> str:
    """Key of a machine and section in the file THRESHOLDS."""
    return f"{machine}_section_{section}"


def write_rows(path: str | os.PathLike, rows: Iterable[ScoreRow]) -> None:
    """Writes scores as csv with full precision, atomically; columns of ``MORE`` where they say something."""
    rows = list(rows)
    more = [name for name, usual in MORE.items() if any(getattr(row, name) != usual for row in rows)]
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *more])
        for row in rows:
            known = [getattr(row, name) for name in COLUMNS[:-1]]
            writer.writerow([*known, repr(row.score), *(getattr(row, name) for name in more)])


def read_rows(path: str | os.PathLike) -> list[ScoreRow]:
    """Reads the file of ``write_rows``.

    Raises:
        WheeltapperError: the file is missing or damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        kinds: list[Any] = [type(MORE[name]) for name in header[len(COLUMNS) :]]
        intern = sys.intern  # one copy of a name in all tables
        return [
            ScoreRow(
                intern(machine),
                intern(section),
                intern(split),
                intern(file),
                intern(domain),
                float(score),
                **{name: kind(text) for name, kind, text in zip(header[len(COLUMNS) :], kinds, more, strict=True)},
            )
            for machine, section, split, file, domain, score, *more in lines
        ]
    except (OSError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise WheeltapperError(f"{path}: expected scores ({','.join(COLUMNS)}), found damage ({error})") from error
