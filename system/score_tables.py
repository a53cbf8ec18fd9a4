"""Scores of whole runs: each machine and section is scored against its own normal references, for every branch."""

import csv
import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from system import scoring, windows
from system.config import AutoencoderBranchConfig, ScorerConfig, SystemConfig
from system.errors import WheeltapperError
from system.evaluation import challenge_csv
from system.files import open_atomic, read_json, write_json
from system.manifest import WINDOW, Clip, Key, Row, group_by
from system.scoring import calibrate
from system.scoring.banks import note_of

if TYPE_CHECKING:
    from system.experiment import Experiment

log = logging.getLogger(__name__)

COLUMNS = ("machine", "section", "split", "file", "domain", "score")
REFERENCES = "references.csv"
COURSES = "courses.csv"
THRESHOLDS = "thresholds.json"


@dataclass(frozen=True)
class ScoreRow:
    """Score of a test clip (split ``test``, empty domain), or leave-one-out score of a reference (split ``train``).

    ``start`` and ``window`` as of a ``Clip``: zero where the row is of a whole recording.
    """

    machine: str
    section: str
    split: str
    file: str
    domain: str
    score: float
    start: int = 0
    window: int = 0

    @property
    def key(self) -> Key:
        return (self.machine, self.section, self.split, self.file)

    @property
    def row(self) -> Row:
        return (*self.key, self.start, self.window) if self.window else self.key


