"""Our results as entries beside published ones.

``metrics.json`` of a run, ``references.json`` and what ``wheeltapper evaluate --json`` writes give an entry a system,
``results.json`` of a study of the MIMII kind an entry a model and method, what ``wheeltapper benchmark rmis|siren
--json`` writes one of an encoder.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from system.benchmarks.protocols import MODES
from system.errors import WheeltapperError
from system.evaluation import available
from system.evaluation.truth import LABELS
from system.files import read_json
from system.leaderboard import published
from system.leaderboard.boards import BOARDS
from system.leaderboard.comparison import CLIPS, MEASURES, challenge_year
from system.leaderboard.table import SCORE, Entry
from system.stage import MARKERS

Systems = Mapping[tuple[str, str], Mapping[str, Any]]  # (part, label) -> metrics of a system, fractions
Paths = Sequence[str | os.PathLike]


def read(board: str, named: Iterable[tuple[str, Paths]]) -> list[Entry]:
    """Our results for a board.

    Args:
        named: names and results, several where runs differ in their seed. Encoders have names of their own.
    """
    if board in BOARDS:
        return read_benchmarks(board, [path for _, paths in named for path in paths])
    year = challenge_year(board)
    found = [read_metrics(*item, year) if year else read_study(*item) for item in named]
    return [entry for entries in found for entry in entries]


def read_benchmarks(board: str, paths: Paths) -> list[Entry]:
    """Our encoders, one a file.

    A file is a JSON object with ``benchmark`` (the board's name), ``encoder`` (as it shall be shown), ``protocol``,
    ``scores`` (percent by data set, as many as there are) and ``record`` with ``commit`` and ``command``; other keys
    are ignored. A result without any score is passed over.

    Raises:
        WheeltapperError: another shape, an unknown data set, a score that is no percentage, and a second result of the
            same encoder and protocol.
    """
    found: dict[tuple[str, str], Entry] = {}
    for path in paths:
        entry = _benchmark(board, path)
        if not entry.figures:
            continue
        other = found.setdefault((entry.name, entry.protocol), entry)
        if other is not entry:
            raise WheeltapperError(
                f"{path}: expected one result of encoder {entry.name!r} by protocol {entry.protocol}, found it also in "
                f"{other.files[0]}"
            )
    return list(found.values())


def read_metrics(name: str, paths: Paths, year: int) -> list[Entry]:
    """Our systems of one run, or of several that differ in their seed.

    They are complete where they were measured for ``year``, and, by the manifest beside the metrics if there is one,
    every labelled machine has as many test clips as the challenge's. Runs without labelled machines have no entry.

    Raises:
        WheeltapperError: files of another shape, a year whose rule has other measures, a file given twice, and runs
            that do not have the same systems and machines.
    """
    _once(paths)
    found = [_read(path) for path in paths]
    runs = [run for _, run in found]
    for path, run in zip(paths, runs, strict=True):
        if _shape(run) != _shape(runs[0]):
            raise WheeltapperError(f"{path}: expected the systems and machines of {paths[0]}, found others")
    complete = all(own == year and _complete(Path(path), run) for path, (own, run) in zip(paths, found, strict=True))
    records = tuple(_record(Path(path)) for path in paths)
    return entries(name, runs, files=tuple(map(str, paths)), records=records, complete=complete)


def read_study(name: str, paths: Paths) -> list[Entry]:
    """The models of a study, or of several that differ in their seed: AUC of each scope.

    They are complete where every scope has as many normal and anomalous clips as the published table says.

    Raises:
        WheeltapperError: files of another shape, a file given twice, and studies of other models and scopes.
    """
    _once(paths)
    studies = [_study(path) for path in paths]
    shape = {row: list(scopes) for row, scopes in studies[0][0].items()}
    for path, (rows, _) in zip(paths, studies, strict=True):
        if {row: list(scopes) for row, scopes in rows.items()} != shape:
            raise WheeltapperError(f"{path}: expected the models and scopes of {paths[0]}, found others")
    (table,) = (table for table in published.tables() if table.board == "mimii")
    complete = all(table.clips.get(scope) == count for _, counts in studies for scope, count in counts.items())
    return [
        Entry(
            f"{name} {row}",
            {(scope, "AUC"): tuple(100.0 * rows[row][scope] for rows, _ in studies) for scope in scopes},
            files=tuple(map(str, paths)),
            records=({},) * len(paths),
            like=row,
            complete=complete,
        )
        for row, scopes in shape.items()
    ]


def official_rows(system: Mapping[str, Any]) -> dict[str, Any]:
    """The machines of a system but those that are measured over all domains together (``available.evaluate``)."""
    return {machine: row for machine, row in system["per_machine"].items() if available.SCORE not in row}


def entries(name: str, runs: Sequence[Systems], **about: Any) -> list[Entry]:
    """Systems of runs of one shape, called ``name``, and by the system's label where a run has several.

    A system with labelled development and with revealed evaluation clips gives an entry of each. ``about``: further
    fields of the entries.
    """
    found = []
    for key, values in runs[0].items():
        several = sum(part == key[0] for part, _ in runs[0]) > 1
        label = re.sub(r"^.*_(?=task2_[0-9]+$)", "", key[1])
        figures = {
            (machine, m): tuple(100.0 * run[key]["per_machine"][machine][m] for run in runs)
            for machine in values["per_machine"]
            for m in MEASURES
        }
        score = tuple(100.0 * run[key]["official_score"] for run in runs)
        found.append(Entry(f"{name} {label}" if several else name, figures, {SCORE: score}, **about))
    return found


def _benchmark(board: str, path: str | os.PathLike) -> Entry:
    value = _object(read_json(path), path, "")
    record = _object(value.get("record"), path, "record")
    scores = _object(value.get("scores"), path, "scores")
    texts = {name: value.get(name) for name in ("benchmark", "encoder", "protocol")}
    texts |= {f"record: {name}": record.get(name) for name in ("commit", "command")}
    for name, text in texts.items():
        if not isinstance(text, str) or (not text and ":" not in name):
            raise _wrong(path, name, "text", text)
    if value["benchmark"] != board:
        raise _wrong(path, "benchmark", board, value["benchmark"])
    if value["protocol"] not in MODES:
        raise _wrong(path, "protocol", " or ".join(MODES), value["protocol"])
    keys = {figure.name: figure.key for figure in BOARDS[board].figures}
    for name, score in scores.items():
        if name not in keys:
            raise _wrong(path, "scores", f"some of {', '.join(keys)}", name)
        _number(score, path, f"scores: {name}", 100)
    figures = {keys[name]: (float(score),) for name, score in scores.items()}
    records = ({name: record[name] for name in ("commit", "command")},)
    return Entry(value["encoder"], figures, protocol=value["protocol"], files=(str(path),), records=records)


def _shape(run: Systems) -> dict[tuple[str, str], list[str]]:
    return {key: sorted(system["per_machine"]) for key, system in run.items()}


def _once(paths: Sequence[str | os.PathLike]) -> None:
    for path, count in Counter(os.path.realpath(path) for path in paths).items():
        if count > 1:
            raise WheeltapperError(f"{path}: expected each run once, found it {count} times")


def _read(path: str | os.PathLike) -> tuple[int, Systems]:
    """Year and systems of a file; a system's part is ``systems`` or ``evaluation``."""
    from system.corpora.challenge import rule_of_year
    from system.evaluation.metrics import RULES

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
            if _object(system, path, where).get("official_score") is None and system.get(available.WITHOUT):
                raise WheeltapperError(
                    f"{path}: {where}: expected an official score, found AUC and pAUC over all domains alone: no "
                    "machine has test clips of all the kinds that it needs"
                )
            _number(system.get("official_score"), path, f"{where}: official_score")
            machines = _object(system.get("per_machine"), path, f"{where}: per_machine")
            if not machines:
                raise WheeltapperError(f"{path}: {where}: per_machine: expected machines, found none")
            rows = {machine: _object(row, path, f"{where}: {machine}") for machine, row in machines.items()}
            rows = official_rows({"per_machine": rows})
            for machine, row in rows.items():
                for measure in MEASURES:
                    _number(row.get(measure), path, f"{where}: {machine}: {measure}")
            found[part, label] = system | {"per_machine": rows}
    if not found and "systems" not in value:
        raise WheeltapperError(f"{path}: expected the official score of a system, found none")
    return value["year"], found


def _study(path: str | os.PathLike) -> tuple[dict[str, dict[str, float]], dict[str, tuple[int, int]]]:
    """Row -> scope -> AUC, a fraction, and scope -> count of normal and of anomalous clips."""
    rows: dict[str, dict[str, float]] = {}
    counts = {}
    for scope, found in _object(_object(read_json(path), path, "").get("scopes"), path, "scopes").items():
        try:
            counts[scope] = tuple(sum(part[label] for part in found["clips"].values()) for label in LABELS)
            areas = {result["row"]: result["auc"] for result in found["results"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise WheeltapperError(f"{path}: {scope}: expected clips and results, found damage ({error!r})") from error
        for row, area in areas.items():
            _number(area, path, f"{scope}: {row}: auc")
            rows.setdefault(str(row), {})[scope] = area
    if not rows:
        raise WheeltapperError(f"{path}: scopes: expected results, found none")
    return rows, counts


def _wrong(path: str | os.PathLike, where: str, expected: str, found: Any) -> WheeltapperError:
    shown = "nothing" if found is None else repr(found)[:80]
    return WheeltapperError(f"{path}: {f'{where}: ' if where else ''}expected {expected}, found {shown}")


def _object(value: Any, path: str | os.PathLike, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(path, where, "an object", value)
    return value


def _number(value: Any, path: str | os.PathLike, where: str, most: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:  # neither is NaN
        raise _wrong(path, where, "a fraction, 0 to 1" if most == 1 else f"a percentage, 0 to {most}", value)


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
