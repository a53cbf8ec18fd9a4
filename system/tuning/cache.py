"""Scores of all clips with every candidate scorer, computed once from the stored embeddings and kept on disk."""

import contextlib
import hashlib
import json
import logging
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from system import __version__, machine_scores, score_tables
from system.config import ScorerConfig
from system.embeddings.files import read_index, read_rows
from system.errors import WheeltapperError
from system.files import open_atomic
from system.manifest import Clip, Row
from system.tuning.workers import CLAIMS, POLL, Claims

TOLERANCE = 1e-6  # relative difference allowed between two computations of a score


@dataclass(frozen=True)
class ScoreJob:
    """The scores of one run, branch and view: their inputs, and the file of each candidate.

    Attributes:
        run: index of the run.
        branch: name of the branch.
        view: name of the view.
        index: index of the embeddings.
        embeddings: array of the embeddings.
        digest: hash of the array's content.
        clips: clips of the run.
        seed: of the order of the clips.
        scorers: candidates by label.
        folder: of the cache.
    """

    run: int
    branch: str
    view: str
    index: Path
    embeddings: Path
    digest: str
    clips: Sequence[Clip]
    seed: int
    scorers: Mapping[str, ScorerConfig]
    folder: Path

    @property
    def rows(self) -> list[Row]:
        """The windows of the clips in the order of the score arrays."""
        known = {clip.key for clip in self.clips if clip.split in ("train", "test")}
        return sorted(row for row in read_index(self.index) if row[:4] in known)

    @property
    def files(self) -> dict[str, Path]:
        # Labels and domains of test clips influence no score, so they are not part of the key.
        """File of each candidate by its label; the name is a hash of all that the scores depend on."""
        clips = [(*clip.key, clip.domain if clip.split == "train" else "") for clip in self.clips]
        windows = [row for row in self.rows if len(row) > len(self.clips[0].key)]
        known = hashlib.sha256(repr([clips, windows, self.digest, self.seed, __version__]).encode())
        files = {}
        for label, scorer in self.scorers.items():
            key = known.copy()
            key.update(json.dumps(asdict(scorer), sort_keys=True).encode())
            files[label] = self.folder / f"{key.hexdigest()[:32]}.npz"
        return files


def compute(
    jobs: Sequence[ScoreJob], folder: str | os.PathLike, progress: Callable[[int, int], None], alive: Callable[[], bool]
) -> None:
    """Computes missing scores, reading each embedding array once; returns when all are complete.

    Several processes may do this at the same time (``workers.side_by_side``). A killed process can simply be restarted.

    Args:
        jobs: scores to compute.
        folder: of the cache.
        progress: called with the number of score files done and in all.
        alive: tells whether the process should continue.

    Raises:
        WheeltapperError: the scores of a scorer depend on other test clips.
    """
    claims, files = Claims(Path(folder) / CLAIMS), [job.files for job in jobs]
    total = sum(map(len, files))
    try:
        while missing := [n for n, paths in enumerate(files) if not all(map(Path.is_file, paths.values()))]:
            worked = False
            for number in missing:
                with claims.hold(number) as mine:
                    if mine:
                        for _ in _score(jobs[number], files[number]):
                            progress(sum(path.is_file() for paths in files for path in paths.values()), total)
                        worked = True
                if not alive():
                    return
            if not worked:
                time.sleep(POLL)
        progress(total, total)
    finally:
        claims.close()


def _score(job: ScoreJob, files: Mapping[str, Path]) -> Iterator[None]:
    """Scores and writes the missing candidates of a job; yields after each."""
    todo = [label for label, path in files.items() if not path.is_file()]
    embeddings = read_rows(job.index, job.embeddings) if todo else {}
    for label in todo:
        with _heard() as said:
            note, scores = _tried(job, embeddings, label)
        with open_atomic(files[label], "wb", durable=False) as file:
            np.savez(file, scores=scores, note=np.array(note), said=np.array(said, str))
        yield


def _tried(job: ScoreJob, embeddings: Mapping[Row, np.ndarray], label: str) -> tuple[str, np.ndarray]:
    """Why a candidate gives no scores, or empty; and its scores (rows,)."""
    try:
        rows = machine_scores.score_machines(job.clips, embeddings, job.scorers[label], job.seed)
    except WheeltapperError as error:
        return str(error), np.zeros(0)
    scores = np.array([row.score for row in rows])
    if not np.isfinite(scores).all():
        return "scores that are not finite", np.zeros(0)
    check_inductive(job.clips, embeddings, job.scorers[label], job.seed, rows, label)
    return "", scores


class _Listener(logging.Handler):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """Context in which warnings of scoring are collected instead of shown: each candidate would say them anew."""
    listener, logger = _Listener(), machine_scores.log
    logger.addHandler(listener)
    logger.propagate = False
    try:
        yield listener.said
    finally:
        logger.propagate = True
        logger.removeHandler(listener)


def said(jobs: Sequence[ScoreJob]) -> list[str]:
    """What scoring had to say of machines, each line once."""
    found: dict[str, None] = {}
    for job in jobs:
        for path in job.files.values():
            with _opened(path) as file:
                found |= dict.fromkeys(file["said"].tolist() if "said" in file else [])
    return list(found)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    try:
        with np.load(path) as file:
            yield file
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise WheeltapperError(f"{path}: expected scores, found damage ({error}): remove the file") from error


def check_inductive(
    clips: Sequence[Clip],
    embeddings: Mapping[Row, np.ndarray],
    scorer: ScorerConfig,
    seed: int,
    rows: Sequence[score_tables.ScoreRow],
    label: str,
) -> None:
    """Raises WheeltapperError if the score of a test clip depends on other test clips.

    The first machine is scored again with every second test clip only and compared with ``rows``.

    Args:
        clips: of the run.
        embeddings: embedding of each clip.
        scorer: candidate.
        seed: of the order of the clips.
        rows: scores of all clips.
        label: of the scorer, for the message.
    """
    first = next(clip for clip in clips if clip.split in ("train", "test"))
    unit = [clip for clip in clips if (clip.machine, clip.section) == (first.machine, first.section)]
    tests = [clip for clip in unit if clip.split == "test"]
    fewer = [clip for clip in unit if clip.split == "train"] + tests[::2]
    known = {row.row: row.score for row in rows}
    for row in machine_scores.score_machines(fewer, embeddings, scorer, seed):
        before = known[row.row]
        if not np.isclose(row.score, before, rtol=TOLERANCE, atol=TOLERANCE):
            raise WheeltapperError(
                f"scorer {label}: {row.machine} {row.file}: expected a score that does not depend on the other test "
                f"clips, found {before:.6g} with all of them and {row.score:.6g} with half: its statistics come "
                "from test clips"
            )


def load(job: ScoreJob) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads the scores of a job.

    Returns:
        Scores (rows,) in the order of ``job.rows``, by label; and for each missing candidate the reason.

    Raises:
        WheeltapperError: a file is damaged.
    """
    count = len(job.rows)
    scores, notes = {}, {}
    for label, path in job.files.items():
        with _opened(path) as file:
            found, note = file["scores"], str(file["note"])
        if note:
            notes[label] = note
        elif len(found) != count:
            raise WheeltapperError(f"{path}: expected {count} scores, found {len(found)}: remove the file")
        else:
            scores[label] = found
    return scores, notes
