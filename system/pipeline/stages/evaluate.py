"""Stage 6: official metrics of every system on the labelled test clips."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from system import manifest
from system.corpora.challenge import rule_of_year
from system.evaluation import metrics, truth
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
    settings = {"year": config.year, "bootstrap": config.bootstrap, "seed": run.config.seed, "labels": run.labels}
    hidden = _hidden_truth(run)
    reads = [run.manifest]
    for label in run.labels:
        reads += sorted(run.system(label).glob("*_test.csv"))
    given = {TRUTH: lambda: hidden} if hidden else {}
    return run.stage("evaluate", settings, reads, owns=["metrics.json"], given=given)


def work(run: Experiment) -> Iterable[Path]:
    """Measures every system and writes metrics.json; returns its file."""
    hidden = _hidden_truth(run)
    clips = [clip for clip in manifest.read(run.manifest) if clip.split == "test"]
    anonymous = {(c.machine, c.section, c.file) for c in clips if not c.label}
    revealed = [row for row in truth.read_truth(hidden) if row[:3] in anonymous] if hidden else []
    config, rule = run.config.evaluate, rule_of_year(run.config.evaluate.year)
    result: dict[str, Any] = {"year": config.year, "official_score": None, "per_machine": {}, "left_out": {}}
    for part, rows in (("systems", _labelled(clips)), ("evaluation", revealed)):
        kept, left_out = _measurable(rows, config.year)
        result["left_out"] |= left_out
        result[part] = {}
        for label in run.labels if kept else []:
            found, _ = evaluate_folder(run.system(label), kept, rule, config.bootstrap, run.config.seed)
            result[part][label] = found
            print(f"{label}{', evaluation machines' if part == 'evaluation' else ''}\n{table(found)}\n")
    if result["systems"]:
        first = result["systems"][run.labels[0]]
        result |= {"official_score": first["official_score"], "per_machine": first["per_machine"]}
    for where, reason in result["left_out"].items():
        print(f"note: {where} is left out of the metrics: {reason}")
    write_json(run.metrics, result)
    return [run.metrics]


def measured_clips(clips: list[Clip], year: int) -> list[Truth]:
    """Of a manifest's clips the labelled test clips that metrics.json measures by."""
    return _measurable(_labelled([clip for clip in clips if clip.split == "test"]), year)[0]


def _labelled(clips: list[Clip]) -> list[Truth]:
    return [Truth(c.machine, c.section, c.file, c.domain, c.label) for c in clips if c.label]


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


def _measurable(rows: list[Truth], year: int) -> tuple[list[Truth], dict[str, str]]:
    """The rows of the sections that hold every kind of clip that the year's measures need; why others do not."""
    domains = ("source", "target") if metrics.RULES[rule_of_year(year)].domains else ("",)
    kinds: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        section = kinds.setdefault(f"{row.machine} section {row.section}", set())
        section.add((row.domain if len(domains) > 1 else "", row.label))
    left_out = {}
    for where, found in kinds.items():
        missing = [f"no normal {domain} test clip" for domain in domains if (domain, "normal") not in found]
        if not any(label == "anomaly" for _, label in found):
            missing.append("no anomalous test clip")
        if missing:
            left_out[where] = ", ".join(missing)
    return [row for row in rows if f"{row.machine} section {row.section}" not in left_out], left_out
