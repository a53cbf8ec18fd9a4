"""A small finished run for tests of the rules, with random embeddings instead of networks."""

import csv
from pathlib import Path

import numpy as np

from submission.facts import RunFacts
from system import audio, compliance, manifest
from system import config as configuration
from system.bin import main
from system.experiment import Experiment
from system.files import file_hash, read_json, write_json
from system.pipeline import resources
from system.pipeline.stages import stages_of

RATE = 4000
LABEL = "Wheeltapper_Demo_task2_1"
CONF = {
    "encoder": {"size": "nano"},
    "branches": {
        "main": {"scorer": {"name": "mahalanobis", "settings": {"bank": "domain"}}},
        "aux": {"scorer": {"name": "knn", "settings": {"k": 3, "bank": "global"}}},
    },
    "systems": [
        {"name": "both", "view": "near_only", "weights": {"main": 0.85, "aux": 0.15}},
        {"name": "one", "view": "two_channel", "weights": {"main": 1.0}},
    ],
    "evaluate": {"bootstrap": 0},
}
SCORED = ("score", "fuse", "evaluate")


def write_wav(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, np.random.default_rng(seed).normal(0, 0.1, (2, RATE)).clip(-1, 1), RATE)


def write_recordings(folder: Path) -> None:
    """Fan with labelled, Pump with unlabelled test clips."""
    for number, machine in enumerate(("Fan", "Pump")):
        for i in range(12):
            domain = "target" if i >= 8 else "source"
            name = f"section_00_{domain}_train_normal_{i:04d}_noAttribute.wav"
            write_wav(folder / machine / "train" / name, 100 * number + i)
        for i in range(8):
            label, domain = ("anomaly", "normal")[i % 2], ("source", "target")[i // 2 % 2]
            name = (
                f"section_00_{domain}_test_{label}_{i:04d}_noAttribute.wav"
                if number == 0
                else f"section_00_{i:04d}.wav"
            )
            write_wav(folder / machine / "test" / name, 100 * number + 50 + i)


def embed(run: Experiment) -> None:
    """Random embeddings in the files of the embedding stage."""
    from system.embeddings import files

    clips = [clip for clip in manifest.read(run.manifest) if clip.split in ("train", "test")]
    for number, branch in enumerate(run.config.branches):
        files.write_index(run.index(branch), clips)
        for view in ("two_channel", "near_only"):
            generator = np.random.default_rng(number + 10 * (view == "two_channel"))
            files.write_array(run.embeddings(branch, view), generator.normal(size=(len(clips), 6)).astype(np.float32))


def adapted(run: Experiment) -> None:
    """The record of the adaptation stage."""
    clips = manifest.fingerprint(resources.training_clips(run))
    run.stage("adapt", {"clips": clips}, [], ["adapt"]).run(lambda: [], lambda text: None)


def open_run(exp: Path) -> Experiment:
    return Experiment(exp, configuration.load(exp / "config.yaml"))


def accept(run: Experiment) -> None:
    """Updates the records to the present files, as if the stages had written them."""
    for path in (run.folder / "stages").glob("*.json"):
        record = read_json(path)
        names = record["writes"]
        record["writes"] = {name: (run.folder / name).stat().st_size for name in names}
        record["sha256"] = {name: file_hash(run.folder / name) for name in names}
        write_json(path, record)


def document(*external: str) -> dict:
    datasets = [{"name": name, "url": None} for name in external]
    return {"system": {"description": {}, "complexity": {}, "external_datasets": datasets}}


def check(run: Experiment, facts: RunFacts | None = None) -> list[compliance.ComplianceRule]:
    stages = stages_of(run, SCORED)
    return compliance.check(run, stages, facts or RunFacts(), {label: document() for label in run.labels})


def broken(run: Experiment, facts: RunFacts | None = None) -> dict[str, list[str]]:
    return {rule.name: rule.violations for rule in check(run, facts) if rule.violations}


def edit_rows(path: Path, change) -> None:
    """Applies ``change`` to the manifest's rows (dicts by column)."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames
    rows = change(rows) or rows
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def score_again(run: Experiment) -> None:
    """Continues from a changed manifest."""
    embed(run)
    adapted(run)
    assert [main([verb, "--exp", str(run.folder)]) for verb in SCORED] == [0, 0, 0]
    accept(run)
