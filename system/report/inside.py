"""The sections of a report about what happened inside: recordings to hear, training, gate, embeddings, the run."""

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from system.errors import WheeltapperError
from system.report import charts, curves, sound
from system.report.reading import Curve, Run, Unit, read_array, read_curve
from system.report.results import Section
from system.stage import read_json

MOST_POINTS = 400  # of a kind on one map
MOST_SOUND_MACHINES = 16
CURVES = 3  # machines in one chart


def recordings(run: Run) -> Section:
    """The most anomalous and the most typical test clip of each development machine, to see and to hear."""
    if not run.development:
        return "There are no development machines in this run, so no clips are shown."
    shown = [entry for unit in run.development[:MOST_SOUND_MACHINES] if (entry := _recordings_of(run, unit))]
    return {"units": shown} if shown else "The recordings are not where the manifest says, so none can be shown."


def _recordings_of(run: Run, unit: Unit) -> dict[str, Any] | None:
    order = np.argsort(-unit.scores, kind="stable")
    chosen = dict.fromkeys([int(order[0]), int(order[-1])])
    sounds = []
    for index in chosen:
        try:
            sounds.append(sound.listen(unit.clips[index]))
        except (WheeltapperError, OSError) as error:
            run.problems.append(f"{unit.name}: {error}")
            return None
    low, high = sound.limits(sounds)
    entries = []
    players = sound.excerpts(sounds)
    for place, (index, heard, player) in enumerate(zip(chosen, sounds, players, strict=True)):
        clip = unit.clips[index]
        kind = "most anomalous" if place == 0 else "most typical"
        entries.append(
            {
                "kind": kind,
                "score": f"{unit.scores[index]:.2f}",
                "truth": "an anomaly" if clip.label == "anomaly" else "healthy",
                "right": (clip.label == "anomaly") == (place == 0),
                "domain": clip.domain,
                "file": clip.file,
                "picture": sound.picture(heard, low, high, f"{unit.name}: spectrogram of the {kind} clip"),
                "player": player,
            }
        )
    return {"name": unit.name, "clips": entries}


def training(run: Run) -> Section:
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
        (loss, "Pre-training: loss", "Falls while the network learns to fill in what was hidden from it."),
        (spread, "Pre-training: spread", "Should stay clear of zero; at zero all sounds would look alike."),
    ):
        if chart:
            found.append({"title": title, "chart": chart, "text": text})
    for branch in run.paths.owners if run.config else ():
        curve = read_curve(run, paths.card(branch).parent / "curve.csv")
        if run.config.branches[branch].autoencoder:
            found += _autoencoder_curves(branch, curve)
            continue
        chart = curves.curve_chart(
            branch, curve, [("loss", "total"), ("loss_attribute", "attribute"), ("loss_domain", "domain")], "loss"
        )
        if chart:
            text = "Falls while the network learns to tell the machines' operating conditions apart."
            found.append({"title": f"Adaptation of {branch}: loss", "chart": chart, "text": text})
    if not found:
        return "Nothing was trained in this run."
    skipped = "" if loss or not paths.has_encoder else "Pre-training was skipped or has left no curve."
    return {"charts": found, "note": skipped}


def _autoencoder_curves(branch: str, curve: Curve) -> list[dict[str, Any]]:
    """Charts of a branch's autoencoders, a few machines each."""
    names = [name for name in curve if name != "step"]
    text = "Falls, epoch by epoch, while each machine's network learns to give its normal clips back."
    found = []
    for start in range(0, len(names), CURVES):
        part = names[start : start + CURVES]
        chart = curves.curve_chart(branch, curve, [(name, name) for name in part], "loss")
        if chart:
            found.append({"title": f"Autoencoders of {branch}: {', '.join(part)}", "chart": chart, "text": text})
    return found


