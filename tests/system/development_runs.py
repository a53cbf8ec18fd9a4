"""Development runs whose stages up to the embeddings are complete, made of numbers instead of sound."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from system import manifest
from system.embeddings import files as store
from system.experiment import Experiment
from system.manifest import Clip
from system.pipeline import stages
from system.pipeline.settings import open_experiment

BRANCHES = ("main", "aux")
VIEWS = ("two_channel", "near_only")
CONF = {
    "branches": {
        "main": {"scorer": {"name": "mahalanobis", "settings": {"bank": "global"}}},
        "aux": {"scorer": {"name": "knn", "settings": {"k": 3}}},
    },
    "systems": [{"name": "s", "abbreviation": "s", "view": "two_channel", "weights": {"main": 0.85, "aux": 0.15}}],
    "evaluate": {"bootstrap": 50},
    "tune": {"scorers": {"knn": {"k": [1, 3]}, "mahalanobis": {"bank": ["domain"]}}, "trials": 60},
}


def clips_of(machine: str) -> list[Clip]:
    """20 source and 6 target training clips; 8 normal and 8 anomalous test clips of each domain."""
    found = []

    def add(split: str, domain: str, label: str, count: int) -> None:
        for number in range(count):
            file = f"section_00_{domain}_{split}_{label}_{number:04d}.wav"
            path = f"/d/{machine}/{file}"
            found.append(
                Clip("toy", machine, "00", split, file, path, label, domain, "", "", 2, 16000, 160, f"{machine}{file}")
            )

    add("train", "source", "normal", 20)
    add("train", "target", "normal", 6)
    for domain in ("source", "target"):
        add("test", domain, "normal", 8)
        add("test", domain, "anomaly", 8)
    return found


def embeddings_of(clips: Sequence[Clip], seed: int, dim: int = 6) -> np.ndarray:
    """(N, dim): anomalies lie a little off, in a direction and by a distance of their machine's own."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(len(clips), dim)).astype(np.float32) + 2.0
    for machine in manifest.machines(clips):
        step = generator.normal(size=dim) * generator.uniform(0.2, 0.8)
        rows[[clip.machine == machine and clip.label == "anomaly" for clip in clips]] += step
        rows[[clip.machine == machine and clip.domain == "target" for clip in clips]] += 0.3
    return rows


def finish(run: Experiment, *verbs: str) -> None:
    """Marks stages as complete with what lies there."""
    for verb in verbs:
        stage = stages.module(verb).stage(run)
        files = sorted(path for name in stage.owns for path in (run.folder / name).rglob("*") if path.is_file())
        kept = {path: path.read_bytes() for path in files}

        def work(kept=kept):
            for path, content in kept.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            return list(kept)

        stage.run(work, lambda text: None)


def make_run(
    folder: Path, machines: Sequence[str] = ("fan", "pump", "valve"), seed: int = 0, clips=None, **settings
) -> Experiment:
    """A run in ``folder`` with the configuration ``CONF`` and ``settings`` on top."""
    folder.mkdir(parents=True)
    conf = folder.with_suffix(".yaml")
    conf.write_text(yaml.safe_dump(CONF | settings))
    run = open_experiment(folder, conf, [])
    clips = clips or [clip for machine in machines for clip in clips_of(machine)]
    manifest.write(run.manifest, clips)
    for path in (run.encoder, *(run.adapter(branch) for branch in BRANCHES)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    for number, branch in enumerate(BRANCHES):
        store_branch(run, clips, branch, 100 * seed + number)
    finish(run, "pretrain", "adapt", "embed")
    return run


def store_branch(run: Experiment, clips: Sequence[Clip], branch: str, seed: int) -> None:
    """Embeddings of one branch in both views."""
    run.index(branch).parent.mkdir(parents=True, exist_ok=True)
    store.write_index(run.index(branch), clips)
    for number, view in enumerate(VIEWS):
        store.write_array(run.embeddings(branch, view), embeddings_of(clips, 10 * seed + number))