def score_machines(
    clips: Sequence[Clip],
    embeddings: Mapping[Row, np.ndarray],
    config: ScorerConfig,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> list[ScoreRow]:
    """Scores all clips of a run with one branch.

    The scorer sees arrays in shuffled order, without names. Labels of test clips are never read.

    Args:
        clips: clips of the manifest.
        embeddings: ``Clip.row`` to embedding (D,) or (bands, D); a clip has one for each of its windows.
        config: name and settings of the scorer.
        seed: seed of the shuffling.
        progress: called with the number of clips scored since the last call.

    Returns:
        One row per window, sorted by machine, section, split, file and start.

    Raises:
        WheeltapperError: a machine and section without references, or with clips that have no embedding.
    """
    rows: list[ScoreRow] = []
    known = {row[:4] for row in embeddings}
    for (machine, section), (references, tests) in shuffled(clips, seed).items():
        if not references and not tests:
            continue
        missing = [clip.file for clip in references + tests if clip.key not in known]
        if missing or not references:
            found = f"no embedding of {missing[0]} (run stage 3 again)" if missing else "no normal training clip"
            raise WheeltapperError(f"{machine} section {section}: expected embedded training clips, found {found}")
        normal, judged = windows.stored(references, embeddings), windows.stored(tests, embeddings)
        try:
            scorer = fit_scorer(normal, embeddings, config)
            if note := note_of(scorer):
                log.warning("%s section %s: %s", machine, section, note)
            reference_scores = scorer.reference_scores()
            test_scores = scorer.score(_matrix(judged, embeddings)) if judged else np.empty(0)
        except (WheeltapperError, ValueError) as error:
            raise WheeltapperError(f"{machine} section {section}: {error}") from error
        rows += [scored(clip, clip.domain, score) for clip, score in zip(normal, reference_scores, strict=True)]
        rows += [scored(clip, "", score) for clip, score in zip(judged, test_scores, strict=True)]
        if progress:
            progress(len(references) + len(tests))
    return sorted(rows, key=lambda row: row.row)


def scored(clip: Clip, domain: str, score: float) -> ScoreRow:
    """The row of a clip or window."""
    return ScoreRow(*clip.key, domain, float(score), clip.start, clip.window)


def shuffled(clips: Sequence[Clip], seed: int) -> dict[tuple[str, str], tuple[list[Clip], list[Clip]]]:
    """Shuffles the clips of each machine and section.

    Args:
        clips: clips of the manifest.
        seed: seed of the shuffling.

    Returns:
        (machine, section) to references and test clips, in the order in which the scorer gets them.
    """
    generator, found = np.random.default_rng(seed), {}
    for group, members in group_by(clips, "machine", "section").items():
        references = [clips[i] for i in members if clips[i].split == "train"]
        tests = [clips[i] for i in members if clips[i].split == "test"]
        references = [references[i] for i in generator.permutation(len(references))]
        found[group] = (references, [tests[i] for i in generator.permutation(len(tests))])
    return found


def fit_scorer(
    references: Sequence[Clip], embeddings: Mapping[Row, np.ndarray], config: ScorerConfig
) -> scoring.Scorer:
    """Fits the scorer of a branch to the normal references of one machine and section.

    Args:
        references: windows of normal clips; an unknown domain counts as source. Those of one piece
            (``windows.pieces``) are left out together.
        embeddings: ``Clip.row`` to embedding (D,) or (bands, D).
        config: name and settings of the scorer.

    Raises:
        WheeltapperError: all references are of one piece, or too few.
    """
    matrix, domains = _matrix(references, embeddings), np.array([clip.domain or "source" for clip in references])
    groups = windows.pieces(references)
    if groups.max(initial=0) + 1 == len(groups):
        scorer = scoring.build(config.name, **config.settings)
        scorer.fit(matrix, domains)
        return scorer
    return LeftOut(config).fit(matrix, domains, groups)


class LeftOut:
    """A scorer whose references are left out by groups: it is fitted once more without each group."""

    def __init__(self, config: ScorerConfig):
        self.config = config

    def fit(self, references: np.ndarray, domains: np.ndarray, groups: np.ndarray | None = None) -> "LeftOut":
        groups = np.arange(len(references)) if groups is None else groups
        count = int(groups.max()) + 1
        if count < 2:
            raise WheeltapperError("normal references: expected at least 2 recordings, or one of 4 windows, found less")
        self.scorer, self.own = self._fitted(references, domains), np.empty(len(references))
        for group in range(count):
            out = groups == group
            self.own[out] = self._fitted(references[~out], domains[~out]).score(references[out])
        self.note = note_of(self.scorer)
        return self

    def _fitted(self, references: np.ndarray, domains: np.ndarray) -> scoring.Scorer:
        scorer = scoring.build(self.config.name, **self.config.settings)
        scorer.fit(references, domains)
        return scorer

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        return self.scorer.score(embeddings)

    def reference_scores(self) -> np.ndarray:
        return self.own


def _matrix(clips: Sequence[Clip], embeddings: Mapping[Row, np.ndarray]) -> np.ndarray:
    """Rows as scorers take them. In single precision a sum depends on the order of the clips, which must not count."""
    return np.stack([embeddings[clip.row] for clip in clips], dtype=np.float64)


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
    for name, table in tables.items():
        if table.keys() != first.keys():
            odd = next(iter(table.keys() ^ first.keys()))
            raise WheeltapperError(
                f"branch {name}: expected the same clips in all branches, {'/'.join(map(str, odd))} is in one"
            )
    rows: list[ScoreRow] = []
    for members in group_by(list(first.values()), "machine", "section").values():
        own = [list(first.values())[index] for index in members]
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
) -> tuple[list[ScoreRow], dict[tuple[str, str], float]]:
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
    thresholds: dict[tuple[str, str], float] = {}
    for group, members in group_by(fused, "machine", "section").items():
        own = collapse([fused[index] for index in members])
        references = [row for row in own if row.split == "train"]
        rows += own
        if raw_thresholds is None:
            scores, domains = (np.array([getattr(row, name) for row in references]) for name in ("score", "domain"))
            thresholds[group] = calibrate.threshold(scores, domains, false_positive_rate)
        else:
            (name,) = system.branches
            raw = [r.score for r in branches[name] if (r.machine, r.section, r.split) == (*group, "train")]
            thresholds[group] = float(calibrate.robust_z(np.array(raw))(raw_thresholds[group[0]]))
    return rows, thresholds


