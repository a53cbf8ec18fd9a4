"""Stage 8: fault diagnosis on the run's own recordings, pre-trained against untrained encoder."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from system import manifest
from system.experiment import Experiment
from system.machine import one_thread_each
from system.pipeline import resources
from system.progress import progress_bar
from system.stage import Stage


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    config = run.config
    settings = {"benchmark": asdict(config.benchmark), "encoder": asdict(config.encoder), "seed": config.seed}
    if config.embed.precision != "fp32":
        settings["precision"] = config.embed.precision
    reads = [run.manifest, run.encoder]
    if not run.has_encoder:
        settings, reads = {"encoder": None}, []
    return run.stage("benchmark", settings, reads, owns=["benchmark.json"])


def work(run: Experiment) -> Iterable[Path]:
    """Compares the pre-trained encoder with an untrained one; returns the file written."""
    import numpy as np

    from system.benchmarks.own_recordings import group, tasks
    from system.benchmarks.rmis import fixed_split
    from system.embeddings.embed import embed_files
    from system.embeddings.precision import choose_precision, device_of, set_precision
    from system.encoders import load_encoder
    from system.files import write_json

    if not run.has_encoder:
        print("note: no encoder in this run, nothing to diagnose faults with")
        write_json(run.benchmark, {"tasks": {}})
        return [run.benchmark]
    device = device_of(run.config.embed.precision, resources.prepare_torch(run))
    workers = one_thread_each(run.config.threads)
    embedding, config = run.config.embed, run.config.benchmark
    found = tasks(manifest.read(run.manifest), config.min_clips, config.test_size)
    paths = list(dict.fromkeys(Path(clip.path) for members in found.values() for clip, _ in members))
    trained = load_encoder(resources.for_all_machines(run.config.encoder), run.config.seed, run.encoder)
    precision = choose_precision(embedding.precision, device, trained)
    encoders = {"pre-trained": trained, "untrained": trained.untrained(trained.config, run.config.seed)}
    result: dict[str, Any] = {"protocol": "RMIS fixed split", **asdict(config), "tasks": {}}
    for name, members in found.items():
        classes = sorted({label for _, label in members})
        result["tasks"][name] = {"clips": len(members), "classes": classes, "chance": 100.0 / len(classes)}
    for encoder_name, encoder in encoders.items():
        set_precision(encoder, precision)
        with progress_bar(len(paths), f"benchmark, {encoder_name}") as bar:
            mode, rate = encoder.full_length_mode, run.config.data.rate
            rows = np.zeros((0, 0))
            if paths:
                rows = embed_files(
                    encoder, paths, mode, rate, workers, bar.update,
                    device=device, batch_size=embedding.batch_size,
                )  # fmt: skip
        by_path = dict(zip(paths, rows, strict=True))
        for name, members in found.items():
            diagnosis = fixed_split(
                np.stack([by_path[Path(clip.path)] for clip, _ in members]),
                [label for _, label in members],
                [group(clip) for clip, _ in members],
                config.runs,
                config.test_size,
                config.neighbours,
            )
            spread = float(np.std(diagnosis.macro_accuracy, ddof=1)) if config.runs > 1 else 0.0
            result["tasks"][name][encoder_name] = {
                "macro_accuracy": round(diagnosis.mean, 2),
                "std": round(spread, 2),
                "runs": [round(value, 2) for value in diagnosis.macro_accuracy],
                "per_class": {label: round(value, 2) for label, value in diagnosis.per_class.items()},
            }
            print(f"{name}, {encoder_name}: {diagnosis.mean:.2f} % (chance {result['tasks'][name]['chance']:.2f} %)")
    if not found:
        print("note: no development machine with enough labelled clips, nothing to diagnose")
    write_json(run.benchmark, result)
    return [run.benchmark]
