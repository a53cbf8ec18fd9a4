"""The official score of many choices at once, computed from calibrated scores.

The arithmetic equals that of the stages score, fuse and evaluate operation by operation, so that ties are equal too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from system import windows
from system.corpora.challenge import rule_of_year
from system.evaluation import metrics
from system.evaluation.truth import DOMAINS, Truth
from system.manifest import Row
from system.score_tables import ScoreRow
from system.scoring import calibrate
from system.tuning.space import Points, Space

BLOCK = 64  # choices evaluated at once, to limit memory


@dataclass(frozen=True)
class UnitWindows:
    """The score columns of a unit, some of whose clips have several windows.

    Attributes:
        clips: windows of each clip, in the order of their columns.
        references: number of the references' columns, which come after those of all clips.
    """

    clips: Sequence[Sequence[ScoreRow]]
    references: int

    def collapse(self, scores: np.ndarray) -> np.ndarray:
        """Scores (T, columns) to those of the clips (T, n), as ``fused_scores.collapse`` computes them."""
        tests, references = np.split(scores, [scores.shape[1] - self.references], axis=1)
        tails = np.array([windows.tail_scale(row) for row in references])
        parts = np.split(tests, np.cumsum([len(own) for own in self.clips])[:-1], axis=1)
        found = [windows.scores(own, part, tails).max(axis=1) for own, part in zip(self.clips, parts, strict=True)]
        return np.stack(found, axis=1)


@dataclass(frozen=True)
class ScoredSection:
    """The labelled test clips of one machine and section of one run.

    Attributes:
        run: index of the run.
        machine: name of the machine.
        name: name of the machine in tables of several runs.
        section: of the machine.
        columns: position of the unit in the score arrays: its clips, or all that ``windows`` needs.
        strata: 2 * (1 for target) + (1 for an anomaly), (n,).
        clips: ground truth, in the same order.
        windows: None where every clip is one window.
    """

    run: int
    machine: str
    name: str
    section: str
    columns: slice
    strata: np.ndarray
    clips: tuple[Truth, ...]
    windows: UnitWindows | None = None

    def of_clips(self, scores: np.ndarray) -> np.ndarray:
        """Scores (T, all columns) to those of the clips (T, n)."""
        own = scores[:, self.columns]
        return self.windows.collapse(own) if self.windows else own


class Objective:
    """Official metrics of choices.

    Args:
        space: space of the choices.
        units: machines and sections to evaluate, with adjacent columns.
        scores: calibrated scores of each branch, float64 (views, scorers, columns).
        year: selects the official rule.
    """

    def __init__(self, space: Space, units: Sequence[ScoredSection], scores: Mapping[str, np.ndarray], year: int):
        self.space, self.units = space, list(units)
        self.scores = [scores[branch] for branch in space.scorers]
        self.rule = rule_of_year(year)
        how = metrics.RULES[self.rule]
        self.official = {name: how.measures[name] for name in how.official}

    @property
    def machines(self) -> list[str]:
        """Names of the machines; machines of the same name in several runs count as one."""
        return sorted({unit.machine for unit in self.units})

    def fused(self, points: Points) -> np.ndarray:
        """Fused scores (T, columns) of T choices; equals ``calibrate.fuse`` of each."""
        minimum = np.array([name == "minimum" for name in self.space.fusions])[points.fusions]
        totals = sum(points.weights.T)  # in the order of the branches, as in calibrate.fuse
        shares = points.weights / totals[:, None]
        fused = np.zeros((len(points), self.scores[0].shape[-1]))
        lowest = np.full(fused.shape if minimum.any() else (1, 1), np.inf)
        for number, table in enumerate(self.scores):
            each = table[points.views, points.scorers[:, number]]
            fused += shares[:, number, None] * each
            if minimum.any():
                used = points.weights[:, number, None] > 0
                lowest = np.minimum(lowest, np.where(used, each, np.inf))
        return np.where(minimum[:, None], lowest, fused) if minimum.any() else fused

    def measures(self, points: Points) -> np.ndarray:
        """Official metrics (T, units, measures) of T choices."""
        found = np.empty((len(points), len(self.units), len(self.official)))
        for start in range(0, len(points), BLOCK):
            rows = slice(start, start + BLOCK)
            fused = self.fused(points[rows])
            for number, unit in enumerate(self.units):
                counts = _counts(unit.of_clips(fused), unit.strata)
                values = metrics.measure(counts, self.official)
                found[rows, number] = np.stack([values[name] for name in self.official], axis=-1)
        return found

    def score(self, measures: np.ndarray, machines: Sequence[str] | None = None) -> np.ndarray:
        """Official scores (T,) of metrics (T, units, measures), over some machines or all."""
        sections = {
            (unit.name, unit.section): dict(zip(self.official, np.moveaxis(measures[:, number], -1, 0), strict=True))
            for number, unit in enumerate(self.units)
            if machines is None or unit.machine in machines
        }
        return metrics.official_score(sections, self.rule)

    def table(self, points: Points) -> dict[tuple[str, str], dict[str, float]]:
        """Scores by clip of each unit, for ``metrics.evaluate``.

        Args:
            points: one choice for all units, or one per unit.
        """
        fused = self.fused(points)
        result = {}
        for number, unit in enumerate(self.units):
            place = number if len(points) > 1 else 0
            (row,) = unit.of_clips(fused[place : place + 1])
            result[unit.name, unit.section] = dict(zip((clip.file for clip in unit.clips), row.tolist(), strict=True))
        return result

    def evaluate(self, points: Points, replicates: int, seed: int) -> dict:
        """``metrics.evaluate`` of one choice, or of one per unit."""
        truth = [clip._replace(machine=unit.name) for unit in self.units for clip in unit.clips]
        return metrics.evaluate(self.table(points), None, truth, self.rule, replicates, seed)


def _counts(scores: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Number of clips in each stratum and group of ties, highest score first.

    Args:
        scores: (T, n).
        strata: (n,).

    Returns:
        (T, 4, groups); choices with fewer groups have empty ones at the end.
    """
    trials, size = scores.shape
    order = np.argsort(-scores, axis=1)
    ordered = np.take_along_axis(scores, order, axis=1)
    groups = np.zeros((trials, size), np.int64)
    np.cumsum(ordered[:, 1:] != ordered[:, :-1], axis=1, out=groups[:, 1:])
    place = (np.arange(trials)[:, None] * 4 + strata[order]) * size + groups
    return np.bincount(place.ravel(), minlength=trials * 4 * size).reshape(trials, 4, size).astype(np.float64)


def calibrated(scores: np.ndarray, keys: Sequence[Row]) -> np.ndarray:
    """Robust z-scores of one run, branch and scorer, per machine and section.

    Args:
        scores: (N,).
        keys: ``Clip.row`` of each; leave-one-out scores of the training clips calibrate.
    """
    result = np.empty(len(scores))
    groups: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault((key[0], key[1]), []).append(row)
    for rows in groups.values():
        train = [row for row in rows if keys[row][2] == "train"]
        result[rows] = calibrate.robust_z(scores[train])(scores[rows])
    return result


def strata(clips: Sequence[Truth], domains: bool) -> np.ndarray:
    """Stratum of each clip, (n,): 2 * domain + anomalous; without ``domains`` all clips count as source."""
    return np.array(
        [2 * (DOMAINS.index(clip.domain) if domains else 0) + (clip.label == "anomaly") for clip in clips], np.int64
    )
