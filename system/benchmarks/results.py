"""Results of the benchmarks as plain values for JSON, and as short tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from system.benchmarks import rmis, rmis_ad, siren_ad

Result = dict[str, Any]


def of_diagnosis(found: rmis.Diagnosis) -> Result:
    """Mean and standard deviation of the runs, each run, recalls by class, and confusion matrix (true class, predicted
    class).
    """
    columns = (found.seeds, found.recordings, found.tests, found.macro_accuracy, found.accuracy, found.class_recalls)
    return {
        "mean": found.mean,
        "std": found.std,
        "macro_accuracy_per_run": found.macro_accuracy,
        "runs": [
            {
                "seed": rmis.FIRST_SEED + number,
                "seed_used": seed,
                "n_test": int(test.sum()),
                "n_test_recordings": recordings,
                "macro_accuracy": macro,
                "micro_accuracy": accuracy,
                "per_class": recalls,
            }
            for number, (seed, recordings, test, macro, accuracy, recalls) in enumerate(zip(*columns, strict=True))
        ],
        "per_class": found.per_class,
        "confusion": found.confusion.sum(axis=0).tolist(),
    }


def of_multi_split(found: rmis.MultiSplit) -> Result:
    """Area, curve over the training share, and the result of every test size as in ``of_diagnosis``."""
    shares, accuracies = zip(*found.curve, strict=True)
    return {
        "area": found.area,
        "curve": {"train_size": list(shares), "accuracy": list(accuracies)},
        "end_points": [list(point) for point in found.end_points],
        "test_sizes": [
            {"test_size": size, "train_size": round(1.0 - size, 2), **of_diagnosis(each)}
            for size, each in found.diagnoses.items()
        ],
    }


def of_official_split(found: rmis.OfficialSplit) -> Result:
    """Result of one run without seeds, and the curve over the number of neighbours."""
    whole = found.diagnosis
    return {
        "macro_accuracy": whole.mean,
        "micro_accuracy": whole.accuracy[0],
        "n_test": int(whole.tests.sum()),
        "per_class": whole.per_class,
        "confusion": whole.confusion[0].tolist(),
        "curve": {"neighbours": list(range(1, len(found.curve) + 1)), "macro_accuracy": found.curve},
    }


def of_predictions(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Result:
    """Accuracy as in SIREN, and macro accuracy.

    Args:
        labels: class numbers of the test rows, (M,).
        predicted: predicted class numbers, (M,).
        classes: names of the classes.
    """
    whole = rmis.Diagnosis(list(classes), labels, np.ones((1, len(labels)), bool), predicted[None], [], [], False)
    return {
        "accuracy": whole.accuracy[0],
        "correct": int(np.sum(labels == predicted)),
        "n_test": len(labels),
        "macro_accuracy": whole.mean,
        "per_class": whole.per_class,
        "confusion": whole.confusion[0].tolist(),
    }


def of_conditions(conditions: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> Result:
    """Accuracy, and its mean over the classes present, for the rows of each condition.

    Args:
        conditions: text, (M,).
        labels: class numbers of the test rows, (M,).
        predicted: predicted class numbers, (M,).
    """
    found = {}
    for name in sorted(set(conditions.tolist())):
        own = conditions == name
        right, classes = predicted[own] == labels[own], labels[own]
        found[name] = {
            "n_test": int(own.sum()),
            "accuracy": 100.0 * float(right.mean()),
            "macro_accuracy": 100.0 * float(np.mean([right[classes == c].mean() for c in np.unique(classes)])),
        }
    return found


def of_rmis_detection(found: rmis_ad.RmisDetection) -> Result:
    """Total score; by subset its score, the mean over machines, and the machines, with their sections if there are
    several.
    """
    subsets = {}
    for name, subset in found.subsets.items():
        machines: dict[str, Any] = {}
        for machine, columns in subset.machines.items():
            own = subset.sections[machine]
            machines[machine] = columns | ({"sections": own} if len(own) > 1 else {})
        subsets[name] = {"score": subset.score, "machines": machines, "mean": subset.mean}
    return {"total": found.total, **subsets}


def of_siren_detection(found: siren_ad.SirenDetection) -> Result:
    """Score of the year; by subset the machines with their sections."""
    subsets = {
        subset: {
            "machines": {
                machine: {"mean": found.means[subset][machine], "sections": own} for machine, own in machines.items()
            }
        }
        for subset, machines in found.sections.items()
    }
    return {"score": found.score, **subsets}


def table(rows: Sequence[Sequence[Any]]) -> str:
    """A text table: first column left-aligned, numbers right-aligned, fractions with two decimals."""
    cells = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[number]) for row in cells) for number in range(len(cells[0]))]
    lines = []
    for first, *others in cells:
        rest = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *rest]).rstrip())
    return "\n".join(lines)


def class_table(result: Result) -> str:
    """Recall of each class, and the class it is most often confused with."""
    rows = [["class", "recall %", "most often confused with"]]
    names = list(result["per_class"])
    for number, (name, recall) in enumerate(result["per_class"].items()):
        wrong = np.array(result["confusion"][number])
        clips = wrong.sum()
        wrong[number] = 0
        other = f"{names[wrong.argmax()]} ({100 * wrong.max() / clips:.1f} %)" if wrong.any() else "-"
        rows.append([name, recall, other])
    return table(rows)


def condition_table(result: Result) -> str:
    """The result of ``of_conditions`` as text, followed by an empty line; empty if there is none."""
    if not result.get("conditions"):
        return ""
    rows: list[Sequence[Any]] = [["condition", "clips", "accuracy %", "macro accuracy %"]]
    rows += [[name, *found.values()] for name, found in result["conditions"].items()]
    return f"{table(rows)}\n\n"


def runs_text(result: Result) -> str:
    """The result of ``of_diagnosis`` as text."""
    rows: list[Sequence[Any]] = [["run", "seed used", "test clips", "macro accuracy %"]]
    for number, run in enumerate(result["runs"], 1):
        rows.append([number, run["seed_used"], run["n_test"], run["macro_accuracy"]])
    mean = f"macro accuracy {result['mean']:.2f} ± {result['std']:.2f} % (mean and standard deviation of the runs)"
    return f"{table(rows)}\n\n{class_table(result)}\n\n{mean}"


def curve_text(result: Result) -> str:
    """The result of ``of_multi_split`` as text."""
    rows = [["training share", "macro accuracy %", "deviation"]]
    rows += [[each["train_size"], each["mean"], each["std"]] for each in reversed(result["test_sizes"])]
    return f"{table(rows)}\n\narea {result['area']:.2f} %"


def rmis_detection_text(found: rmis_ad.RmisDetection) -> str:
    """A table with a row per machine and a column per AUC, and the mean below each subset."""
    rows: list[list[Any]] = []
    for name, subset in found.subsets.items():
        rows = rows or [["%", *subset.mean]]
        for machine, columns in subset.machines.items():
            rows.append([f"{name} {machine}", *columns.values()])
            own = subset.sections[machine]
            rows += [[f"  section {key}", *each.values()] for key, each in own.items() if len(own) > 1]
        rows.append([f"{name}, mean", *subset.mean.values()])
    scores = [f"{name} {subset.score:.2f} %" for name, subset in found.subsets.items()]
    total = "no total: one subset only" if found.total is None else f"total {found.total:.2f} %"
    return f"{table(rows)}\n\n{', '.join(scores)}, {total}"


def siren_detection_text(found: siren_ad.SirenDetection) -> str:
    """A table with a row per section and a column per AUC, and the mean of each machine."""
    rows: list[list[Any]] = []
    for name, machines in found.sections.items():
        for machine, own in machines.items():
            for number, (section, columns) in enumerate(own.items()):
                rows = rows or [["%", *columns, "machine's mean"]]
                mean = "" if number else found.means[name][machine]
                rows.append([f"{name} {machine} {section}", *columns.values(), mean])
    return f"{table(rows)}\n\nscore {found.score:.2f} %"
