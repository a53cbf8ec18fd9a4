"""Scores of whole runs: each machine and section is scored against its own normal references, for every branch."""

import csv
import inspect
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from system import scoring
from system.config import AutoencoderBranchConfig, ScorerConfig, SystemConfig
from system.errors import WheeltapperError
from system.evaluation import challenge_csv
from system.files import open_atomic, read_json, write_json
from system.groups import connected
from system.manifest import Clip, Key, group_by
from system.scoring import calibrate
from system.scoring.banks import note_of

if TYPE_CHECKING:
    from system.experiment import Experiment

log = logging.getLogger(__name__)

Group = tuple[str, str]  # machine, section

COLUMNS = ("machine", "section", "split", "file", "domain", "score")
GROUP = "group"  # a further column where references belong together
REFERENCES = "references.csv"
THRESHOLDS = "thresholds.json"
FALSE_ALARMS = "false_alarms.json"
GROUPS = "groups"  # argument of a scorer's fit


@dataclass(frozen=True)
class ScoreRow:
    """Score of a test clip (split ``test``, empty domain), or leave-one-out score of a reference (split ``train``).

    References of the same ``group`` were left out together; an empty one stands for a single clip.
    """

    machine: str
    section: str
    split: str
    file: str
    domain: str
    score: float
    group: str = ""


def score_machines(
    clips: Sequence[Clip],
    embeddings: Mapping[Key, np.ndarray],
    config: ScorerConfig,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> list[ScoreRow]:
    """Scores all clips of a run with one branch.

    The scorer sees arrays in shuffled order, without names. Labels of test clips are never read.

    Args:
        clips: clips of the manifest.
        embeddings: clip key to embedding (D,) or (bands, D).
        config: name and settings of the scorer.
        seed: seed of the shuffling.
        progress: called with the number of clips scored since the last call.

    Returns:
        One row per clip, sorted by machine, section, split and file.

    Raises:
        WheeltapperError: a machine and section without references, or with clips that have no embedding.
    """
    rows: list[ScoreRow] = []
    for (machine, section), (references, tests) in shuffled(clips, seed).items():
        if not references and not tests:
            continue
        missing = [clip.file for clip in references + tests if clip.key not in embeddings]
        if missing or not references:
            found = f"no embedding of {missing[0]} (run stage 3 again)" if missing else "no normal training clip"
            raise WheeltapperError(f"{machine} section {section}: expected embedded training clips, found {found}")
        try:
            scorer = fit_scorer(references, embeddings, config)
            if note := note_of(scorer):
                log.warning("%s section %s: %s", machine, section, note)
            reference_scores = scorer.reference_scores()
            test_scores = scorer.score(_matrix(tests, embeddings)) if tests else np.empty(0)
        except (WheeltapperError, ValueError) as error:
            raise WheeltapperError(f"{machine} section {section}: {error}") from error
        for clip, score in zip(references, reference_scores, strict=True):
            rows.append(ScoreRow(machine, section, "train", clip.file, clip.domain, float(score), clip.group))
        for clip, score in zip(tests, test_scores, strict=True):
            rows.append(ScoreRow(machine, section, "test", clip.file, "", float(score)))
        if progress:
            progress(len(references) + len(tests))
    return sorted(rows, key=lambda row: (row.machine, row.section, row.split, row.file))


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
    references: Sequence[Clip], embeddings: Mapping[Key, np.ndarray], config: ScorerConfig
) -> scoring.Scorer:
    """Fits the scorer of a branch to the normal references of one machine and section.

    Args:
        references: normal clips; an unknown domain counts as source. Those of one group are left out together.
        embeddings: clip key to embedding (D,) or (bands, D).
        config: name and settings of the scorer.
    """
    scorer = scoring.build(config.name, **config.settings)
    rows, domains = _matrix(references, embeddings), np.array([clip.domain or "source" for clip in references])
    groups = connected([clip.group for clip in references])
    count = int(groups.max(initial=-1)) + 1
    if count == len(references):
        scorer.fit(rows, domains)
        return scorer
    if count < max(2, getattr(scorer, "fewest_references", 2)):
        log.warning(
            "%s section %s: %d references are parts or copies of %d: each is left out alone, and more normal clips "
            "than asked will be above the threshold",
            *(references[0].machine, references[0].section, len(references), count),
        )
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


def _matrix(clips: Sequence[Clip], embeddings: Mapping[Key, np.ndarray]) -> np.ndarray:
    """Rows as scorers take them. In single precision a sum depends on the order of the clips, which must not count."""
    return np.stack([embeddings[clip.key] for clip in clips], dtype=np.float64)


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


