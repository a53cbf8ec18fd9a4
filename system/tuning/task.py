"""The task of a tuning: its runs, the jobs of the score cache, and the objective."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from system import __version__, manifest, selection
from system.config import ScorerConfig, TuneConfig
from system.corpora.challenge import rule_of_year
from system.errors import WheeltapperError
from system.evaluation import metrics
from system.evaluation.truth import Truth
from system.experiment import Experiment
from system.files import read_json, write_json
from system.manifest import Clip, Key, Row, group_by
from system.score_tables import ScoreRow
from system.tuning import cache, candidates
from system.tuning.objective import Objective, ScoredSection, UnitWindows, calibrated, strata
from system.tuning.space import Choice, Space

TASK = "task.json"
# Settings in which the runs may differ. They do not change the embeddings, except for the seed: runs may be repetitions
# with other seeds.
INDEPENDENT = ("branches.*.scorer.*", "systems.*", "false_positive_rate", "seed")


@dataclass(frozen=True)
class DevelopmentRun:
    """A development run.

    Attributes:
        label: its name in tables.
        experiment: its folder and configuration.
        clips: its clips.
        truth: its labelled test clips.
        digests: SHA-256 of its embeddings by branch and view.
    """

    label: str
    experiment: Experiment
    clips: Sequence[Clip]
    truth: Sequence[Truth]
    digests: Mapping[tuple[str, str], str]

    @property
    def year(self) -> int:
        """The year whose rules apply."""
        return self.experiment.config.evaluate.year


def check_runs(runs: Sequence[DevelopmentRun]) -> None:
    """Raises WheeltapperError if runs cannot be tuned together or cross-validated.

    Reasons: a folder is given twice, settings that the embeddings depend on or years differ, there are fewer than two
    machines.
    """
    first = runs[0]
    places = [run.experiment.folder.resolve() for run in runs]
    for number, run in enumerate(runs):
        where = run.experiment.folder
        if places[number] in places[:number]:
            raise WheeltapperError(f"{where}: expected each run once, found it twice")
        if run.year != first.year:
            raise WheeltapperError(f"{where}: evaluate.year: expected {first.year}, found {run.year}")
        for key, expected, found in selection.differences(first.experiment.config, run.experiment.config):
            if not any(fnmatchcase(key, free) for free in INDEPENDENT):
                raise WheeltapperError(
                    f"{where}: {key}: expected {expected} as in {first.experiment.folder}, found {found}: embeddings "
                    "of different configurations cannot be tuned together"
                )
    machines = sorted({clip.machine for run in runs for clip in run.truth})
    if len(machines) < 2:
        raise WheeltapperError(
            f"{', '.join(str(run.experiment.folder) for run in runs)}: expected labelled test clips of at least two "
            f"machines, of which one can be left out, found {', '.join(machines) or 'none'} with all that the official "
            "score needs"
        )


def jobs(runs: Sequence[DevelopmentRun], tune: TuneConfig, folder: str | os.PathLike) -> list[cache.ScoreJob]:
    """The jobs of the score cache in ``folder``: every branch in every view with its candidates."""
    branches = runs[0].experiment.config.branches
    scorers = {name: candidates.of_branch(branch, tune.scorers) for name, branch in branches.items()}
    return [
        cache.ScoreJob(
            number,
            branch,
            view,
            run.experiment.index(branch),
            run.experiment.embeddings(branch, view),
            run.digests[branch, view],
            run.clips,
            run.experiment.config.seed,
            scorers[branch],
            Path(folder) / "scores",
        )
        for number, run in enumerate(runs)
        for branch in branches
        for view in tune.views
    ]


def check_task(
    folder: str | os.PathLike, runs: Sequence[DevelopmentRun], tune: TuneConfig, todo: Sequence[cache.ScoreJob]
) -> None:
    """Starts a folder, or checks that it was started with the same recordings, embeddings, candidates and seeds.

    Raises:
        WheeltapperError: names the difference.
    """
    path = Path(folder) / TASK
    task: dict[str, Any] = {
        "version": __version__,
        "year": runs[0].year,
        "recordings": [manifest.fingerprint(run.clips) for run in runs],
        "embeddings": [[f"{job.run + 1} {job.branch} {job.view}", job.digest] for job in todo],
        "seeds": [run.experiment.config.seed for run in runs],
        "scorers": {job.branch: [asdict(scorer) for scorer in job.scorers.values()] for job in todo},
        **{name: getattr(tune, name) for name in ("views", "fusions", "sampler", "seed")},
        "untuned": asdict(untuned(runs[0])),
    }
    if not path.is_file():
        return write_json(path, task)
    known = read_json(path)
    if not isinstance(known, dict):
        raise WheeltapperError(f"{path}: expected the record of a tuning, found a damaged file: choose another --out")
    for name, value in task.items():
        if known.get(name) != value:
            which = _first_difference(known.get(name), value)
            raise WheeltapperError(
                f"{folder}: expected the {name} that this tuning was started with, found others{which}: choose another "
                "--out, or remove the folder"
            )


def _first_difference(known: Any, found: Any) -> str:
    if isinstance(known, list) and isinstance(found, list) and len(known) == len(found):
        pairs = (b for a, b in zip(known, found, strict=True) if a != b)
        odd = next(pairs)
        return f" ({odd[0] if isinstance(odd, list) else odd})"
    return "" if isinstance(found, list | dict) else f" ({known} then, {found} now)"


def untuned(run: DevelopmentRun) -> Choice:
    """The first configured system of a run."""
    config = run.experiment.config
    system = config.systems[0]
    total = sum(system.weights.values())
    scale = total if max(system.weights.values()) > 1.0 else 1.0
    return Choice(
        system.view,
        getattr(system, "fusion", "sum"),
        {name: candidates.label(branch.scorer) for name, branch in config.branches.items()},
        {name: system.weights.get(name, 0.0) / scale for name in config.branches},
    )


def build(
    runs: Sequence[DevelopmentRun], tune: TuneConfig, todo: Sequence[cache.ScoreJob]
) -> tuple[Objective, list[str]]:
    """The objective on the cached scores, and notes on candidates that are excluded.

    A candidate must work for every run and view of its branch.

    Raises:
        WheeltapperError: the configured scorer does not work, or the configured view or fusion is not in the space.
    """
    found, notes = {}, []
    missing: dict[str, dict[str, str]] = {}
    for job in todo:
        scores, failed = cache.load(job)
        found[job.run, job.branch, job.view] = scores
        missing.setdefault(job.branch, {}).update(failed)
    first, labels = untuned(runs[0]), {}
    for job in todo:
        lost = missing[job.branch]
        labels[job.branch] = tuple(label for label in job.scorers if label not in lost)
    for branch, lost in missing.items():
        if first.scorers[branch] in lost:
            label = first.scorers[branch]
            raise WheeltapperError(f"branch {branch}: {label}: expected scores, found none: {lost[label]}")
        notes += [f"branch {branch}: {label} is excluded: {reason}" for label, reason in lost.items()]
    for name, value, known in (("views", first.view, tune.views), ("fusions", first.fusion, tune.fusions)):
        if value not in known:
            raise WheeltapperError(f"tune.{name}: expected {value}, the setting of system 1, among them, found {known}")
    space = Space(tuple(tune.views), tuple(tune.fusions), labels)
    rows = {job.run: job.rows for job in todo}
    columns: list[list[int]] = []
    units: list[ScoredSection] = []
    for number, run in enumerate(runs):
        chosen, of_run = _units(run, number, len(runs) > 1, sum(map(len, columns)), rows[number])
        columns.append(chosen)
        units += of_run
    tables = {
        branch: np.array(
            [[_table(rows, columns, found, branch, view, label) for label in labels[branch]] for view in tune.views]
        )
        for branch in space.scorers
    }
    return Objective(space, units, tables, runs[0].year), notes


def _table(rows, columns, found, branch: str, view: str, label: str) -> np.ndarray:
    return np.concatenate(
        [calibrated(found[number, branch, view][label], rows[number])[chosen] for number, chosen in enumerate(columns)]
    )


def _units(
    run: DevelopmentRun, number: int, several: bool, start: int, rows: Sequence[Row]
) -> tuple[list[int], list[ScoredSection]]:
    """Indices of the scores that a run's labelled test clips need, and its units, whose columns start at ``start``."""
    places: dict[Key, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row[:4], []).append(place)
    domains = metrics.RULES[rule_of_year(run.year)].domains
    chosen: list[int] = []
    units = []
    for (machine, section), members in group_by(run.truth, "machine", "section").items():
        clips = tuple(run.truth[i] for i in members)
        name = f"{machine} ({run.label})" if several else machine
        own = [places[machine, section, "test", clip.file] for clip in clips]
        needed, windows = [place for clip in own for place in clip], None
        if len(needed) > len(clips):
            references = [place for place, row in enumerate(rows) if row[:3] == (machine, section, "train")]
            windows = UnitWindows(
                [[ScoreRow.of(rows[place], "", 0.0) for place in clip] for clip in own], len(references)
            )
            needed += references
        span = slice(start + len(chosen), start + len(chosen) + len(needed))
        units.append(ScoredSection(number, machine, name, section, span, strata(clips, domains), clips, windows))
        chosen += needed
    return chosen, units


def scorers_of(todo: Sequence[cache.ScoreJob]) -> dict[str, Mapping[str, ScorerConfig]]:
    """The candidates of each branch by label."""
    return {job.branch: job.scorers for job in todo}
