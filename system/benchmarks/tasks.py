"""The tasks of the benchmarks by name: required fields, computation, result and table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from system.benchmarks import embedding_tables, results, rmis, rmis_ad, siren, siren_ad
from system.benchmarks.anomaly import YEARS
from system.benchmarks.embedding_tables import Labelled, Machines
from system.benchmarks.protocols import AS_CODED
from system.benchmarks.splits import check_recordings, check_sides, holdings
from system.errors import WheeltapperError

Answer = tuple[dict[str, Any], str]  # result and its table


@dataclass(frozen=True)
class Options:
    """Options of a task.

    Args:
        protocol: ``as-coded`` or ``clean``.
        sealed: keep all rows of a group on one side of every split.
        test_size: share of the recordings (rmis-fixed).
        memory: similarities in memory at once, in MB.
        workers: number of threads (random splits of RMIS).
        channels: number of channels whose embeddings are concatenated in a row, if known (faults of SIREN).
        year: year whose rules apply (anomaly detection).
    """

    protocol: str = AS_CODED
    sealed: bool = False
    test_size: float = 0.5
    memory: int = 1024
    workers: int = 1
    channels: int | None = None
    year: int = YEARS[-1]


@dataclass(frozen=True)
class BenchmarkTask:
    """One task.

    Args:
        about: one-line description.
        run: function of rows and options.
        score: field of the result that a table of encoders shows.
        needs: fields that the rows must have in addition to classes; None: rows are clips of machines.
        sealable: whether ``Options.sealed`` has an effect.
    """

    about: str
    run: Callable[[Any, Options], Answer]
    score: str
    needs: tuple[str, ...] | None = ()
    sealable: bool = False


def measure(name: str, data: Labelled | Machines, options: Options) -> Answer:
    """Runs a task.

    Args:
        name: name in ``TASKS``.
        data: embeddings and labels.
        options: of the task.

    Returns:
        The result, with the changes of the protocol, and a table as text.

    Raises:
        WheeltapperError: rows lack a field that the task needs.
    """
    found, text = TASKS[name].run(data, options)
    rows, dimensions = data.embeddings.shape
    changes = found.pop("changes")
    if options.sealed:
        changes = [*changes, "rows of one group are never on both sides (--sealed)"]
    return {"changes": changes, "rows": rows, "dimensions": dimensions, **found}, text


def measure_file(name: str, path: Path, field: str, options: Options) -> Answer:
    """Runs a task over the embeddings in an npz file (``embedding_tables``).

    Args:
        name: of the task.
        path: file, with which messages begin.
        field: of the file that holds the embeddings.
        options: how the task is run.
    """
    needs = TASKS[name].needs
    try:
        if needs is None:
            return measure(name, embedding_tables.read_machines(path, field), options)
        return measure(name, embedding_tables.read_labelled(path, field, needs), options)
    except WheeltapperError as error:
        text = str(error)
        raise WheeltapperError(text if str(path) in text else f"{path}: {text}") from error


def _fixed(data: Labelled, options: Options) -> Answer:
    head, groups, how = _splits(data, options)
    found = rmis.fixed_split(data.embeddings, data.labels, groups, test_size=options.test_size, **how)
    result = results.of_diagnosis(found)
    return head | {"test_size": options.test_size} | result, results.runs_text(result)


def _multi(data: Labelled, options: Options) -> Answer:
    head, groups, how = _splits(data, options)
    result = results.of_multi_split(rmis.multi_split(data.embeddings, data.labels, groups, **how))
    return head | result, results.curve_text(result)


def _splits(data: Labelled, options: Options) -> tuple[dict[str, Any], np.ndarray, dict[str, Any]]:
    if options.memory < 1 or options.workers < 1:
        raise WheeltapperError(
            f"--memory, --workers: expected at least 1, found {options.memory} and {options.workers}"
        )
    name, groups = _together(data, options) if options.sealed else ("ori", data.ori)
    assert groups is not None  # both tasks need the field
    head = {"changes": _rmis_changes(options), "kept_together": name, "recordings": len(set(groups))}
    how = {"mode": options.protocol, "classes": data.classes, "memory": options.memory << 20}
    return head | {"neighbours": rmis.NEIGHBOURS}, groups, how | {"workers": options.workers}


def _rmis_official(data: Labelled, options: Options) -> Answer:
    tested = np.asarray(data.split == "test")
    found = rmis.official_split(data.embeddings, data.labels, tested, options.protocol, data.classes)
    head = {"changes": _rmis_changes(options), "neighbours": rmis.NEIGHBOURS}
    result = head | results.of_official_split(found)
    result |= _conditions(data, tested, found.diagnosis.predicted[0][tested])
    text = f"macro accuracy {result['macro_accuracy']:.2f} % of {result['n_test']} test clips"
    return result, f"{results.class_table(result)}\n\n{results.condition_table(result)}{text}"


def _rmis_changes(options: Options) -> list[str]:
    return [] if options.protocol == AS_CODED else list(rmis.CHANGES)


def _left_out(data: Labelled, options: Options) -> Answer:
    name, groups = _siren_groups(data, options)
    predicted = siren.predict_left_out(
        data.embeddings, data.labels, options.protocol, groups, channels=options.channels
    )
    return _siren(data, options, "loocv", data.labels, predicted, {"kept_together": name})


def _folds(data: Labelled, options: Options) -> Answer:
    name, groups = _siren_groups(data, options)
    predicted, folds = siren.predict_folds(
        data.embeddings, data.labels, options.protocol, groups, channels=options.channels
    )
    right = predicted == data.labels
    extra = {"seed": siren.SEED, "folds": [100.0 * float(right[folds == f].mean()) for f in range(siren.FOLDS)]}
    return _siren(data, options, "kfold", data.labels, predicted, {"kept_together": name} | extra)


def _siren_official(data: Labelled, options: Options) -> Answer:
    tested = np.asarray(data.split == "test")
    check_sides(data.labels, data.classes, tested)
    predicted = siren.predict_test(data.embeddings, data.labels, tested, options.protocol, options.channels)
    extra = {"kept_together": None, **_conditions(data, tested, predicted)}
    return _siren(data, options, "official", data.labels[tested], predicted, extra)


def _siren(
    data: Labelled, options: Options, task: str, asked: np.ndarray, predicted: np.ndarray, extra: dict[str, Any]
) -> Answer:
    result = results.of_predictions(asked, predicted, data.classes)
    rows, dimensions = data.embeddings.shape
    changes = siren.changes(options.protocol, task, rows, dimensions, options.channels)
    text = f"accuracy {result['accuracy']:.2f} %: {result['correct']} of {result['n_test']}"
    result = {"changes": changes, "neighbours": siren.NEIGHBOURS} | extra | result
    return result, f"{results.class_table(result)}\n\n{results.condition_table(result)}{text}"


def _siren_groups(data: Labelled, options: Options) -> tuple[str | None, np.ndarray | None]:
    """The field that keeps rows together and its values, after a check that no class disappears with a group."""
    name, groups = _together(data, options)
    units, _, holds = holdings(data.labels, len(data.classes), data.files if groups is None else groups)
    check_recordings(holds, data.classes, units)
    return name, groups


def _together(data: Labelled, options: Options) -> tuple[str | None, np.ndarray | None]:
    """The field whose rows stay on one side, and its values; None if each row is independent."""
    if not options.sealed:
        return None, None
    if data.group is None and data.ori is None:
        raise WheeltapperError("--sealed: expected a field group, or ori, found neither")
    return ("group", data.group) if data.group is not None else ("ori", data.ori)


def _conditions(data: Labelled, tested: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Accuracy for each recording condition of the test rows, if conditions are known."""
    if data.condition is None:
        return {}
    return {"conditions": results.of_conditions(data.condition[tested], data.labels[tested], predicted)}