def fuse_system(
    branches: Mapping[str, Sequence[ScoreRow]],
    system: SystemConfig,
    false_positive_rate: float,
    raw_thresholds: Mapping[str, float] | None = None,
) -> tuple[list[ScoreRow], dict[tuple[str, str], float]]:
    """Calibrates the branches of one system and fuses them into one score per clip.

    Args:
        branches: branch name to rows; all branches have the same clips.
        system: weights and fusion.
        false_positive_rate: target fraction of normal clips above the threshold.
        raw_thresholds: machine to threshold on the uncalibrated scores of a single branch, instead of thresholds from
            the references.

    Returns:
        Fused rows, and (machine, section) to threshold.

    Raises:
        WheeltapperError: branches with different clips, or invalid weights.
    """
    used = {name: weight for name, weight in system.weights.items() if weight > 0}
    tables = {name: {(r.machine, r.section, r.split, r.file): r for r in branches[name]} for name in used}
    first = next(iter(tables.values()))
    for name, table in tables.items():
        if table.keys() != first.keys():
            odd = next(iter(table.keys() ^ first.keys()))
            raise WheeltapperError(f"branch {name}: expected the same clips in all branches, {'/'.join(odd)} is in one")
    rows: list[ScoreRow] = []
    thresholds: dict[tuple[str, str], float] = {}
    for group in dict.fromkeys((key[0], key[1]) for key in first):
        keys = [key for key in first if key[:2] == group]
        train = np.array([key[2] == "train" for key in keys])
        calibrated = {}
        for name, table in tables.items():
            scores = np.array([table[key].score for key in keys])
            standard = calibrate.robust_z(scores[train])
            calibrated[name] = standard(scores)
        fused = calibrate.fuse(calibrated, used, system.fusion)
        domains = np.array([first[key].domain for key in keys])
        if raw_thresholds is None:
            thresholds[group] = calibrate.threshold(fused[train], domains[train], false_positive_rate)
        else:
            thresholds[group] = float(standard(raw_thresholds[group[0]]))
        rows += [replace(first[key], score=float(score)) for key, score in zip(keys, fused, strict=True)]
    return rows, thresholds


def expected_false_alarms(
    rows: Sequence[ScoreRow], thresholds: Mapping[Group, float], false_positive_rate: float
) -> dict[str, dict[str, Any]]:
    """What false-alarm rates on normal clips to expect of thresholds that come from the references.

    Args:
        rows: fused rows of one system.
        thresholds: (machine, section) to threshold.
        false_positive_rate: the rate that was asked.

    Returns:
        By machine and section (``threshold_key``): ``asked``; ``domains``, of each the number of references and the
        range of rates they do not contradict (``calibrate.expected_false_alarms``); ``remark`` on what cannot be
        promised, or empty.
    """
    found = {}
    for group, threshold in thresholds.items():
        own = [row for row in rows if (row.machine, row.section, row.split) == (*group, "train")]
        scores, domains = np.array([row.score for row in own]), np.array([row.domain for row in own])
        numbers = connected([row.group for row in own])
        ranges = calibrate.expected_false_alarms(scores, domains, threshold, numbers)
        found[threshold_key(*group)] = {
            "asked": false_positive_rate,
            "domains": {domain: asdict(rates) for domain, rates in ranges.items()},
            "remark": _promise({domain: rates.references for domain, rates in ranges.items()}, false_positive_rate),
        }
    return found


def _promise(counts: Mapping[str, int], asked: float) -> str:
    """What cannot be promised with these numbers of references; empty if what was asked can."""
    least = calibrate.least_rate(list(counts.values()))
    if least <= asked:
        return ""
    numbers = " and ".join(f"{count} {domain}" for domain, count in counts.items()) if len(counts) > 1 else ""
    return (
        f"{numbers or sum(counts.values())} reference{'s' * (sum(counts.values()) > 1)}: a false-alarm rate below "
        f"{100 * least:.0f} % cannot be promised"
    )


def false_alarm_text(found: Mapping[str, Any]) -> str:
    """One line on an entry of ``expected_false_alarms``."""
    ranges = [
        f"{100 * rates['low']:.0f} to {100 * rates['high']:.0f} % of {domain} clips ({rates['references']} references)"
        for domain, rates in found["domains"].items()
    ]
    remark = f"; {found['remark']}" if found["remark"] else ""
    return f"false alarms expected, where {100 * found['asked']:g} % were asked: {', '.join(ranges)}{remark}"


def write_system(
    folder: str | os.PathLike,
    rows: Sequence[ScoreRow],
    thresholds: Mapping[Group, float],
    expected: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Writes the challenge CSVs of one system, and its reference scores and thresholds for later checks.

    Args:
        folder: folder of the system.
        rows: fused rows.
        thresholds: (machine, section) to threshold.
        expected: false-alarm rates of ``expected_false_alarms``, or None where nothing is known.

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
    write_json(folder / THRESHOLDS, {threshold_key(*group): threshold for group, threshold in thresholds.items()})
    if expected is not None:
        written.append(folder / FALSE_ALARMS)
        write_json(written[-1], expected)
    return written


def threshold_key(machine: str, section: str) -> str:
    """Key of a machine and section in the file THRESHOLDS."""
    return f"{machine}_section_{section}"


def write_rows(path: str | os.PathLike, rows: Iterable[ScoreRow]) -> None:
    """Writes scores as csv with full precision, atomically; the groups where there are any."""
    rows = list(rows)
    more = [GROUP] if any(row.group for row in rows) else []
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
            lines = list(csv.reader(file))
        return [
            ScoreRow(machine, section, split, file, domain, float(score), *more[: GROUP in lines[0]])
            for machine, section, split, file, domain, score, *more in lines[1:]
        ]
    except (OSError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise WheeltapperError(f"{path}: expected scores ({','.join(COLUMNS)}), found damage ({error})") from error
