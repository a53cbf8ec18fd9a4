"""Rows of a results table: what finished runs measured, with the command, commit, configuration and seeds."""

import csv
import hashlib
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from system import config as configuration
from system import manifest, selection
from system.config import Config
from system.errors import WheeltapperError
from system.evaluation.intervals import mean_interval
from system.files import file_hash, open_atomic, read_json

COLUMNS = (
    *("task", "system", "score", "95 % interval low", "95 % interval high", "interval by", "scores"),
    *("AUC source", "AUC target", "pAUC", "baseline", "baseline system"),
    *("command", "commit", "config", "seeds"),
)
KEY = ("task", "system")  # a new row replaces the one with the same values here
MEASURES = {"AUC source": "AUC (source)", "AUC target": "AUC (target)", "pAUC": "pAUC"}
PARTS = {"systems": "development machines", "evaluation": "evaluation machines"}
LAST = 6  # number of the stage that writes metrics.json


@dataclass(frozen=True)
class FinishedRun:
    """A run that has been evaluated: its folder, configuration and metrics."""

    folder: Path
    config: Config
    metrics: Mapping[str, Any]


def read_run(folder: str | os.PathLike) -> FinishedRun:
    """Reads an evaluated run.

    Raises:
        WheeltapperError: if it has no metrics.json, or another one than its evaluate stage wrote.
    """
    folder = Path(folder)
    path = folder / "metrics.json"
    metrics = read_json(path)
    record = read_records(folder).get(LAST, {})
    if not isinstance(metrics, dict) or record.get("sha256", {}).get(path.name) != file_hash(path):
        raise WheeltapperError(
            f"{path}: expected the metrics that stage {LAST} of this run wrote, found others or no record of it; "
            f"wheeltapper run --exp {folder} --stage {LAST} --stop-stage {LAST} writes them again"
        )
    return FinishedRun(folder, configuration.load(folder / "config.yaml"), metrics)


def read_records(folder: str | os.PathLike, last: int = LAST) -> dict[int, Mapping[str, Any]]:
    """The records of the complete stages of a run up to stage ``last``, by number."""
    paths = sorted((Path(folder) / "stages").glob("[0-9]_*.json"))
    return {int(path.name[0]): read_json(path) for path in paths if int(path.name[0]) <= last}


def settings_hash(config: Config) -> str:
    """First 12 hexadecimal digits of the SHA-256 of all settings that change scores, except the seed."""
    kept = {key: value for key, value in selection.settings(config).items() if key != "seed"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def read_baseline(system: str, paths: Sequence[str | os.PathLike]) -> tuple[str, float]:
    """Name and mean official score, in percent, of a reference system.

    Args:
        system: its name in the files, such as logmel_mahalanobis.
        paths: references.json of ``wheeltapper reference``, one per run.

    Raises:
        WheeltapperError: if a file does not hold the system.
    """
    scores = []
    for path in paths:
        systems = read_json(path).get("systems", {})
        if system not in systems:
            raise WheeltapperError(f"{path}: expected a system {system}, found {', '.join(systems) or 'none'}")
        scores.append(100.0 * _official(path, systems[system]))
    if not scores:
        raise WheeltapperError(f"--baseline {system}: expected references.json of one run or more, found none")
    return system, statistics.mean(scores)


def rows(
    runs: Sequence[FinishedRun],
    task: str,
    system: int | None = None,
    name: str = "",
    command: str = "",
    baseline: tuple[str, float] | None = None,
) -> list[dict[str, str]]:
    """Rows of ``COLUMNS`` for the systems of runs that differ in seed and recordings alone.

    The score is the mean over the runs. Its interval is the bootstrap interval of a single run; of several runs it is
    Student's t interval of their mean.

    Args:
        runs: one or more.
        task: what was measured. Where a run has results on development and on evaluation machines, this is appended.
        system: number of the system, counted from 1; None for all systems.
        name: text in the place of the system's name in the configuration.
        command: text in the place of the recorded command.
        baseline: name and score (percent) of the system to compare with; only for development machines.

    Raises:
        WheeltapperError: if the settings of the runs differ, or a run lacks the system or has no scores.
    """
    _check_alike(runs)
    first = runs[0]
    parts = [part for part in PARTS if first.metrics.get(part)]
    if not parts:
        raise WheeltapperError(f"{first.folder}: expected scores of labelled machines, found none")
    count = len(first.config.systems)
    if system is not None and not 1 <= system <= count:
        raise WheeltapperError(f"--system: expected a number from 1 to {count}, found {system}")
    found = []
    for part in parts:
        where = f"{task}, {PARTS[part]}" if len(parts) > 1 else task
        for number in [system] if system else range(1, count + 1):
            row = {"task": where, "system": name or f"{number}: {first.config.systems[number - 1].name}"}
            row |= _figures([_result(run, part, number) for run in runs])
            if baseline and part == parts[0]:
                row |= {"baseline system": baseline[0], "baseline": f"{baseline[1]:.2f}"}
            row |= provenance([(run.folder, run.config) for run in runs], command)
            found.append({column: row.get(column, "") for column in COLUMNS})
    return found


def provenance(runs: Sequence[tuple[str | os.PathLike, Config]], command: str = "", last: int = LAST) -> dict[str, str]:
    """Where the figures of runs come from: the last four of ``COLUMNS``.

    Args:
        runs: folder and configuration of each.
        command: text in the place of the command that ran the last stage of the first run.
        last: number of the last stage that the figures depend on.
    """
    records = [read_records(folder, last) for folder, _ in runs]
    commits = dict.fromkeys(str(record.get("commit", "")) for found in records for record in found.values())
    return {
        "command": command or str(records[0].get(last, {}).get("command", "")),
        "commit": " ".join(filter(None, commits)),
        "config": settings_hash(runs[0][1]),
        "seeds": " ".join(str(config.seed) for _, config in runs),
    }


def update(path: str | os.PathLike, new: Sequence[Mapping[str, str]]) -> None:
    """Adds rows to a results table, in the place of those with the same task and system; makes the file if needed.

    Raises:
        WheeltapperError: if the file has other columns than ``COLUMNS``.
    """
    path, kept = Path(path), []
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            kept = list(reader)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise WheeltapperError(
                f"{path}: expected the columns {', '.join(COLUMNS)}; found {', '.join(reader.fieldnames or ['none'])}"
            )
    table: dict[tuple[str, ...], Mapping[str, str]] = {}
    for row in [*kept, *new]:
        table[tuple(row[column] for column in KEY)] = row
    with open_atomic(path) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.values())


