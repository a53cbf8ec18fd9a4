"""Metrics of one system from its folder of challenge CSVs, and the same as a table."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from system.evaluation import available, challenge_csv
from system.evaluation.truth import Truth
from system.files import open_atomic

COLUMNS = {
    "AUC (source)": "AUC s",
    "AUC (target)": "AUC t",
    "pAUC": "pAUC",
    "pAUC (source)": "pAUC s",
    "pAUC (target)": "pAUC t",
    "hmean": "hmean",
    available.SCORE: "AUC+pAUC",
    "mean": "mean",
    "AUC (all)": "AUC all",
    "precision (source)": "prec s",
    "precision (target)": "prec t",
    "precision (all)": "prec",
    "recall (source)": "rec s",
    "recall (target)": "rec t",
    "recall (all)": "rec",
    "F1 score (source)": "F1 s",
    "F1 score (target)": "F1 t",
    "F1 score (all)": "F1",
}


def evaluate_folder(
    folder: Path, clips: list[Truth], rule: int, bootstrap: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Metrics (``available.evaluate``) of the challenge CSVs in a folder, and notes on what was passed over."""
    files = challenge_csv.list_folder(folder)
    keys = dict.fromkeys((clip.machine, clip.section) for clip in clips)
    scores = _read(files, challenge_csv.SCORE, keys)
    decisions = _read(files, challenge_csv.DECISION, keys)
    notes = available.sentences(available.gaps(clips, rule))
    notes += _notes(files, keys, decisions)
    return available.evaluate(scores, decisions, clips, rule, bootstrap, seed), notes


def _read(files: Mapping[tuple[str, str, str], Path], kind: str, keys: Iterable[tuple[str, str]]) -> dict:
    return {key: dict(challenge_csv.read(files[kind, *key], kind)) for key in keys if (kind, *key) in files}


def _notes(files: Iterable[tuple[str, str, str]], keys: Iterable[tuple[str, str]], decisions: Iterable) -> list[str]:
    """What was passed over: files of other machines, and machines without decisions."""
    known = set(keys)
    others = sorted(
        {f"{machine} section {section}" for _, machine, section in files if (machine, section) not in known}
    )
    undecided = sorted(f"{machine} section {section}" for machine, section in known - set(decisions))
    notes = []
    if others:
        notes.append(f"not in the truth, ignored: {', '.join(others)}")
    if undecided:
        what = "any machine" if len(undecided) == len(known) else ", ".join(undecided)
        notes.append(f"no decisions for {what}: precision, recall and F1 are left out there")
    return notes


def _rows(found: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, Mapping[str, float]]]]:
    """Names of the metrics that there are, and for each machine, section and mean its label and metrics."""
    machines: Mapping[str, Mapping[str, Any]] = found["per_machine"]
    names = [name for name in COLUMNS if any(name in values for values in machines.values())]
    rows: list[tuple[str, Mapping[str, float]]] = []
    for machine, values in machines.items():
        rows.append((machine, values))
        rows += [(f"  section {section}", each) for section, each in values.get("sections", {}).items()]
    means = [(name.replace("_", " "), found[name]) for name in ("arithmetic_mean", "harmonic_mean") if found[name]]
    return names, [*rows, *means]


def write_csv(path: Path, found: Mapping[str, Any]) -> None:
    """Writes the metrics of one system (see metrics.evaluate) as fractions: a row a machine, section and mean."""
    names, rows = _rows(found)
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["machine", *names])
        writer.writerows([label.strip(), *(values.get(name, "") for name in names)] for label, values in rows)


def table(found: Mapping[str, Any]) -> str:
    """The metrics of one system (see metrics.evaluate) as text, in percent."""
    names, rows = _rows(found)
    width = max(len(label) for label, _ in rows)
    lines = [" " * width + "".join(f"{COLUMNS[name]:>8}" for name in names)]
    for label, values in rows:
        cells = (f"{100 * values[name]:8.2f}" if name in values else " " * 8 for name in names)
        lines.append((f"{label:<{width}}" + "".join(cells)).rstrip())
    lines.append("")
    if found["official_score"] is not None:
        lines.append(f"official score  {100 * found['official_score']:.2f} %")
        lines += _interval(found["ci95"], found)
    if other := found.get(available.WITHOUT):
        measured = f"AUC {100 * other['auc']:.2f} %, pAUC {100 * other['pauc']:.2f} %"
        lines.append(f"over all domains  {measured}, harmonic mean {100 * other['score']:.2f} % (no official score)")
        lines += _interval(other["ci95"], found)
    if found["legacy_ci95"] is not None:
        lines.append(
            f"legacy interval +-{found['legacy_ci95']:.4g} (a fraction, as the official evaluator prints it; too small)"
        )
    return "\n".join(lines)


def _interval(interval: list[float] | None, found: Mapping[str, Any]) -> list[str]:
    if not interval:
        return []
    low, high = (100 * value for value in interval)
    replicates = found["bootstrap"]["replicates"]
    return [f"95 % interval   {low:.2f} to {high:.2f} % (stratified bootstrap, {replicates} resamples)"]
