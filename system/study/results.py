"""AUCs of a study's scores, and the table of several studies."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from system.errors import WheeltapperError
from system.evaluation import roc
from system.evaluation.truth import LABELS
from system.files import open_atomic, read_json
from system.study.data import PARTS, TEST, VALIDATION, SplitRow, evaluated

AUTOENCODER = "autoencoder"
# Name of each score, and of its row in the table after the model's name; the first two are those of the MIMII paper.
METHODS = {
    "supervised": "supervised",
    "lof_vote": "LOF",
    "lof_share": "LOF, share of votes",
    "lof": "LOF, factor",
}
FORMAT = 1  # of results.json
Table = dict[str, dict[str, list[float]]]


def write_scores(path: str | os.PathLike, rows: Sequence[SplitRow], scores: Mapping[str, np.ndarray]) -> None:
    """Writes the scores of the validation and test parts with full precision, atomically.

    Args:
        path: csv file.
        rows: all rows of the scope.
        scores: (M,) by column, for the rows of ``evaluated``.
    """
    own = [row for row, kept in zip(rows, evaluated(rows), strict=True) if kept]
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "part", "label", *scores])
        columns = [np.asarray(values).tolist() for values in scores.values()]
        for row, *values in zip(own, *columns, strict=True):
            writer.writerow([row.name, row.part, row.label, *map(repr, values)])


def read_aucs(path: str | os.PathLike) -> dict[str, dict[str, float | None]]:
    """AUCs of each column in a file of ``write_scores``.

    Returns:
        ``auc`` of the test part, and ``validation`` of that part, None if it lacks a label.

    Raises:
        WheeltapperError: the file is missing or damaged, or the test part lacks a label.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = list(csv.reader(file))
        parts, labels = (np.array([line[column] for line in lines]) for column in (1, 2))
        values = {name: np.array([float(line[c]) for line in lines]) for c, name in enumerate(header[3:], 3)}
    except (OSError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise WheeltapperError(f"{path}: expected scores, found {error}") from error
    found: dict[str, dict[str, float | None]] = {}
    for name, scores in values.items():
        found[name] = {}
        for key, part in (("auc", TEST), ("validation", VALIDATION)):
            own, wrong = scores[parts == part], labels[parts == part] == "anomaly"
            both = 0 < wrong.sum() < len(wrong)
            if part == TEST and not both:
                raise WheeltapperError(f"{path}: expected normal and anomalous test recordings, found {set(labels)}")
            found[name][key] = roc.auc(own, wrong) if both else None
    return found


def scope_results(folder: Path, models: Sequence[str], rows: Sequence[SplitRow]) -> dict[str, Any]:
    """The entry of one scope in results.json: number of clips by part and label, AUC by model and method."""
    counts = {p: {lab: sum(r.part == p and r.label == lab for r in rows) for lab in LABELS} for p in PARTS}
    files = [(AUTOENCODER, "scores.csv"), *((m, file) for m in models for file in ("supervised.csv", "lof.csv"))]
    results = [
        {"model": model, "method": method, "row": row_name(model, method), **areas}
        for model, file in files
        if (folder / model / file).is_file()
        for method, areas in read_aucs(folder / model / file).items()
    ]
    order = (AUTOENCODER, *METHODS)
    return {"clips": counts, "results": sorted(results, key=lambda result: order.index(result["method"]))}


def row_name(model: str, method: str) -> str:
    """Name of a row of the table."""
    return "Autoencoder" if method == AUTOENCODER else f"{model.upper()} - {METHODS[method]}"


def read_results(paths: Sequence[str | os.PathLike]) -> Table:
    """AUCs of several studies: row -> scope -> values, in the order of first appearance.

    Args:
        paths: results.json of studies with different seeds.

    Raises:
        WheeltapperError: a file is missing or damaged, or two have the same seed.
    """
    table: Table = {}
    seeds: dict[int, Any] = {}
    for path in paths:
        found = read_json(path)
        try:
            if found["format"] != FORMAT:
                raise WheeltapperError(f"{path}: expected results of format {FORMAT}, found {found['format']}")
            other = seeds.setdefault(found["seed"], path)
            for scope, result in found["scopes"].items():
                for row in result["results"]:
                    table.setdefault(row["row"], {}).setdefault(scope, []).append(float(row["auc"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WheeltapperError(f"{path}: expected results of a study, found a damaged file ({error!r})") from error
        if other != path:
            raise WheeltapperError(f"{path}: expected studies of different seeds, found that of {other}")
    return table


def write_table(folder: str | os.PathLike, table: Table) -> list[Path]:
    """Writes table.csv and table.md, with one column per scope.

    A cell is the mean over the studies; with several studies the csv has their standard deviation (n - 1) in
    <scope>_std.
    """
    scopes = list(dict.fromkeys(scope for row in table.values() for scope in row))
    path = Path(folder) / "table.csv"
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", *(name for scope in scopes for name in (scope, f"{scope}_std"))])
        for name, row in table.items():
            cells = [_statistics(row.get(scope)) for scope in scopes]
            writer.writerow([name, *("" if x is None else f"{x:.4f}" for pair in cells for x in pair)])
    lines = [["AUC", *scopes], ["---", *("---:" for _ in scopes)]]
    for name, row in table.items():
        lines.append([name, *(_cell(row.get(scope)) for scope in scopes)])
    text = Path(folder) / "table.md"
    with open_atomic(text) as file:
        file.write("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    return [path, text]


def _statistics(values: Sequence[float] | None) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _cell(values: Sequence[float] | None) -> str:
    mean, deviation = _statistics(values)
    return "" if mean is None else f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