def _official(where: str | os.PathLike, result: Mapping[str, Any]) -> float:
    if result.get("official_score") is None:
        raise WheeltapperError(
            f"{where}: expected an official score, found none: no machine has test clips of all the kinds that it needs"
        )
    return result["official_score"]


def _check_alike(runs: Sequence[FinishedRun]) -> None:
    """Raises WheeltapperError if the runs differ in a setting that changes scores, other than the seed, or if a run is
    given twice, be it as a copy: of several the figures would say more than was measured."""
    for run in runs[1:]:
        differing = selection.differences(runs[0].config, run.config)
        for key, expected, value in differing:
            if key != "seed":
                raise WheeltapperError(
                    f"{run.folder}: {key}: expected {expected} as in {runs[0].folder}, found {value}"
                )
    for number, run in enumerate(runs):
        for other in runs[:number]:
            if run.folder.resolve() == other.folder.resolve():
                raise WheeltapperError(f"{run.folder}: expected each run once, found it twice")
            if run.config.seed == other.config.seed and _has_same_results(run, other):
                raise WheeltapperError(
                    f"{run.folder}: expected another seed or other recordings than in {other.folder}, found seed "
                    f"{run.config.seed} and the same recordings"
                )


def _has_same_results(run: FinishedRun, other: FinishedRun) -> bool:
    """Whether two runs of one seed have the same recordings, or the same metrics."""
    files = [own.folder / "manifest.csv" for own in (run, other)]
    if run.metrics == other.metrics or not all(file.is_file() for file in files):
        return run.metrics == other.metrics
    first, second = (manifest.fingerprint(manifest.read(file)) for file in files)
    return first == second


def _result(run: FinishedRun, part: str, number: int) -> Mapping[str, Any]:
    """The metrics of one system of a run."""
    systems = list(run.metrics.get(part, {}).values())
    if len(systems) < number:
        raise WheeltapperError(f"{run.folder}: expected results of system {number} ({PARTS[part]}), found none")
    _official(run.folder, systems[number - 1])
    return systems[number - 1]


def _figures(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Score, interval, single scores and measures of one system in all runs, in percent."""
    scores = [100.0 * result["official_score"] for result in results]
    found = {"score": f"{statistics.mean(scores):.2f}"}
    if len(scores) > 1:
        interval, by = np.clip(mean_interval(scores), 0.0, 100.0).tolist(), f"t, {len(scores)} runs"
        found["scores"] = " ".join(f"{score:.2f}" for score in scores)
    else:
        interval, by = [100.0 * bound for bound in results[0]["ci95"] or ()], "bootstrap over clips"
    if interval:
        found |= {"95 % interval low": f"{interval[0]:.1f}", "95 % interval high": f"{interval[1]:.1f}"}
        found["interval by"] = by
    for column, measure in MEASURES.items():
        values = [100.0 * r["harmonic_mean"][measure] for r in results if measure in r["harmonic_mean"]]
        if len(values) == len(results):
            found[column] = f"{statistics.mean(values):.2f}"
    return found
