"""Reads an experiment folder for its report. Missing or damaged files become findings, not errors."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from system import config as configuration
from system import manifest
from system.config import Config, SystemConfig
from system.corpora import copies, health_table
from system.corpora.copies import Copy
from system.corpora.health import Health
from system.embeddings.files import read_index
from system.errors import WheeltapperError
from system.evaluation import challenge_csv
from system.evaluation.available import main_score
from system.experiment import Experiment
from system.files import read_json
from system.manifest import Clip, Key, Row
from system.score_tables import COURSES, FALSE_ALARMS, REFERENCES, THRESHOLDS, ScoreRow, read_rows, threshold_key
from system.stage import MARKERS

Curve = dict[str, np.ndarray]


@dataclass(frozen=True)
class SectionResults:
    """Results of one system for one section of a machine.

    Attributes:
        machine: name of the machine.
        section: of the machine.
        name: for the page; includes the section if the machine has several.
        development: whether it is a development machine.
        clips: N test clips.
        scores: of the test clips, (N,).
        decided: decisions, bool (N,), or None.
        references: leave-one-out scores of the normal references, (M,).
        reference_domains: domains of the references, (M,).
        threshold: of the decision, or None.
        courses: scores of the windows of each test clip that has several, by file.
        expected: its false alarms, as of ``false_alarms.expected_false_alarms``; empty where nothing is known.
    """

    machine: str
    section: str
    name: str
    development: bool
    clips: list[Clip]
    scores: np.ndarray
    decided: np.ndarray | None
    references: np.ndarray
    reference_domains: np.ndarray
    threshold: float | None
    courses: dict[str, list[ScoreRow]] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)

    @property
    def anomalous(self) -> np.ndarray:
        return np.array([clip.label == "anomaly" for clip in self.clips], bool)

    @property
    def domains(self) -> np.ndarray:
        return np.array([clip.domain for clip in self.clips], str)


@dataclass
class RunData:
    """The readable contents of an experiment folder.

    ``config`` is None if it is missing. ``best`` is the label of the system with the highest score; without
    labelled clips the first system; empty without scores.
    """

    folder: Path
    config: Config | None = None
    config_text: str = ""
    clips: list[Clip] = field(default_factory=list)
    healths: dict[Key, Health] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    best: str = ""
    units: list[SectionResults] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def paths(self) -> Experiment:
        return Experiment(self.folder, self.config or Config())

    @property
    def development(self) -> list[SectionResults]:
        return [unit for unit in self.units if unit.development]

    @property
    def evaluation(self) -> list[SectionResults]:
        return [unit for unit in self.units if not unit.development]

    @property
    def systems(self) -> dict[str, dict[str, Any]]:
        """Metrics by system label, if there are any."""
        return {
            label: values
            for label, values in (self.metrics.get("systems") or {}).items()
            if values and main_score(values) and values.get("per_machine")
        }

    def system_config(self, label: str) -> SystemConfig | None:
        """Configuration of the system with a label, found by the number at the end of the label."""
        number = re.search(r"_([0-9]+)$", label)
        systems = self.config.systems if self.config else []
        return systems[int(number[1]) - 1] if number and 0 < int(number[1]) <= len(systems) else None

    def attempt(self, path: Path, read: Callable[[Path], Any]) -> Any:
        """Reads a file with ``read``; returns None if it is missing or damaged, and reports damage as a finding."""
        if not path.exists():
            return None
        try:
            return read(path)
        except (WheeltapperError, OSError, ValueError, KeyError, TypeError, EOFError) as error:
            text = " ".join(str(error).split()).replace(f"{self.folder}/", "")
            name = path.relative_to(self.folder)
            self.problems.append(text if text.startswith(str(name)) else f"{name}: could not be read ({text})")
            return None


def score_of(values: dict[str, Any]) -> tuple[float, list[float] | None]:
    """Score and interval of one of ``RunData.systems``: the official ones, or those over all domains."""
    found = main_score(values)
    assert found is not None
    return found


def read_run(folder: Path) -> RunData:
    """Reads an experiment folder; WheeltapperError if there is none."""
    if not folder.is_dir():
        raise WheeltapperError(
            f"{folder}: expected an experiment folder, found {'a file' * folder.exists() or 'nothing'}"
        )
    run = RunData(folder)
    saved = folder / "config.yaml"
    run.config = run.attempt(saved, lambda path: configuration.load(path))
    run.config_text = run.attempt(saved, lambda path: path.read_text(encoding="utf-8")) or ""
    run.clips = run.attempt(run.paths.manifest, manifest.read) or []
    run.healths = run.attempt(run.paths.health, health_table.read) or {}
    run.copies = run.attempt(run.paths.copies, copies.read) or []
    run.metrics = run.attempt(run.paths.metrics, _read_mapping) or {}
    run.stages = _read_stages(run)
    run.best = _best_label(run)
    run.units = _read_units(run) if run.best else []
    return run


def _best_label(run: RunData) -> str:
    scored = run.systems
    if scored:
        return max(scored, key=lambda label: score_of(scored[label])[0])
    folder = run.folder / "systems"
    return min((path.name for path in folder.iterdir() if path.is_dir()), default="") if folder.is_dir() else ""


def _read_mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise WheeltapperError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _read_stages(run: RunData) -> list[dict[str, Any]]:
    records = []
    for path in (run.folder / MARKERS).glob("[0-9]*_*.json"):
        record = run.attempt(path, _read_mapping)
        if record is not None:
            number, _, name = path.stem.partition("_")
            records.append({**record, "number": int(number), "name": name, "finished": path.stat().st_mtime})
    return sorted(records, key=lambda record: record["number"])


def _read_units(run: RunData) -> list[SectionResults]:
    folder = run.paths.system(run.best)
    references = run.attempt(folder / REFERENCES, _read_references) or {}
    thresholds = run.attempt(folder / THRESHOLDS, _read_mapping) or {}
    courses: dict[Key, list[ScoreRow]] = {}
    for row in run.attempt(folder / COURSES, read_rows) or ():
        courses.setdefault(row.key, []).append(row)
    expected = run.attempt(folder / FALSE_ALARMS, _read_mapping) or {}
    development = _development(run)
    groups: dict[tuple[str, str], list[Clip]] = {}
    for clip in run.clips:
        if clip.split == "test":
            groups.setdefault((clip.machine, clip.section), []).append(clip)
    several = {machine for machine, _ in groups if sum(key[0] == machine for key in groups) > 1}
    units = []
    for (machine, section), clips in groups.items():
        scores = run.attempt(folder / challenge_csv.score_name(machine, section), read_scores) or {}
        decisions = run.attempt(folder / challenge_csv.decision_name(machine, section), _read_decisions) or {}
        scored = [clip for clip in clips if clip.file in scores]
        if not scored:
            continue
        if len(scored) < len(clips):
            run.problems.append(f"{machine} section {section}: {len(clips) - len(scored)} test clips have no score")
        known = references.get((machine, section), [])
        units.append(
            SectionResults(
                machine=machine,
                section=section,
                name=f"{machine} {section}" if machine in several else machine,
                development=development[machine],
                clips=scored,
                scores=np.array([scores[clip.file] for clip in scored], float),
                decided=_decided(scored, decisions),
                references=np.array([score for score, _ in known], float),
                reference_domains=np.array([domain for _, domain in known], str),
                threshold=thresholds.get(threshold_key(machine, section)),
                courses={clip.file: courses[clip.key] for clip in scored if clip.key in courses},
                expected=expected.get(threshold_key(machine, section), {}),
            )
        )
    return units


def _development(run: RunData) -> dict[str, bool]:
    try:
        return manifest.is_development(run.clips)
    except WheeltapperError as error:
        run.problems.append(str(error))
        return dict.fromkeys(manifest.machines(run.clips), False)


def _decided(clips: list[Clip], decisions: dict[str, float]) -> np.ndarray | None:
    if not all(clip.file in decisions for clip in clips):
        return None
    return np.array([decisions[clip.file] == 1 for clip in clips], bool)


def read_scores(path: Path) -> dict[str, float]:
    """Scores by file name of a challenge CSV."""
    return dict(challenge_csv.read(path, challenge_csv.SCORE))


def _read_decisions(path: Path) -> dict[str, float]:
    return dict(challenge_csv.read(path, challenge_csv.DECISION))


def _read_references(path: Path) -> dict[tuple[str, str], list[tuple[float, str]]]:
    found: dict[tuple[str, str], list[tuple[float, str]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["machine"], row["section"]), []).append((float(row["score"]), row["domain"]))
    return found


def read_curve(run: RunData, path: Path) -> Curve:
    """Columns (steps,) of a training curve; empty if there is none."""
    return run.attempt(path, _read_curve) or {}


def _read_curve(path: Path) -> Curve:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return {}
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def read_array(run: RunData, branch: str, path: Path) -> tuple[list[Row], np.ndarray] | None:
    """``Clip.row`` and rows (N, dimensions) of an array of a branch with its index.csv."""

    def read(path: Path) -> tuple[list[Row], np.ndarray]:
        keys = read_index(run.paths.index(branch))
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        if values.ndim < 2 or len(values) != len(keys):
            raise WheeltapperError(f"{path}: expected {len(keys)} rows as in index.csv, found {values.shape}")
        return keys, values.reshape(len(values), -1)

    return run.attempt(path, read)
