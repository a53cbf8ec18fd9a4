"""Runs on what recorders make: eight channels of which some are chosen, and machines recorded at several rates."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from system import config, manifest
from system.bin import main
from system.experiment import Experiment

RATE = 8000
BRANCHES = {
    "low": {"inputs": ["near", "far"], "spectrum": {"merge": 16}, "scorer": {"name": "knn", "settings": {"k": 1}}},
}
CONF = {"data": {"rate": RATE}, "encoder": {"family": "fisher", "size": "nano"}, "pretrain": {"loop": {"steps": 0}},
        "branches": BRANCHES, "systems": [{"view": "two_channel", "weights": {"low": 1}}]}  # fmt: skip


def sound(seed: int, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (rate // 2, 8)).round(3)


def put_machine(place: Path, channels: list[int], rates=(RATE,)) -> Path:
    for i in range(8):
        split, label = ("train" if i < 6 else "test"), ("anomaly" if i == 7 else "normal")
        path = place / "Fan" / split / f"section_00_source_{split}_{label}_{i:04d}_noAttribute.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = rates[i % len(rates)]
        soundfile.write(path, sound(i, rate)[:, channels], rate, subtype="FLOAT")
    return place


def run(place: Path, data: Path, *options: str) -> Experiment:
    place.mkdir()
    conf = place / "c.yaml"
    conf.write_text(yaml.safe_dump(CONF))
    sets = [part for option in options for part in ("--set", option)]
    command = ["run", "--exp", str(place / "exp"), "--conf", str(conf), "--data", str(data), *sets]
    assert main([*command, "--stop-stage", "5"]) == 0
    return Experiment(place / "exp", config.load(place / "exp" / "config.yaml"))


def results(run: Experiment) -> dict:
    """Scores and thresholds, as far as they do not tell the recordings' place."""
    folder = run.system(run.labels[0])
    scores = {path.name: path.read_text() for path in folder.glob("*_Fan_section_00_test.csv")}
    return {**scores, "thresholds": json.loads((folder / "thresholds.json").read_text())}


def judged(run: Experiment, path: Path, out: Path) -> tuple[int, dict]:
    status = main(["score", "--exp", str(run.folder), str(path), "--csv", str(out)])
    with open(out, newline="") as file:
        return status, next(csv.DictReader(file))


def test_chosen_channels_are_those_of_training_and_of_score(tmp_path):
    eight = run(tmp_path / "eight", put_machine(tmp_path / "8", list(range(8))), "data.channels=[6,2]")
    two = run(tmp_path / "two", put_machine(tmp_path / "2", [5, 1]))
    assert {clip.channel_choice for clip in manifest.read(eight.manifest)} == {"6,2"}
    assert results(eight) == results(two)
    found = []
    for made, channels in ((eight, list(range(8))), (two, [5, 1])):
        new = tmp_path / f"{len(channels)}.wav"
        soundfile.write(new, sound(99)[:, channels], RATE, subtype="FLOAT")
        status, row = judged(made, new, tmp_path / "o.csv")
        assert status == 0
        found.append((row["score"], row["decision"], row["remark"]))
    assert found[0] == found[1]
    soundfile.write(tmp_path / "few.wav", sound(99)[:, :3], RATE)
    status, row = judged(eight, tmp_path / "few.wav", tmp_path / "o.csv")
    assert status != 0
    assert row["decision"] not in ("normal", "ANOMALY")
    assert "channels" in row["error"] + row["remark"]


def test_the_mean_and_one_channel_are_mono_recordings(tmp_path):
    data = put_machine(tmp_path / "8", list(range(8)))
    mean = run(tmp_path / "mean", data, "data.channels=mean")
    single = run(tmp_path / "single", data, "data.channels=3")
    assert results(mean) != results(single)
    assert results(single) == results(run(tmp_path / "mono", put_machine(tmp_path / "1", [2])))


def test_eight_channels_without_a_choice_are_refused_with_the_setting(tmp_path, capsys):
    data = put_machine(tmp_path / "8", list(range(8)))
    with pytest.raises(AssertionError):
        run(tmp_path / "r", data)
    assert "expected 1 or 2 channels, found 8; --set data.channels=1,3 takes" in capsys.readouterr().err


def test_several_rates_in_one_machine(tmp_path):
    made = run(tmp_path / "r", put_machine(tmp_path / "d", [0, 1], rates=(8000, 16000, 44100)))
    assert {clip.rate for clip in manifest.read(made.manifest)} == {8000, 16000, 44100}
    scores = results(made)["anomaly_score_Fan_section_00_test.csv"].splitlines()
    assert len(scores) == 2
    assert all(np.isfinite(float(line.split(",")[1])) for line in scores)


def test_several_rates_that_are_kept_are_refused_by_name(tmp_path, capsys):
    with pytest.raises(AssertionError):
        run(tmp_path / "r", put_machine(tmp_path / "d", [0, 1], rates=(8000, 16000)), "data.rate=0")
    assert "expected one rate in all recordings, found [8000, 16000] Hz" in capsys.readouterr().err