def gate(run: Run) -> Section:
    """Mean weight of the near microphone over time, per machine and branch."""
    if run.clips and all(clip.channels < 2 for clip in run.clips):
        return "The recordings have one channel, so there is nothing for the gate to choose between."
    tables = {}
    for branch, config in run.config.branches.items() if run.config else ():
        found = read_array(run, branch, run.paths.gate(branch))
        if found and not config.of and len(config.inputs) > 1:
            tables[branch] = found
    if not tables:
        if run.config and not any(len(run.config.branches[name].inputs) > 1 for name in run.paths.encoder_branches):
            return "No network hears two inputs, so there is no gate."
        return "The run has left no weights of the gate."
    seconds: dict[str, list[float]] = {}
    for clip in run.clips:
        seconds.setdefault(clip.machine, []).append(clip.seconds)
    names = list(dict.fromkeys(key[0] for keys, _ in tables.values() for key in keys))
    shown = []
    for name in names:
        profiles = []
        for branch, (keys, values) in tables.items():
            rows = [index for index, key in enumerate(keys) if key[0] == name]
            if rows:
                profiles.append((branch, np.asarray(values[rows], float).mean(0)))
        length = float(np.median(seconds.get(name, [1.0])))
        means = ", ".join(f"{branch} {100 * profile.mean():.0f}\N{NO-BREAK SPACE}%" for branch, profile in profiles)
        shown.append({"name": name, "chart": curves.gate_chart(name, profiles, length), "means": means})
    return {"units": shown, "branches": list(tables)}


def maps(run: Run) -> Section:
    """Embeddings of each machine along the two directions in which its references spread most."""
    system = run.system_config(run.best)
    if system is None:
        return "There are no systems in this run whose embeddings could be shown."
    branch = max(system.weights, key=lambda name: system.weights[name])
    found = read_array(run, branch, run.paths.embeddings(branch, system.view))
    if not found:
        return "The run has left no embeddings."
    keys, values = found
    if values.shape[1] < 2:
        return f"Branch {branch} describes a clip by one number, its score: there is nothing to draw a map of."
    by_key = {clip.key: clip for clip in run.clips}
    rows: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        if key in by_key:
            rows.setdefault(key[0], []).append(index)
    shown = []
    for name, own in rows.items():
        chart = _map_of(name, [by_key[keys[i]] for i in own], np.asarray(values[own], float))
        if chart:
            shown.append({"name": name, "chart": chart})
    return {"units": shown, "branch": branch} if shown else "There are too few references for a map."


def _map_of(name: str, clips: Sequence, values: np.ndarray) -> Any:
    kinds = np.array([_kind(clip) for clip in clips])
    references = values[np.char.startswith(kinds, "reference")]
    if len(references) < 3:
        return None
    center = references.mean(0)
    _, spread, axes = np.linalg.svd(references - center, full_matrices=False)
    if len(axes) < 2 or spread[1] <= 0:
        return None
    # The sign of a singular vector is arbitrary; fixed, the picture is the same on every machine.
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    points = (values - center) @ axes.T
    groups = []
    for kind, colour, shape in KINDS:
        mask = kinds == kind
        chosen = np.flatnonzero(mask)
        mask[:] = False
        mask[chosen[charts.thin(len(chosen), MOST_POINTS)]] = True
        groups.append((mask, colour, shape))
    return charts.embedding_map(name, points, groups, spread[:2] ** 2 / np.sum(spread**2))


KINDS = (
    ("reference source", "reference", "circle"),
    ("reference target", "reference strong", "triangle"),
    ("normal source", "normal", "circle"),
    ("normal target", "normal", "triangle"),
    ("anomaly source", "anomaly", "circle"),
    ("anomaly target", "anomaly", "triangle"),
    ("unknown source", "both", "circle"),
)


def _kind(clip) -> str:
    group = "reference" if clip.split == "train" else clip.label or "unknown"
    return f"{group} {'target' if clip.domain == 'target' else 'source'}"


def stages(run: Run) -> Section:
    """What each stage read and wrote and how long it took."""
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
                "seconds": _duration(seconds),
                "share": round(100 * seconds / total) if total else 0,
                "reads": list(record.get("reads") or ()),
                "writes": [(name, _size(size)) for name, size in writes.items()],
                "size": _size(sum(writes.values())),
                "command": record.get("command", ""),
            }
        )
    last = run.stages[-1]
    moment = max(record["finished"] for record in run.stages)
    return {
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


def benchmark(run: Run) -> Section:
    """Fault diagnosis by nearest neighbours: accuracy of the run's encoder beside an untrained one."""
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
