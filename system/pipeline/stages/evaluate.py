"""Stage 6: official metrics of every system on the labelled test clips."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from system import manifest
from system.corpora.challenge import rule_of_year
from system.evaluation import available, truth
from system.evaluation.folder import evaluate_folder, table
from system.evaluation.truth import Truth
from system.experiment import Experiment
from system.files import read_json, write_json
from system.manifest import Clip
from system.stage import Stage

TRUTH = "truth"  # role of the table of the labels that no earlier stage reads


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    config = run.config.evaluate
    data = run.config.data
    settings = {"year": config.year, "bootstrap": config.bootstrap, "seed": run.config.seed, "labels": run.labels}
    settings["references"] = {"rate": data.rate, "window": data.window, "hop": data.hop}
    hidden = _hidden_truth(run)
    reads = [run.manifest]
    for label in run.labels:
        reads += sorted(run.system(label).glob("*_test.csv"))
    given = {TRUTH: lambda: hidden} if hidden else {}
    return run.stage("evaluate", settings, reads, owns=["metrics.json"], given=given)


def work(run: Experiment) -> Iterable[Path]:
    """Measures every system and writes metrics.json; returns its file."""
    hidden = _hidden_truth(run)
    recordings = manifest.read(run.manifest)
    clips = [clip for clip in recordings if clip.split == "test"]
    anonymous = {(c.machine, c.section, c.file) for c in clips if not c.label}
    revealed = [row for row in truth.read_truth(hidden) if row[:3] in anonymous] if hidden else []
    config, rule = run.config.evaluate, rule_of_year(run.config.evaluate.year)
    result: dict[str, Any] = {"year": config.year, "official_score": None, "per_machine": {}}
    result["left_out"] = _untested(recordings)
    for part, rows in (("systems", _labelled(clips)), ("evaluation", revealed)):
        result["left_out"] |= available.gaps(rows, rule)
        result[part] = {}
        measured = _has_both(rows)
        for label in run.labels if measured else []:
            found, _ = evaluate_folder(run.system(label), measured, rule, config.bootstrap, run.config.seed)
            result[part][label] = found
            print(f"{label}{', evaluation machines' if part == 'evaluation' else ''}\n{table(found)}\n")
    if result["systems"]:
        first = result["systems"][run.labels[0]]
        result |= {name: first[name] for name in ("official_score", "per_machine", available.WITHOUT) if name in first}
    elif not result["evaluation"]:
        print("note: no machine has normal and anomalous labelled test clips: nothing is measured")
    result["references"] = _references(run, recordings, _has_both(_labelled(clips)), rule)
    for sentence in available.sentences(result["left_out"]):
        print(f"note: {sentence}")
    write_json(run.metrics, result)
    return [run.metrics]


def _references(run: Experiment, recordings: list[Clip], truth: list[Truth], rule: int) -> dict[str, Any]:
    """What simple reference systems reach on the clips that the run's systems are measured on.

    Args:
        run: the run.
        recordings: of the manifest.
        truth: labelled test clips.
        rule: key of ``metrics.RULES``.

    Returns:
        ``systems``, the metrics of each by name, and ``left_out``, the sections that they could not score and why.
    """
    sections = {(clip.machine, clip.section) for clip in truth}
    if not sections:
        return {"systems": {}, "left_out": {}}
    from system.references.of_run import score_run  # imports torch

    config = run.config.evaluate
    scores, left_out = score_run([clip for clip in recordings if clip.key[:2] in sections], run.config.data)
    found = {}
    for name, own in scores.items():
        if rows := [clip for clip in truth if clip[:2] in own]:
            found[name] = available.evaluate(own, None, rows, rule, config.bootstrap, run.config.seed)
    for where, reason in left_out.items():
        print(f"note: no simple reference systems on {where}: {reason}")
    for name, values in found.items():
        if score := available.main_score(values):
            print(f"reference {name}: {100 * score[0]:.2f} %")
    return {"systems": found, "left_out": left_out}


def measured_clips(clips: list[Clip], year: int) -> list[Truth]:
    """Of a manifest's clips the labelled test clips of the sections that have an official score."""
    return available.complete(_labelled([clip for clip in clips if clip.split == "test"]), rule_of_year(year))


def _labelled(clips: list[Clip]) -> list[Truth]:
    return [Truth(c.machine, c.section, c.file, c.domain, c.label) for c in clips if c.label]


def _untested(clips: list[Clip]) -> dict[str, str]:
    """The sections without test clips, as ``available.gaps`` names them."""
    tested = {clip.key[:2] for clip in clips if clip.split == "test"}
    sections = dict.fromkeys(clip.key[:2] for clip in clips if clip.split == "train")
    return {available.name_of(*key): "no test clip" for key in sections if key not in tested}


def _hidden_truth(run: Experiment) -> Path | None:
    """Truth of anonymous clips where the recordings come with it, as simulated and emulated ones do; no earlier stage
    reads it."""
    record = run.marker(0)
    if not record.is_file():
        return None
    data = str(read_json(record).get("settings", {}).get("data", ""))
    path = (run.folder / "data" if data == "synthetic" else Path(data)) / "truth.csv"
    known = TRUTH in run.recorded("evaluate", "given") or path.name in map(os.path.basename, run.reads("evaluate"))
    return path if known or path.is_file() else None


def _has_both(rows: list[Truth]) -> list[Truth]:
    """The clips of the sections with normal and anomalous clips."""
    kinds: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        kinds.setdefault((row.machine, row.section), set()).add(row.label)
    return [row for row in rows if len(kinds[row.machine, row.section]) > 1]