def collapse(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Scores of recordings from the scores of their windows.

    The score of a test clip is the highest of ``windows.scores``. References are collapsed by pieces
    (``windows.pieces``), so that each is a recording or a stretch of one.

    Args:
        rows: of one machine and section, references among them.

    Returns:
        One row per test clip and piece of references, in order of first appearance.
    """
    recordings = by_recording(rows)
    parts = Counter(own[0].key for own in recordings)
    found = []
    for own in recordings:
        start, window = windows.span(own) if parts[own[0].key] > 1 else (0, 0)
        found.append(replace(own[0], score=max(row.score for row in own), start=start, window=window))
    return found


def by_recording(rows: Sequence[ScoreRow]) -> list[list[ScoreRow]]:
    """The windows of each test clip and piece of references with their ``windows.scores``.

    Args:
        rows: of one machine and section, by start, references among them.
    """
    references = [row for row in rows if row.split == "train"]
    tail = windows.tail_scale(np.array([row.score for row in references]))
    pieces = iter(windows.pieces(references).tolist())
    members: dict[Hashable, list[ScoreRow]] = {}
    for row in rows:
        members.setdefault(next(pieces) if row.split == "train" else row.key, []).append(row)
    found = []
    for own in members.values():
        scores = windows.scores(own, np.array([row.score for row in own]), tail)
        found.append([replace(row, score=float(score)) for row, score in zip(own, scores, strict=True)])
    return found


def courses(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Of test clips of several windows the ``windows.scores`` of all: the highest is the clip's."""
    groups = group_by(rows, "machine", "section").values()
    recordings = [own for members in groups for own in by_recording([rows[index] for index in members])]
    return [row for own in recordings if len(own) > 1 and own[0].split == "test" for row in own]


def write_system(
    folder: str | os.PathLike,
    rows: Sequence[ScoreRow],
    thresholds: Mapping[tuple[str, str], float],
    course: Sequence[ScoreRow] = (),
) -> list[Path]:
    """Writes the challenge CSVs of one system, and its reference scores and thresholds for later checks.

    Args:
        folder: folder of the system.
        rows: fused rows.
        thresholds: (machine, section) to threshold.
        course: ``courses`` of its test clips; without any there is no file of them.

    Returns:
        The files written.
    """
    folder = Path(folder)
    written = []
    for (machine, section), threshold in thresholds.items():
        scores = {r.file: r.score for r in rows if (r.machine, r.section, r.split) == (machine, section, "test")}
        if not scores:
            continue
        written.append(folder / challenge_csv.score_name(machine, section))
        challenge_csv.write_scores(written[-1], scores)
        written.append(folder / challenge_csv.decision_name(machine, section))
        challenge_csv.write_decisions(written[-1], {name: int(score > threshold) for name, score in scores.items()})
    written += [folder / REFERENCES, folder / THRESHOLDS]
    write_rows(folder / REFERENCES, [row for row in rows if row.split == "train"])
    if course:
        written.append(folder / COURSES)
        write_rows(written[-1], course)
    write_json(folder / THRESHOLDS, {threshold_key(*group): threshold for group, threshold in thresholds.items()})
    return written


def threshold_key(machine: str, section: str) -> str:
    """Key of a machine and section in the file THRESHOLDS."""
    return f"{machine}_section_{section}"


def write_rows(path: str | os.PathLike, rows: Iterable[ScoreRow]) -> None:
    """Writes scores as csv with full precision, atomically; where some are of windows, first sample and samples too."""
    rows = list(rows)
    extra = WINDOW if any(row.window for row in rows) else ()
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*COLUMNS, *extra))
        for row in rows:
            texts = [getattr(row, name) for name in COLUMNS[:-1]]
            writer.writerow([*texts, repr(row.score), *(getattr(row, name) for name in extra)])


def read_rows(path: str | os.PathLike) -> list[ScoreRow]:
    """Reads the file of ``write_rows``.

    Raises:
        WheeltapperError: the file is missing or damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
        return [
            ScoreRow(machine, section, split, file, domain, float(score), *map(int, of_window))
            for machine, section, split, file, domain, score, *of_window in lines[1:]
        ]
    except (OSError, TypeError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise WheeltapperError(f"{path}: expected scores ({','.join(COLUMNS)}), found damage ({error})") from error
