"""The benchmarks' tasks by name: which fields of the rows each asks for, the run, its result and table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from system.benchmarks import results, rmis, rmis_ad, siren, siren_ad
from system.benchmarks.embedding_tables import Labelled, Machines
from system.benchmarks.protocols import AS_CODED
from system.benchmarks.splits import check_recordings, check_sides, holdings
from system.errors import WheeltapperError

LATEST = 2025

Answer = tuple[dict[str, Any], str]  # result and its table


@dataclass(frozen=True)
class Options:
    """How a task is run.

    Args:
        protocol: ``as-coded`` or ``clean``. sealed: rows of one group are never on both sides.
        test_size: share of the recordings (rmis-fixed).
        memory: MB of similarities held at once. workers: threads (RMIS's random splits).
        channels: whose embeddings stand side by side in a row, where that is known (SIREN's faults).
        year: whose rules count (anomaly detection).
    """

    protocol: str = AS_CODED
    sealed: bool = False
    test_size: float = 0.5
    memory: int = 1024
    workers: int = 1
    channels: int | None = None
    year: int = LATEST


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        about: in words. run: of rows and options. score: the field of its result that a table of encoders shows.
        needs: fields that the rows must have beside their classes; None: rows are clips of machines.
        sealable: whether ``Options.sealed`` means anything.
    """

    about: str
    run: Callable[[Any, Options], Answer]
    score: str
    needs: tuple[str, ...] | None = ()
    sealable: bool = False


def measure(name: str, data: Labelled | Machines, options: Options) -> Answer:
    """Runs a task: its result, with what the protocol changed and what was measured, and the table for readers.

    Raises WheeltapperError where the rows lack what the task asks for.
    """
    found, text = TASKS[name].run(data, options)
    rows, dimensions = data.embeddings.shape
    changes = found.pop("changes")
    if options.sealed:
        changes = [*changes, "rows of one group are never on both sides (--sealed)"]
    return {"changes": changes, "rows": rows, "dimensions": dimensions, **found}, text


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
    """What stays together, after a look whether every class is left when a part is taken away."""
    name, groups = _together(data, options)
    units, _, holds = holdings(data.labels, len(data.classes), data.files if groups is None else groups)
    check_recordings(holds, data.classes, units)
    return name, groups


def _together(data: Labelled, options: Options) -> tuple[str | None, np.ndarray | None]:
    """The field whose rows stay on one side, and its values; None where each row is alone."""
    if not options.sealed:
        return None, None
    if data.group is None and data.ori is None:
        raise WheeltapperError("--sealed: expected a field group, or ori, found neither")
    return ("group", data.group) if data.group is not None else ("ori", data.ori)


def _conditions(data: Labelled, tested: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """What was right under each condition that the test rows were recorded in, where that is known."""
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
    "rmis-fixed": Task("RMIS fault diagnosis: ten random splits of the recordings", _fixed, "mean", ("ori",), True),
    "rmis-multisplit": Task(
        "RMIS fault diagnosis: ten splits at each of 19 test sizes, curve and area", _multi, "area", ("ori",), True
    ),
    "rmis-official": Task(
        "RMIS fault diagnosis: the split that comes with the data set (IIEE)",
        _rmis_official,
        "macro_accuracy",
        ("split",),
    ),
    "rmis-ad": Task("RMIS anomaly detection by the rules of a year of DCASE Task 2", _rmis_detection, "total", None),
    "siren-loocv": Task(
        "SIREN fault classification: one recording left out at a time (CWRU, MaFaulDa)",
        _left_out,
        "accuracy",
        sealable=True,
    ),
    "siren-kfold": Task("SIREN fault classification: five folds (IICA)", _folds, "accuracy", sealable=True),
    "siren-official": Task(
        "SIREN fault classification: the split that comes with the data set (IIEE)",
        _siren_official,
        "accuracy",
        ("split",),
    ),
    "siren-ad": Task("SIREN anomaly detection by the rules of a year of DCASE Task 2", _siren_detection, "score", None),
}
