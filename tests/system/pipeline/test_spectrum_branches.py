"""Branches of every statistic in one run: recordings in, package and verdicts out."""

import csv
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from system import audio, config, manifest
from system.bin import main
from system.embeddings.files import read_index
from system.experiment import Experiment
from system.frontends.channels import select_inputs
from system.frontends.spectrum import STATISTICS, describe

RATE = 16000
LAYOUT = {"filterbank": "log", "bands": 16, "low_hz": 50.0, "n_fft": 512, "hop": 256}
SUBTRACTION = {"n_fft": 512, "stretch": 0.25}
BRANCHES = {
    name: {
        "inputs": ["residual", "far"] if name in ("crest", "frames") else ["near"],
        "subtraction": SUBTRACTION,
        "spectrum": LAYOUT | {"statistic": name, "merge": 4 if name == "modulation" else 1},
        "scorer": {"name": "frames"} if name == "frames" else {"name": "mahalanobis"},
    }
    for name in STATISTICS
} | {
    "fine": {
        "inputs": ["near"],
        "spectrum": {"n_fft": 8192, "hop": 4096, "bands": 96, "filterbank": "log", "low_hz": 10.0, "high_hz": 4000.0,
                     "statistic": "power_mean", "remove_level": True},
        "scorer": {"name": "mahalanobis", "settings": {"covariance": "source"}},
    },
    "pauses": {"spectrum": LAYOUT | {"statistic": "quantile", "order": "statistic_first"}, "scorer": {"name": "knn"}},
    "worst": {"shares": "frames", "scorer": {"name": "frames", "settings": {"distance": "cosine", "bank": "domain"}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Experiment:
    folder = tmp_path_factory.mktemp("run")
    generator = np.random.default_rng(0)
    for number in range(14):
        split, label = ("train" if number < 12 else "test"), ("anomaly" if number == 13 else "normal")
        domain = "target" if 8 < number < 12 else "source"
        path = folder / "data" / "Fan" / split / f"section_00_{domain}_{split}_{label}_{number:04d}_noAttribute.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, generator.normal(0, 0.1, (RATE // 2, 2)), RATE, subtype="FLOAT")
    systems = [{"weights": dict.fromkeys(BRANCHES, 1.0)}, {"weights": {"frames": 1.0}, "view": "near_only"}]
    settings = {"branches": BRANCHES, "systems": systems, "evaluate": {"bootstrap": 20}}
    (folder / "conf.yaml").write_text(yaml.safe_dump(settings))
    command = ["run", "--exp", str(folder / "exp"), "--conf", str(folder / "conf.yaml"), "--data", str(folder / "data")]
    assert main([*command, "--stop-stage", "7"]) == 0
    return Experiment(folder / "exp", config.load(folder / "exp" / "config.yaml"))


def test_rows_are_those_of_each_branch_alone(run):
    clips = {clip.row: clip for clip in manifest.read(run.manifest)}
    for name, branch in run.config.branches.items():
        if name == "worst":
            continue
        rows = read_index(run.index(name))
        found = np.load(run.embeddings(name, "two_channel"), mmap_mode="r")
        for number in (0, len(rows) - 1):
            wave, rate = audio.read(clips[rows[number]].path)
            alone = describe(select_inputs(wave, rate, branch.inputs, branch.subtraction, ""), rate, branch.spectrum)
            assert found[number].tobytes() == alone.tobytes(), name
        assert found.shape[1:] == (alone.shape if len(branch.inputs) > 1 else alone.shape[1:])


def test_the_package_describes_every_statistic(run):
    with zipfile.ZipFile(next(run.folder.glob("*.zip"))) as archive:
        meta, alone = (archive.read(n).decode() for n in sorted(archive.namelist()) if n.endswith(".meta.yaml"))
    (report,) = (path.read_text(encoding="utf-8") for path in run.package.glob("*technical_report.md"))
    for words in ("crest factor", "kurtosis of the power", "envelope spectrum in 6 bands", "levels in 100 segments"):
        assert words in meta, words
    assert "nearest neighbours of frames" in alone
    found = re.sub(r"\s+", " ", report)
    assert "mean power over time of 96 log-spaced bands from 10 Hz to 4000 Hz, the mean over bands subtracted" in found


def test_new_recordings_get_the_scores_of_the_run(run, tmp_path):
    clips = sorted((run.folder.parent / "data" / "Fan" / "test").glob("*.wav"))
    assert main(["score", "--exp", str(run.folder), "--csv", str(tmp_path / "new.csv"), *map(str, clips)]) == 0
    with open(tmp_path / "new.csv", newline="", encoding="utf-8") as file:
        found = {Path(row["file"]).name: float(row["score"]) for row in csv.DictReader(file)}
    label = run.labels[0]
    path = run.folder / "systems" / label / "anomaly_score_Fan_section_00_test.csv"
    with open(path, newline="", encoding="utf-8") as file:
        expected = {name: float(score) for name, score in csv.reader(file)}
    assert found == pytest.approx({clip.name: expected[clip.name] for clip in clips}, abs=1e-4)
