"""Our results as columns beside published ones.

``metrics.json`` of a run, ``references.json`` and what ``wheeltapper evaluate --json`` writes give a column a system,
``results.json`` of a study of the MIMII kind a column a model and method.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from system.errors import WheeltapperError
from system.evaluation.truth import LABELS
from system.files import read_json
from system.leaderboard import tables
from system.leaderboard.comparison import CLIPS, MEASURES, Column
from system.stage import MARKERS

Systems = Mapping[tuple[str, str], Mapping[str, Any]]  # (part, label) -> metrics of a system, fractions


def read_metrics(name: str, paths: Sequence[str | os.PathLike], year: int) -> list[Column]:
    """Our systems of one run, or of several that differ in their seed, as columns.

    They are complete where they were measured for ``year``, and, by the manifest beside the metrics if there is one,
    every labelled machine has as many test clips as the challenge's. Runs without labelled machines have no column.

    Raises WheeltapperError for files of another shape, a year whose rule has other measures, a file given twice, and
    runs that do not have the same systems and machines.
    """
    _once(paths)
    found = [_read(path) for path in paths]
    runs = [run for _, run in found]
    for path, run in zip(paths, runs, strict=True):
        if _shape(run) != _shape(runs[0]):
            raise WheeltapperError(f"{path}: expected the systems and machines of {paths[0]}, found others")
    complete = all(own == year and _complete(Path(path), run) for path, (own, run) in zip(paths, found, strict=True))
    records = tuple(_record(Path(path)) for path in paths)
    return columns(name, runs, files=tuple(map(str, paths)), records=records, complete=complete)


def read_study(name: str, paths: Sequence[str | os.PathLike]) -> list[Column]:
    """The models of a study, or of several that differ in their seed, as columns: AUC of each scope.

    They are complete where every scope has as many normal and anomalous clips as the published table says.

    Raises WheeltapperError for files of another shape, a file given twice, and studies of other models and scopes.
    """
    _once(paths)
    studies = [_study(path) for path in paths]
    shape = {row: list(scopes) for row, scopes in studies[0][0].items()}
    for path, (rows, _) in zip(paths, studies, strict=True):
        if {row: list(scopes) for row, scopes in rows.items()} != shape:
            raise WheeltapperError(f"{path}: expected the models and scopes of {paths[0]}, found others")
    (table,) = (table for table in tables.tables() if table.board == "mimii")
    complete = all(table.clips.get(scope) == count for _, counts in studies for scope, count in counts.items())
    about = {"files": tuple(map(str, paths)), "records": ({},) * len(paths), "complete": complete}
    return [
        Column(
            f"{name} {row}",
            {scope: {"AUC": tuple(100.0 * rows[row][scope] for rows, _ in studies)} for scope in scopes},
            like=row,
            **about,
        )
        for row, scopes in shape.items()
    ]


def columns(name: str, runs: Sequence[Systems], **about: Any) -> list[Column]:
    """Systems of runs of one shape as columns, called ``name``, and by the system's label where a run has several.

    A system with labelled development and with revealed evaluation clips gives a column of each. ``about``: further
    fields of the columns.
    """
    found = []
    for key, values in runs[0].items():
        several = sum(part == key[0] for part, _ in runs[0]) > 1
        label = re.sub(r"^.*_(?=task2_[0-9]+$)", "", key[1])
        cells = {
            machine: {m: tuple(100.0 * run[key]["per_machine"][machine][m] for run in runs) for m in MEASURES}
            for machine in values["per_machine"]
        }
        whole = tuple(100.0 * run[key]["official_score"] for run in runs)
        found.append(Column(f"{name} {label}" if several else name, cells, whole=whole, **about))
    return found


def _shape(run: Systems) -> dict[tuple[str, str], list[str]]:
    return {key: sorted(system["per_machine"]) for key, system in run.items()}


def _once(paths: Sequence[str | os.PathLike]) -> None:
    for path, count in Counter(map(str, paths)).items():
        if count > 1:
            raise WheeltapperError(f"{path}: expected each run once, found it {count} times")


def _read(path: str | os.PathLike) -> tuple[int, Systems]:
    """Year and systems of a file; a system's part is ``systems`` or ``evaluation``."""
    from system.evaluation.metrics import RULES, rule_of_year

    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("year"), int):
        raise WheeltapperError(f"{path}: expected the metrics of a run, an object with a year, found another shape")
    if not set(MEASURES) <= set(RULES[rule_of_year(value["year"])].official):
        raise WheeltapperError(f"{path}: year: expected one that measures {', '.join(MEASURES)}, found {value['year']}")
    whole = {"systems": {"": value}} if "per_machine" in value and "systems" not in value else value
    found = {}
    for part in ("systems", "evaluation"):
        for label, system in _object(whole.get(part) or {}, path, part).items():
            where = f"{part}: {label}" if label else "file"
            _fraction(_object(system, path, where).get("official_score"), path, f"{where}: official_score")
            machines = _object(system.get("per_machine"), path, f"{where}: per_machine")
            if not machines:
                raise WheeltapperError(f"{path}: {where}: per_machine: expected machines, found none")
            for machine, row in machines.items():
                for measure in MEASURES:
                    figure = _object(row, path, f"{where}: {machine}").get(measure)
                    _fraction(figure, path, f"{where}: {machine}: {measure}")
            found[part, label] = system
    if not found and "systems" not in value:
        raise WheeltapperError(f"{path}: expected the official score of a system, found none")
    return value["year"], found


def _study(path: str | os.PathLike) -> tuple[dict[str, dict[str, float]], dict[str, tuple[int, int]]]:
    """Row -> scope -> AUC, a fraction, and scope -> count of normal and of anomalous clips."""
    rows: dict[str, dict[str, float]] = {}
    counts = {}
    for scope, found in _object(_object(read_json(path), path, "file").get("scopes"), path, "scopes").items():
        try:
            counts[scope] = tuple(sum(part[label] for part in found["clips"].values()) for label in LABELS)
            areas = {result["row"]: result["auc"] for result in found["results"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise WheeltapperError(f"{path}: {scope}: expected clips and results, found damage ({error!r})") from error
        for row, area in areas.items():
            _fraction(area, path, f"{scope}: {row}: auc")
            rows.setdefault(str(row), {})[scope] = area
    if not rows:
        raise WheeltapperError(f"{path}: scopes: expected results, found none")
    return rows, counts


def _object(value: Any, path: str | os.PathLike, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WheeltapperError(f"{path}: {where}: expected an object, found {repr(value)[:80]}")
    return value


def _fraction(value: Any, path: str | os.PathLike, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:  # neither is NaN
        raise WheeltapperError(f"{path}: {where}: expected a fraction, 0 to 1, found {repr(value)[:80]}")


def _record(path: Path) -> dict[str, str]:
    """Commit and command of the evaluation, where its stage's marker lies beside the metrics."""
    markers = sorted((path.parent / MARKERS).glob("*_evaluate.json"))
    record = read_json(markers[0]) if markers else {}
    return {name: str(record.get(name, "")) for name in ("commit", "command")} if isinstance(record, dict) else {}


def _complete(metrics: Path, run: Systems) -> bool:
    """Whether each labelled machine has the challenge's number of tests by the manifest beside the metrics, if any."""
    from system import manifest

    path = metrics.parent / "manifest.csv"
    if not path.is_file():
        return True
    counts = Counter(clip.machine for clip in manifest.read(path) if clip.split == "test" and clip.label)
    machines = {machine for (part, _), system in run.items() if part == "systems" for machine in system["per_machine"]}
    return all(counts[machine] == CLIPS for machine in machines)
