"""RMIS and SIREN: whole, with an encoder, or a task of theirs over embeddings in a file. With --exp: stage 8, a small
fault diagnosis in the manner of RMIS on the run's own recordings, trained against untrained."""

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system import manifest
from system.bin import cached_benchmarks, common, suites
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.progress import progress_bar

if TYPE_CHECKING:
    from system.manifest import Clip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser, required=False)
    verbs = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK")
    suites.add_parsers(verbs)
    cached_benchmarks.add_parsers(verbs)


def main(args: argparse.Namespace) -> int | None:
    if args.benchmark:
        return suites.main(args) if args.benchmark in suites.HELP else cached_benchmarks.main(args)
    if not args.exp:
        from system.benchmarks.tasks import TASKS

        names = ", ".join([*suites.HELP, *TASKS])
        raise WheeltapperError(f"expected a benchmark ({names}), or --exp EXP (stage of a recipe)")
    with common.experiment(args) as run:
        settings = {
            "benchmark": asdict(run.config.benchmark),
            "encoder": asdict(run.config.encoder),
            "seed": run.config.seed,
        }
        reads = [run.manifest, run.encoder]
        if not run.has_encoder:
            settings, reads = {"encoder": None}, []
        stage = run.stage("benchmark", settings, reads, owns=["benchmark.json"])
        common.run_stage(stage, lambda: _work(run))


def tasks(clips: "list[Clip]", fewest: int, test_size: float) -> "dict[str, list[tuple[Clip, str]]]":
    """What can be diagnosed on the development machines: clips and their classes.

    ``condition``: machine and attributes of the normal training clips; ``state``: machine and label of the test clips.
    Classes with fewer than ``fewest`` clips, or of too few recordings to split, are left out, and tasks with fewer than
    two classes.
    """
    from system.benchmarks.rmis import splittable
    from system.corpora.names import attribute_class

    development = manifest.is_development(clips)
    own = [clip for clip in clips if development[clip.machine]]
    found = {
        "condition": [
            (clip, f"{clip.machine} {attribute_class(clip.attributes)}")
            for clip in own
            if clip.split == "train" and clip.attributes
        ],
        "state": [(clip, f"{clip.machine} {clip.label}") for clip in own if clip.split == "test"],
    }
    kept = {}
    for name, members in found.items():
        counts = Counter(label for _, label in members)
        members = [(clip, label) for clip, label in members if counts[label] >= fewest]
        possible = splittable([label for _, label in members], [group(clip) for clip, _ in members], test_size)
        members = [(clip, label) for clip, label in members if label in possible]
        if len({label for _, label in members}) > 1:
            kept[name] = members
    return kept


def group(clip: "Clip") -> str:
    """What must not be separated from the clip: the recording it was cut from, or itself."""
    return clip.group or f"{clip.machine}/{clip.split}/{clip.file}"


def _work(run: Experiment) -> Iterable[Path]:
    import numpy as np

    from system.benchmarks.rmis import fixed_split
    from system.embeddings.embed import embed_files
    from system.encoders import load_encoder
    from system.files import write_json

    if not run.has_encoder:
        print("note: no encoder in this run, nothing to diagnose faults with")
        write_json(run.benchmark, {"tasks": {}})
        return [run.benchmark]
    workers = common.one_thread_each(run.config.threads)
    config = run.config.benchmark
    found = tasks(manifest.read(run.manifest), config.min_clips, config.test_size)
    paths = list(dict.fromkeys(Path(clip.path) for members in found.values() for clip, _ in members))
    trained = load_encoder(common.for_all_machines(run.config.encoder), run.config.seed, run.encoder)
    encoders = {"pre-trained": trained, "untrained": trained.untrained(trained.config, run.config.seed)}
    result: dict[str, Any] = {"protocol": "RMIS fixed split", **asdict(config), "tasks": {}}
    for name, members in found.items():
        classes = sorted({label for _, label in members})
        result["tasks"][name] = {"clips": len(members), "classes": classes, "chance": 100.0 / len(classes)}
    for encoder_name, encoder in encoders.items():
        with progress_bar(len(paths), f"benchmark, {encoder_name}") as bar:
            mode, rate = encoder.full_length_mode, run.config.data.rate
            rows = embed_files(encoder, paths, mode, rate, workers, bar.update) if paths else []
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
