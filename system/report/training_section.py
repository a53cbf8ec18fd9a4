"""Report sections on training, gate, fault-diagnosis benchmark, and the stages of the run."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from system.config import AutoencoderBranchConfig, EncoderBranchConfig
from system.files import read_json
from system.manifest import Row
from system.report import curves
from system.report.load_run import Curve, RunData, read_array, read_curve
from system.report.results import PageSection

CURVES = 3  # machines per chart
MOST_CLIPS = (0.1, 0.9)  # quantiles of the gate's weights that are shown as a band
TASKS = {  # description of each stage
    "data": "collects the recordings and lists them",
    "pretrain": "loads or trains the network that turns sound into embeddings",
    "adapt": "adapts it to the healthy sound of these machines",
    "embed": "computes an embedding of every recording",
    "score": "measures how far each clip lies from the healthy ones",
    "fuse": "combines the scores, sets the alarm levels, decides",
    "evaluate": "compares with the labels, if they are known",
    "package": "packs the results for submission",
    "benchmark": "checks the network on another task",
    "report": "writes this page",
}


def training(run: RunData) -> PageSection:
    """Training curves of the pre-training and of each branch."""
    paths = run.paths
    curve = read_curve(run, paths.encoder.parent / "curve.csv")
    found = []
    loss = curves.curve_chart(
        "Pre-training", curve, [("loss", "total"), ("loss_band", "band"), ("loss_patch", "patch")], "loss"
    )
    spread = curves.curve_chart(
        "Pre-training", curve, [("target_std", "targets"), ("prediction_std", "predictions")], "spread"
    )
    for chart, title, text in (
        (loss, "Pre-training: loss", "Falls while the network learns to predict masked parts of the spectrogram."),
        (
            spread,
            "Pre-training: spread",
            "Should stay above zero; at zero all sounds would have the same representation.",
        ),
    ):
        if chart:
            found.append({"title": title, "chart": chart, "text": text})
    idle = ""
    branches = run.config.branches if run.config else {}
    for branch in run.paths.network_branches if branches else ():
        curve = read_curve(run, paths.card(branch).parent / "curve.csv")
        if isinstance(branches[branch], AutoencoderBranchConfig):
            found += _autoencoder_curves(branch, curve)
            continue
        card = run.attempt(paths.card(branch), read_json)
        if isinstance(card, dict) and card.get("skipped"):
            idle += f" The adaptation of {branch} was skipped, since {card['skipped']}."
            continue
        chart = curves.curve_chart(
            branch, curve, [("loss", "total"), ("loss_attribute", "attribute"), ("loss_domain", "domain")], "loss"
        )
        if chart:
            text = "Falls while the network learns to distinguish the machines' operating conditions."
            found.append({"title": f"Adaptation of {branch}: loss", "chart": chart, "text": text})
    if not found:
        return f"Nothing was trained in this run.{idle}"
    skipped = "" if loss or not paths.has_encoder else "Pre-training was skipped or has no curve."
    return {"charts": found, "note": f"{skipped}{idle}".strip()}


def _autoencoder_curves(branch: str, curve: Curve) -> list[dict[str, Any]]:
    """Charts of a branch's autoencoders, a few machines each."""
    names = [name for name in curve if name != "step"]
    text = "Falls while each machine's network learns to reconstruct its normal clips."
    found = []
    for start in range(0, len(names), CURVES):
        part = names[start : start + CURVES]
        chart = curves.curve_chart(branch, curve, [(name, name) for name in part], "loss")
        if chart:
            found.append({"title": f"Autoencoders of {branch}: {', '.join(part)}", "chart": chart, "text": text})
    return found


@dataclass(frozen=True)
class Gates:
    """Weights of a branch's gate for all clips.

    Attributes:
        inputs: names of the two inputs.
        values: weights of the first input over time, (N, slots).
        rows: row of each clip or window.
    """

    inputs: Sequence[str]
    values: np.ndarray
    rows: Mapping[Row, int]


def gates(run: RunData) -> dict[str, Gates]:
    """The stored gate weights of the branches with two inputs."""
    found = {}
    for branch, config in run.config.branches.items() if run.config else ():
        if not isinstance(config, EncoderBranchConfig) or len(config.inputs) < 2:
            continue
        if table := read_array(run, branch, run.paths.gate(branch)):
            found[branch] = Gates(config.inputs, table[1], {key: row for row, key in enumerate(table[0])})
    return found


