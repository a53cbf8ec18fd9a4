"""Fused scores of systems: branches are calibrated and fused by windows, windows are collapsed to recordings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from system import windows
from system.config import AutoencoderBranchConfig, SystemConfig
from system.errors import WheeltapperError
from system.files import read_json
from system.groups import connected
from system.manifest import group_by
from system.score_tables import Group, ScoreRow
from system.scoring import calibrate

if TYPE_CHECKING:
    from system.experiment import Experiment


def raw_thresholds(run: "Experiment", system: SystemConfig) -> dict[str, float] | None:
    """Thresholds on uncalibrated scores, for systems with ``threshold: batches``.

    Args:
        run: the experiment, whose branch has stored its losses on training batches.
        system: a system of one branch.

    Returns:
        Machine to threshold, or None if the system takes its thresholds from the references.

    Raises:
        WheeltapperError: no distribution can be fitted to the losses of a machine.
    """
    if system.threshold == "references":
        return None
    name = next(name for name, weight in system.weights.items() if weight > 0)
    branch = run.config.branches[name]
    if not isinstance(branch, AutoencoderBranchConfig):
        raise ValueError(f"branch {name}: a {branch.kind} branch has no losses on batches")
    thresholds = {}
    for machine, losses in read_json(run.batches(name)).items():
        try:
            thresholds[machine] = calibrate.gamma_threshold(
                losses[branch.autoencoder.score], run.config.false_positive_rate
            )
        except WheeltapperError as error:
            raise WheeltapperError(f"{machine}: {error}") from error
    return thresholds


def fuse_windows(branches: Mapping[str, Sequence[ScoreRow]], system: SystemConfig) -> list[ScoreRow]:
    """Calibrates the branches of one system and fuses them into one score per window.

    Args:
        branches: branch name to rows; all branches have the same windows.
        system: weights and fusion.

    Raises:
        WheeltapperError: branches with different clips, or invalid weights.
    """
    used = {name: weight for name, weight in system.weights.items() if weight > 0}
    tables = {name: {row.row: row for row in branches[name]} for name in used}
    first = next(iter(tables.values()))
    all_rows = list(first.values())
    for name, table in tables.items():
        if table.keys() != first.keys():
            odd = next(iter(table.keys() ^ first.keys()))
            raise WheeltapperError(
                f"branch {name}: expected the same clips in all branches, {'/'.join(map(str, odd))} is in one"
            )
    rows: list[ScoreRow] = []
    for members in group_by(all_rows, "machine", "section").values():
        own = [all_rows[index] for index in members]
        train = np.array([row.split == "train" for row in own])
        calibrated = {}
        for name, table in tables.items():
            scores = np.array([table[row.row].score for row in own])
            calibrated[name] = calibrate.robust_z(scores[train])(scores)
        fused = calibrate.fuse(calibrated, used, system.fusion)
        rows += [replace(row, score=float(score)) for row, score in zip(own, fused, strict=True)]
    return rows


def fuse_system(
    branches: Mapping[str, Sequence[ScoreRow]],
    system: SystemConfig,
    false_positive_rate: float,
    raw_thresholds: Mapping[str, float] | None = None,
) -> tuple[list[ScoreRow], dict[Group, float]]:
    """Calibrates the branches of one system and fuses them into one score per clip.

    Args:
        branches: branch name to rows; all branches have the same windows.
        system: weights and fusion.
        false_positive_rate: target fraction of normal clips above the threshold.
        raw_thresholds: machine to threshold on the uncalibrated scores of a single branch, instead of thresholds from
            the references.

    Returns:
        Fused rows of recordings (``collapse``), and (machine, section) to threshold.

    Raises:
        WheeltapperError: branches with different clips, or invalid weights.
    """
    fused, rows = fuse_windows(branches, system), []
    thresholds: dict[Group, float] = {}
    single: Sequence[ScoreRow] = branches[system.branches[0]] if raw_thresholds is not None else ()
    raw = group_by(single, "machine", "section", "split")
    for group, members in group_by(fused, "machine", "section").items():
        own = collapse([fused[index] for index in members])
        references = [row for row in own if row.split == "train"]
        rows += own
        if raw_thresholds is None:
            thresholds[group] = threshold(references, false_positive_rate)
        else:
            scores = np.array([single[index].score for index in raw.get((*group, "train"), ())])
            thresholds[group] = float(calibrate.robust_z(scores)(raw_thresholds[group[0]]))
    return rows, thresholds


def threshold(references: Sequence[ScoreRow], false_positive_rate: float) -> float:
    """Threshold from the fused rows of a machine's references, see ``calibrate.threshold``."""
    scores, domains = (np.array([getattr(row, name) for row in references]) for name in ("score", "domain"))
    return calibrate.threshold(scores, domains, false_positive_rate, connected([row.group for row in references]))


def collapse(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Scores of recordings from the scores of their windows.

    The score of a test clip is the highest of ``windows.scores``. Thresholds are for single windows, so that of a
    reference those of its windows that do not overlap count, each as one.

    Args:
        rows: of one machine and section, by start, references among them.

    Returns:
        One row per test clip and such window of a reference, in order of first appearance.
    """
    found: list[ScoreRow] = []
    for own in by_recording(rows):
        kept = windows.disjoint(own)
        if own[0].split == "train" and len(kept) > 1:
            found += kept
        else:
            score = max(row.score for row in (kept if own[0].split == "train" else own))
            found.append(replace(own[0], score=score, start=0, window=0))
    return found


def by_recording(rows: Sequence[ScoreRow]) -> list[list[ScoreRow]]:
    """The windows of each recording, those of test clips with their ``windows.scores``.

    Args:
        rows: of one machine and section, by start, references among them.
    """
    tail = windows.tail_scale(np.array([row.score for row in rows if row.split == "train"]))
    found = []
    for members in group_by(rows, "split", "file").values():
        own = [rows[index] for index in members]
        if own[0].split == "test":
            scores = windows.scores(own, np.array([row.score for row in own]), tail)
            own = [replace(row, score=float(score)) for row, score in zip(own, scores, strict=True)]
        found.append(own)
    return found


def courses(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Of test clips of several windows the ``windows.scores`` of all: the highest is the clip's."""
    groups = group_by(rows, "machine", "section").values()
    recordings = [own for members in groups for own in by_recording([rows[index] for index in members])]
    return [row for own in recordings if len(own) > 1 and own[0].split == "test" for row in own]
