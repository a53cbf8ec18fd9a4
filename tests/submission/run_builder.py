"""A small run to package: clips, score files, entries."""

from dataclasses import replace

import numpy as np

from submission.entry import SystemEntry
from submission.package import write_package
from system.config.package import PackageConfig
from system.evaluation import challenge_csv
from system.manifest import Clip

# Table 1 of the technical report whose four systems the recipe follows, AUC(source), AUC(target), pAUC of its task2_1.
PUBLISHED = {
    "bearingEmu": (56.36, 58.84, 55.47),
    "fan": (70.80, 57.92, 52.37),
    "gearboxEmu": (77.16, 57.88, 53.21),
    "sliderEmu": (49.48, 55.88, 48.79),
    "ToyCar": (73.16, 81.36, 63.68),
    "ToyCarEmu": (70.32, 69.32, 55.26),
    "valveEmu": (89.56, 68.60, 59.37),
}
KEYS = ("auc_source", "auc_target", "pauc")


def make_clips(evaluation=("PumpA",), development=("FanX",), count=6) -> list[Clip]:
    clips = []
    for machine in (*evaluation, *development):
        train = f"section_00_source_train_normal_0000_{machine}.wav"
        clips.append(Clip("c", machine, "00", "train", train, f"/d/{machine}/train/{train}", "normal", "source"))
        for number in range(count):
            name, text = f"section_00_{number:04d}.wav", ""
            if machine in development:
                text = "normal" if number % 2 else "anomaly"
                name = f"section_00_source_test_{text}_{number:04d}_noAttribute.wav"
            path = f"/d/{machine}/test/{name}"
            clips.append(Clip("c", machine, "00", "test", name, path, text, digest=f"{machine}{number}"))
    return [replace(clip, digest=clip.digest or f"{clip.machine}-train") for clip in clips]


def texts(index: int) -> dict:
    """Name, abbreviation, summary and description of a system."""
    description = {
        "input_sampling_rate": "16kHz",
        "acoustic_features": "log-amplitude spectrogram",
        "machine_learning_method": "Mahalanobis distance",
        "decision_making": "weighted average of calibrated scores" if index < 4 else None,
        "development_data_usage": "fine-tuning",
    }
    return {
        "name": f"System {index}",
        "abbreviation": f"Sys{index}",
        "summary": f"The system with number {index}.",
        "description": description,
    }


def make_systems(folder, clips, results=None, indices=(1, 2, 3, 4)) -> list[SystemEntry]:
    """Entries with random score files for all test clips."""
    systems = []
    for index in indices:
        scores_dir = folder / f"scores{index}"
        rng = np.random.default_rng(index)
        for machine in {clip.machine for clip in clips}:
            tested = [clip.file for clip in clips if clip.machine == machine and clip.split == "test"]
            scores = {name: float(rng.standard_normal()) / 3 for name in tested}
            threshold = sorted(scores.values())[len(scores) // 2]
            challenge_csv.write_scores(scores_dir / challenge_csv.score_name(machine, "00"), scores)
            decisions = {name: int(score > threshold) for name, score in scores.items()}
            challenge_csv.write_decisions(scores_dir / challenge_csv.decision_name(machine, "00"), decisions)
        entry = SystemEntry(
            index=index,
            **texts(index),
            total_parameters=5_500_000 + index,
            macs=None if index == 4 else 1_234_000_000,
            subsystem_count=1 if index == 4 else 2,
            results=results or {"FanX": {"auc_source": 70.5 + index, "auc_target": 60.25, "pauc": 52.125}},
            scores_dir=scores_dir,
        )
        systems.append(entry)
    return systems


def write_run(folder, clips=None, config=None, systems=None, **extra):
    clips = clips or make_clips()
    systems = systems or make_systems(folder, clips)
    out = folder / "package"
    return write_package(config or PackageConfig(), systems, clips, out, out / "Wheeltapper_Demo_task2.zip", **extra)