def _rmis_detection(data: Machines, options: Options) -> Answer:
    found = rmis_ad.detect(data, options.year, options.protocol)
    head = {"changes": rmis_ad.changes(options.protocol, options.year), "year": options.year}
    return head | results.of_rmis_detection(found), results.rmis_detection_text(found)


def _siren_detection(data: Machines, options: Options) -> Answer:
    found = siren_ad.detect(data, options.year, options.protocol)
    head = {"changes": siren_ad.changes(options.protocol, options.year), "year": options.year}
    return head | results.of_siren_detection(found), results.siren_detection_text(found)


TASKS = {
    "rmis-fixed": BenchmarkTask(
        "RMIS fault diagnosis: ten random splits of the recordings", _fixed, "mean", ("ori",), True
    ),
    "rmis-multisplit": BenchmarkTask(
        "RMIS fault diagnosis: ten splits at each of 19 test sizes, curve and area", _multi, "area", ("ori",), True
    ),
    "rmis-official": BenchmarkTask(
        "RMIS fault diagnosis: the split that comes with the data set (IIEE)",
        _rmis_official,
        "macro_accuracy",
        ("split",),
    ),
    "rmis-ad": BenchmarkTask(
        "RMIS anomaly detection by the rules of a year of DCASE Task 2", _rmis_detection, "total", None
    ),
    "siren-loocv": BenchmarkTask(
        "SIREN fault classification: one recording left out at a time (CWRU, MaFaulDa)",
        _left_out,
        "accuracy",
        sealable=True,
    ),
    "siren-kfold": BenchmarkTask("SIREN fault classification: five folds (IICA)", _folds, "accuracy", sealable=True),
    "siren-official": BenchmarkTask(
        "SIREN fault classification: the split that comes with the data set (IIEE)",
        _siren_official,
        "accuracy",
        ("split",),
    ),
    "siren-ad": BenchmarkTask(
        "SIREN anomaly detection by the rules of a year of DCASE Task 2", _siren_detection, "score", None
    ),
}