def gate(run: RunData) -> PageSection:
    """Mean weight of the near microphone over time, per machine and branch."""
    if run.clips and all(clip.model_channels < 2 for clip in run.clips):
        return "The recordings have one channel, so there is nothing for the gate to choose between."
    found = gates(run)
    if not found:
        branches = run.config.branches.values() if run.config else ()
        encoders = [branch for branch in branches if isinstance(branch, EncoderBranchConfig)]
        if run.config and not any(len(branch.inputs) > 1 for branch in encoders):
            return "No network has two inputs, so there is no gate."
        return "The run has no weights of the gate."
    inputs = next(iter(found.values())).inputs
    found = {branch: table for branch, table in found.items() if table.inputs == inputs}
    clips = {clip.key: clip for clip in run.clips}
    seconds: dict[str, list[float]] = {}
    for table in found.values():
        for row in table.rows:
            if clip := clips.get(row[:4]):
                samples = row[5] if len(row) == 6 else clip.samples
                seconds.setdefault(clip.machine, []).append(samples / clip.rate)
    names = list(dict.fromkeys(key[0] for table in found.values() for key in table.rows))
    shown = []
    for name in names:
        profiles, spread = [], None
        for branch, table in found.items():
            rows = [row for key, row in table.rows.items() if key[0] == name]
            if rows:
                courses = np.asarray(table.values[rows], float)
                profiles.append((branch, courses.mean(0)))
                spread = spread or tuple(np.quantile(courses, MOST_CLIPS, axis=0))
        length = float(np.median(seconds.get(name, [1.0])))
        means = ", ".join(f"{branch} {100 * profile.mean():.0f}\N{NO-BREAK SPACE}%" for branch, profile in profiles)
        chart = curves.gate_chart(name, profiles, length, inputs, spread)
        shown.append({"name": name, "chart": chart, "means": means})
    return {"units": shown, "branches": list(found), "inputs": list(inputs)}


def stages(run: RunData) -> PageSection:
    """Inputs, outputs and duration of each stage."""
    if not run.stages:
        return "No stage of this run has finished."
    total = sum(float(record.get("seconds", 0)) for record in run.stages)
    rows = []
    for record in run.stages:
        writes = record.get("writes") or {}
        seconds = float(record.get("seconds", 0))
        rows.append(
            {
                "number": record["number"],
                "name": record["name"],
                "about": TASKS.get(record["name"], ""),
                "seconds": _duration(seconds),
                "share": round(100 * seconds / total) if total else 0,
                "reads": [*(record.get("reads") or ()), *(record.get("given") or ())],
                "writes": [(name, _size(size)) for name, size in writes.items()],
                "size": _size(sum(writes.values())),
                "command": record.get("command", ""),
            }
        )
    last = run.stages[-1]
    moment = max(record["finished"] for record in run.stages)
    written = {name: size for record in run.stages for name, size in (record.get("writes") or {}).items()}
    seconds = sum(clip.seconds for clip in run.clips)
    return {
        "recordings": f"{len(run.clips)} recordings of {_duration(seconds)}" if run.clips else "",
        "written": f"{len(written)} files of {_size(sum(written.values()))}" if written else "",
        "rows": rows,
        "total": _duration(total),
        "finished": f"{datetime.datetime.fromtimestamp(moment, datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "commit": last.get("commit", ""),
        "versions": last.get("versions") or {},
        "cpus": last.get("cpus", ""),
    }


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _size(count: float) -> str:
    if count < 1000:
        return f"{count:.0f} B"
    power = min(3, int(np.log10(count) / 3))
    return f"{count / 1000**power:.1f} {('', 'kB', 'MB', 'GB')[power]}"


def benchmark(run: RunData) -> PageSection:
    """Fault diagnosis with nearest neighbours: accuracy of the run's encoder compared with an untrained one."""
    found = run.attempt(run.paths.benchmark, read_json)
    tasks = found.get("tasks") if isinstance(found, dict) else None
    if not tasks:
        return "There is no benchmark of fault diagnosis: it has not run, or found nothing to diagnose."
    rows = []
    for name, task in tasks.items():
        encoders = {key: value for key, value in task.items() if isinstance(value, dict)}
        rows.append(
            {
                "task": DIAGNOSES.get(name, name),
                "clips": task.get("clips", ""),
                "classes": len(task.get("classes", ())),
                "chance": f"{task.get('chance', 0.0):.2f}",
                "encoders": {
                    key: f"{value['macro_accuracy']:.2f} ± {value['std']:.2f}" for key, value in encoders.items()
                },
            }
        )
    names = list(dict.fromkeys(name for row in rows for name in row["encoders"]))
    return {"rows": rows, "encoders": names}


DIAGNOSES = {
    "condition": "operating condition of a healthy machine",
    "state": "healthy or anomalous, and which machine",
}
