"""Scores of machines: each machine and section is scored against its own normal references, for every branch."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from system import scoring, windows
from system.config import DataConfig, ScorerConfig
from system.errors import WheeltapperError
from system.groups import connected
from system.manifest import Clip, Row, group_by
from system.score_tables import ScoreRow
from system.scoring.banks import note_of

log = logging.getLogger(__name__)

GROUPS = "groups"  # argument of a scorer's fit


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
    known = windows.by_clip(embeddings)
    for (machine, section), (references, tests) in shuffled(clips, seed).items():
        if not references and not tests:
            continue
        missing = [clip.file for clip in references + tests if clip.key not in known]
        if missing or not references:
            found = f"no embedding of {missing[0]} (run stage 3 again)" if missing else "no normal training clip"
            raise WheeltapperError(f"{machine} section {section}: expected embedded training clips, found {found}")
        normal, judged = windows.stored(references, known), windows.stored(tests, known)
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
    return ScoreRow(*clip.key, domain, float(score), clip.group, clip.start, clip.window)


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


def check_references(clips: Sequence[Clip], scorers: Mapping[str, ScorerConfig], data: DataConfig) -> None:
    """Checks that every machine and section has references enough for the scorers of a run.

    Args:
        clips: clips of the manifest; only copies of one recording are in one group.
        scorers: branch to name and settings of its scorer.
        data: length of the windows that long recordings are cut into, each stretch of which is a reference.

    Raises:
        WheeltapperError: names the machine, the branch and a scorer that takes as few.
    """
    for (machine, section, split), members in group_by(clips, "machine", "section", "split").items():
        if split != "train":
            continue
        references = windows.expand([clips[number] for number in members], data)
        count = len(np.unique(connected(windows.pieces(references).tolist(), [clip.group for clip in references])))
        for branch, scorer in scorers.items():
            fewest = _fewest(scoring.build(scorer.name, **scorer.settings))
            if count < fewest:
                advice = f" or --set branches.{branch}.scorer.name=knn, which takes 2" if count >= 2 else ""
                raise WheeltapperError(
                    f"{machine} section {section}: expected at least {fewest} different normal training recordings, "
                    f"which scorer {scorer.name} of branch {branch} needs, found {count}; add recordings{advice}"
                )


def _fewest(scorer: scoring.Scorer) -> int:
    return max(2, getattr(scorer, "fewest_references", 2))


def fit_scorer(
    references: Sequence[Clip], embeddings: Mapping[Row, np.ndarray], config: ScorerConfig
) -> scoring.Scorer:
    """Fits the scorer of a branch to the normal references of one machine and section.

    Args:
        references: windows of normal clips; an unknown domain counts as source. Those of one recording or one group
            are left out together, or of few recordings those of one piece (``windows.left_out``).
        embeddings: ``Clip.row`` to embedding (D,) or (bands, D).
        config: name and settings of the scorer.

    Raises:
        WheeltapperError: the references are too few.
    """
    scorer = scoring.build(config.name, **config.settings)
    rows, domains = _matrix(references, embeddings), np.array([clip.domain or "source" for clip in references])
    pieces = windows.pieces(references)
    apart = windows.left_out(references)
    groups = connected(apart.tolist(), [clip.group for clip in references])
    count = len(np.unique(groups))
    if len(np.unique(apart)) > len({clip.file for clip in references}):
        log.warning(
            "%s section %s: fewer than %d recordings of a domain: stretches of them are left out in turn, and more "
            "normal recordings than asked will be above the threshold",
            *(references[0].machine, references[0].section, windows.APART),
        )
    if count < _fewest(scorer) and count < len(np.unique(pieces)):
        log.warning(
            "%s section %s: %d references are parts or copies of %d: each is left out alone, and more normal clips "
            "than asked will be above the threshold",
            *(references[0].machine, references[0].section, len(np.unique(pieces)), count),
        )
        groups, count = pieces, len(np.unique(pieces))
    if count == len(references):
        scorer.fit(rows, domains)
        return scorer
    if GROUPS in inspect.signature(scorer.fit).parameters:
        scorer.fit(rows, domains, groups)
        return scorer
    scorer.fit(rows, domains)
    return LeaveGroupsOut(scorer, config, rows, domains, groups)


class LeaveGroupsOut:
    """A scorer that knows no groups: one more is fitted without each of them.

    Args:
        scorer: fitted to all references.
        config: its name and settings.
        rows: (N, ...) references.
        domains: (N,) their domains.
        groups: (N,) numbers of their groups.
    """

    def __init__(
        self, scorer: scoring.Scorer, config: ScorerConfig, rows: np.ndarray, domains: np.ndarray, groups: np.ndarray
    ):
        self.note, self.score, self._config = note_of(scorer), scorer.score, config
        self._rows, self._domains, self._groups = rows, domains, groups

    def fit(self, references: np.ndarray, domains: np.ndarray, groups: np.ndarray | None = None) -> object:
        raise TypeError("fitted already")

    def reference_scores(self) -> np.ndarray:
        found = np.empty(len(self._rows))
        for number in range(self._groups.max() + 1):
            own = self._groups == number
            scorer = scoring.build(self._config.name, **self._config.settings)
            scorer.fit(self._rows[~own], self._domains[~own])
            found[own] = scorer.score(self._rows[own])
        return found


def _matrix(clips: Sequence[Clip], embeddings: Mapping[Row, np.ndarray]) -> np.ndarray:
    """Rows as scorers take them. In single precision a sum depends on the order of the clips, which must not count."""
    return np.stack([embeddings[clip.row] for clip in clips], dtype=np.float64)
