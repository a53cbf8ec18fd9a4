"""Ground truth of the test clips, and its join with scores, always by file name and never by position."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from system.errors import WheeltapperError
from system.evaluation import roc

DOMAINS = ("source", "target")
LABELS = ("normal", "anomaly")
COLUMNS = ("machine", "section", "file", "domain", "label")

SectionKey = tuple[str, str]
Table = Mapping[SectionKey, Mapping[str, float]]


class Truth(NamedTuple):
    """A labelled test clip; ``domain`` may be empty if the rule of the year does not use domains."""

    machine: str
    section: str
    file: str
    domain: str
    label: str


@dataclass(frozen=True)
class JoinedSection:
    """Scores and ground truth of the test clips of one section."""

    key: SectionKey
    scores: np.ndarray  # (N,)
    anomalous: np.ndarray  # (N,) bool
    domain: np.ndarray  # (N,) 0 source, 1 target
    decided: np.ndarray | None  # (N,) bool

    def strata(self) -> tuple[list[np.ndarray], int]:
        """Tie groups of the clips in each stratum, and the number of tie groups.

        The strata are (source, target) x (normal, anomaly), in this order.
        """
        groups, size = roc.tie_groups(self.scores)
        return [
            groups[(self.domain == domain) & (self.anomalous == anomalous)]
            for domain in range(len(DOMAINS))
            for anomalous in (False, True)
        ], size


def read_truth(path: str | os.PathLike) -> list[Truth]:
    """Reads a truth.csv.

    Args:
        path: csv with at least the columns machine, section, file, domain and label, in any order.

    Returns:
        One entry per row.

    Raises:
        WheeltapperError: names the first line that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise WheeltapperError(
            f"{path}: expected a table of the ground truth, found {'a folder' * path.is_dir() or 'nothing'}"
        )
    rows: list[Truth] = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise WheeltapperError(
                    f"{path}: line 1: expected the columns {','.join(COLUMNS)}, found {','.join(header) or 'nothing'}"
                )
            places = [header.index(name) for name in COLUMNS]
            for row in filter(None, reader):
                if len(row) != len(header):
                    raise WheeltapperError(
                        f"{path}: line {reader.line_num}: expected {len(header)} columns, found {len(row)}"
                    )
                truth = Truth(*(row[place].strip() for place in places))
                _check_clip(truth, f"{path}: line {reader.line_num}")
                rows.append(truth._replace(section=truth.section.zfill(2)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected UTF-8 text with commas, found {error}") from error
    if not rows:
        raise WheeltapperError(f"{path}: expected at least one clip, found none")
    return rows


def check_domains(clips: Iterable[Truth]) -> None:
    """Raises WheeltapperError for a clip without a domain in a section whose other clips have one."""
    found = list(clips)
    known = {clip[:2] for clip in found if clip.domain}
    for clip in found:
        if not clip.domain and clip[:2] in known:
            raise WheeltapperError(
                f"{clip.machine} section {clip.section}: {clip.file}: domain: expected source or target as its other "
                "clips have, found none"
            )


def _check_clip(clip: Truth, where: str) -> None:
    for name in ("machine", "section", "file"):
        if not getattr(clip, name):
            raise WheeltapperError(f"{where}: {name}: expected text, found nothing")
    if clip.domain not in (*DOMAINS, ""):
        raise WheeltapperError(f"{where}: domain: expected source, target or (empty), found {clip.domain!r}")
    if clip.label not in LABELS:
        raise WheeltapperError(f"{where}: label: expected normal or anomaly, found {clip.label!r}")


def join(scores: Table, decisions: Table | None, truth: Iterable[Truth], domains: bool) -> list[JoinedSection]:
    """Joins scores and decisions with the ground truth by file name.

    Args:
        scores: (machine, section) to {file: score}; sections that are not in the ground truth are ignored.
        decisions: (machine, section) to {file: 0 or 1}, or None.
        truth: the labelled test clips.
        domains: whether domains are needed.

    Returns:
        Sections, sorted by key.

    Raises:
        WheeltapperError: a machine without scores, a clip without score, a score without clip, a clip that occurs
            twice, a score that is not finite, or a missing domain.
    """
    clips: dict[SectionKey, dict[str, Truth]] = {}
    for clip in truth:
        _check_clip(clip, f"truth: {clip.machine} {clip.file}")
        section = clips.setdefault((clip.machine, clip.section), {})
        if clip.file in section:
            raise WheeltapperError(
                f"truth: {clip.machine} section {clip.section}: expected each clip once, found {clip.file} twice"
            )
        section[clip.file] = clip
    if not clips:
        raise WheeltapperError("truth: expected at least one clip, found none")
    missing = [f"{machine} section {section}" for machine, section in sorted(clips) if (machine, section) not in scores]
    if missing:
        raise WheeltapperError(
            f"scores: expected every machine of the ground truth, found none for {', '.join(missing)}"
        )
    return [_join_section(key, clips[key], scores[key], (decisions or {}).get(key), domains) for key in sorted(clips)]


def _join_section(
    key: SectionKey,
    clips: Mapping[str, Truth],
    scores: Mapping[str, float],
    decisions: Mapping[str, float] | None,
    domains: bool,
) -> JoinedSection:
    where = f"{key[0]} section {key[1]}"
    files = sorted(clips)
    _check_names(where, "scores", files, scores)
    values = np.array([scores[file] for file in files], dtype=np.float64)
    if not np.isfinite(values).all():
        bad = files[int(np.argmin(np.isfinite(values)))]
        raise WheeltapperError(f"{where}: {bad}: expected a finite score, found {scores[bad]}")
    decided = None
    if decisions is not None:
        _check_names(where, "decisions", files, decisions)
        decided = np.array([decisions[file] for file in files], dtype=np.float64)
        if not np.isin(decided, (0, 1)).all():
            bad = files[int(np.argmin(np.isin(decided, (0, 1))))]
            raise WheeltapperError(f"{where}: {bad}: expected a decision of 0 or 1, found {decisions[bad]}")
        decided = decided == 1
    kinds = [clips[file].domain if domains else DOMAINS[0] for file in files]
    if "" in kinds:
        bad = files[kinds.index("")]
        raise WheeltapperError(f"{where}: {bad}: expected the domain source or target in the truth, found none")
    anomalous = np.array([clips[file].label == "anomaly" for file in files])
    return JoinedSection(key, values, anomalous, np.array([DOMAINS.index(kind) for kind in kinds]), decided)


def _check_names(where: str, what: str, files: Sequence[str], found: Mapping[str, float]) -> None:
    missing = [file for file in files if file not in found]
    expected = set(files)
    unexpected = sorted(file for file in found if file not in expected)
    faults = [
        f"{len(names)} {fault} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
        for fault, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if faults:
        raise WheeltapperError(
            f"{where}: {what}: expected exactly the {len(files)} clips of the truth, found {' and '.join(faults)}"
        )
