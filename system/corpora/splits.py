"""Reads a table of recordings and splits it into training and test clips like DCASE, without splitting groups."""

import csv
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from system.corpora.simulation.acoustics import generator
from system.errors import WheeltapperError

REQUIRED = ("file", "machine", "label", "domain", "group")
OPTIONAL = ("attributes", "fault")
LABELS = ("normal", "anomaly")
DOMAINS = ("source", "target")


@dataclass(frozen=True)
class TableRecording:
    """A row of the table. ``file`` is the text in the table, ``path`` the actual file; ``group`` is never empty."""

    file: str
    path: Path
    machine: str
    label: str
    domain: str
    group: str
    attributes: str = ""
    fault: str = ""


def read_table(path: str | os.PathLike) -> list[TableRecording]:
    """Reads a table of machine recordings.

    Args:
        path: csv with a header; see REQUIRED and OPTIONAL for the columns. ``file`` is absolute or relative to the
            table's folder. A recording with an empty ``group`` is a group of its own. ``attributes`` is empty or
            ``key_value_key_value``.

    Returns:
        One entry per row.

    Raises:
        WheeltapperError: names the first line and column that are wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected a table of recordings, found nothing")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="", strict=True)
            header = reader.fieldnames or []
            missing = [name for name in REQUIRED if name not in header]
            if missing:
                raise WheeltapperError(
                    f"{path}: line 1: expected the columns {','.join(REQUIRED)}, found {','.join(header) or 'nothing'} "
                    f"(missing: {', '.join(missing)})"
                )
            recordings = [_parse(path, reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected UTF-8 text with commas, found {error}") from error
    if not recordings:
        raise WheeltapperError(f"{path}: expected at least one recording, found none")
    seen: set[tuple[str, Path]] = set()
    for recording in recordings:
        key = (recording.machine, recording.path.resolve())
        if key in seen:
            raise WheeltapperError(
                f"{path}: expected each recording once, found {recording.file} twice for {recording.machine}"
            )
        seen.add(key)
    return recordings


def _parse(table: Path, line: int, row: dict) -> TableRecording:
    row = {name: (row.get(name) or "").strip() for name in (*REQUIRED, *OPTIONAL)}
    for name, allowed in (("label", LABELS), ("domain", DOMAINS)):
        if row[name] not in allowed:
            raise WheeltapperError(
                f"{table}: line {line}: {name}: expected {' or '.join(allowed)}, found {row[name]!r}"
            )
    if not re.fullmatch(r"[A-Za-z0-9-]+", row["machine"]):
        raise WheeltapperError(
            f"{table}: line {line}: machine: expected letters, digits and hyphens, found {row['machine']!r}"
        )
    attributes = row["attributes"]
    if attributes in ("", "noAttribute"):
        attributes = ""
    elif not re.fullmatch(r"[\w.+-]+", attributes) or attributes.count("_") % 2 == 0 or "" in attributes.split("_"):
        raise WheeltapperError(f"{table}: line {line}: attributes: expected key_value pairs, found {attributes!r}")
    path = table.parent / row["file"]
    if not row["file"] or not path.is_file():
        raise WheeltapperError(f"{table}: line {line}: file: expected a recording, found no file {row['file']!r}")
    group = row["group"] or f"file {row['file']}"
    return TableRecording(
        row["file"], path, row["machine"], row["label"], row["domain"], group, attributes, row["fault"]
    )


@dataclass(frozen=True)
class Split:
    """Training and test recordings of one machine, and the recordings not used, each with the reason."""

    train: list[TableRecording]
    test: list[TableRecording]
    left_out: list[tuple[TableRecording, str]]


def split_machine(
    recordings: list[TableRecording], seed: int, train_source: int, train_target: int, test: int | None
) -> Split:
    """Splits the recordings of one machine by group.

    Groups with an anomaly are only used for testing. Normal target groups are used for training until ``train_target``
    recordings are reached, the rest for testing. Normal source groups are used for testing until there are enough, the
    rest for training.

    Args:
        recordings: recordings of one machine.
        seed: seed of the assignment of groups.
        train_source: largest number of normal source recordings for training.
        train_target: largest number of normal target recordings for training.
        test: largest number of test recordings for each domain and label; None for a balanced test set: each
            combination of domain and label that occurs gets the size of the smallest one, at most 50.

    Raises:
        WheeltapperError: too few recordings to train and test.
    """
    machine = recordings[0].machine
    rng = generator(seed, machine, "split")
    groups: dict[str, list[TableRecording]] = defaultdict(list)
    for recording in sorted(recordings, key=lambda recording: (recording.group, recording.file)):
        groups[recording.group].append(recording)
    shuffled = [list(groups.values())[k] for k in rng.permutation(len(groups))]
    with_anomalies = [group for group in shuffled if any(recording.label == "anomaly" for recording in group)]
    clean = [group for group in shuffled if all(recording.label == "normal" for recording in group)]
    of_target = [group for group in clean if any(recording.domain == "target" for recording in group)]
    of_source = [group for group in clean if all(recording.domain == "source" for recording in group)]
    if len(of_source) < 2:
        raise WheeltapperError(
            f"{machine}: expected at least 2 groups of normal source recordings without anomalies (to train "
            f"and to test), found {len(of_source)}"
        )
    pool = _Pool(with_anomalies)
    trained, tested = _deal(of_target, train_target)
    pool.add(tested)
    anomalies = [len(pool.cells[domain, "anomaly"]) for domain in DOMAINS]
    size = test if test is not None else min([50, *filter(None, (*anomalies, len(pool.cells["target", "normal"])))])
    # At least half of the source groups are used for training, even if the test set gets too small.
    for group in of_source[: len(of_source) // 2]:
        if len(pool.cells["source", "normal"]) < size:
            pool.add([group])
            tested.append(group)
    if test is None:
        size = min([size, *(len(cell) for cell in pool.cells.values() if cell)])
    source = [group for group in of_source if not any(group is other for other in tested)]
    return _collect(pool, trained, source, size, train_source, train_target, rng)


class _Pool:
    """Candidates for testing by domain and label, in the order of their groups."""

    def __init__(self, groups: list[list[TableRecording]]):
        self.cells: dict[tuple[str, str], list[TableRecording]] = {(d, label): [] for d in DOMAINS for label in LABELS}
        self.add(groups)

    def add(self, groups: list[list[TableRecording]]) -> None:
        for group in groups:
            for recording in group:
                self.cells[recording.domain, recording.label].append(recording)


def _deal(
    groups: list[list[TableRecording]], wanted: int
) -> tuple[list[list[TableRecording]], list[list[TableRecording]]]:
    """Splits groups into those with the first ``wanted`` recordings, and the rest; the first part is never empty."""
    count = 0
    for k, group in enumerate(groups):
        if count >= wanted:
            return groups[:k], groups[k:]
        count += len(group)
    return groups, []


def _collect(pool, trained, source, size: int, train_source: int, train_target: int, rng: np.random.Generator) -> Split:
    left_out: list[tuple[TableRecording, str]] = []

    def take(recordings: list[TableRecording], most: int, reason: str) -> list[TableRecording]:
        left_out.extend((recording, reason) for recording in recordings[most:])
        return recordings[:most]

    flat = [recording for group in (*trained, *source) for recording in group]
    train = take([r for r in flat if r.domain == "source"], train_source, "source training recordings are complete")
    train += take([r for r in flat if r.domain == "target"], train_target, "target training recordings are complete")
    test: list[TableRecording] = []
    for (domain, label), cell in pool.cells.items():
        order = rng.permutation(len(cell)) if label == "anomaly" else range(len(cell))
        test += take([cell[k] for k in order], size, f"test cell {domain} {label} is complete")
    return Split(train, test, left_out)
