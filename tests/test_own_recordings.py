"""Recordings without the challenge's layout, or without some kinds of test clips, from stage 0 to stage 9."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from submission.validate import validate
from system import audio, manifest
from system.bin import main
from system.files import read_json

CONF = Path(__file__).resolve().parent.parent / "recipes" / "dcase2026" / "conf"
ZIP = "Wheeltapper_Demo_task2.zip"
RATE = 16000
SOURCE, TARGET = ("source", "normal"), ("target", "normal")
WHOLE = (SOURCE, ("source", "anomaly"), TARGET, ("target", "anomaly"))


def sound(seed: int, anomaly: bool, target: bool = False, channels: int = 1) -> np.ndarray:
    """Half a second (channels, samples) of a hum; a faulty one has an overtone."""
    rng = np.random.default_rng(seed)
    time = np.arange(RATE // 2) / RATE
    wave = 0.2 * np.sin(2 * np.pi * (330 if target else 300) * time + rng.uniform(0, 6)) + rng.normal(
        0, 0.03, len(time)
    )
    wave += 0.2 * anomaly * np.sin(2 * np.pi * 2500 * time)
    return np.tile(wave, (channels, 1)).astype(np.float32)


def record(folder: Path, machines: dict[str, tuple], train: tuple = (SOURCE, TARGET)) -> list[dict[str, str]]:
    """Writes four training clips of each kind of ``train``, and two test clips of each that a machine has; the rows."""
    rows: list[dict[str, str]] = []
    for machine, tests in machines.items():
        kinds = [("train", kind, 4) for kind in train] + [("test", kind, 2) for kind in tests]
        for split, (domain, label), count in kinds:
            for _ in range(count):
                name = f"{machine}/{len(rows)}, {split}.wav"
                (folder / machine).mkdir(parents=True, exist_ok=True)
                audio.write(folder / name, sound(len(rows), label == "anomaly", domain == "target"), RATE)
                said = {"split": split, "label": label, "domain": domain, "attr_speed": str(len(rows) % 2)}
                rows.append({"file": name, "machine": machine, **said})
    return rows


def save(path: Path, rows: list[dict[str, str]], columns: tuple = (), **how) -> Path:
    with open(path, "w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), extrasaction="ignore", **how)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The shortest configuration: an autoencoder of a few weights."""
    path = tmp_path_factory.mktemp("conf") / "small.yaml"
    network = {"epochs": 2, "batch": 64, "hidden": [12], "bottleneck": 4}
    conf = {"base": str(CONF / "baseline_mse.yaml"), "branches": {"main": {"autoencoder": network}}}
    path.write_text(yaml.safe_dump(conf | {"evaluate": {"bootstrap": 20}}))
    return path


def run(exp: Path, conf: Path, data: Path | None = None, *options: str) -> int:
    given = ["--data", str(data)] if data else []
    return main(["run", "--exp", str(exp), "--conf", str(conf), *given, *options])


def finished(exp: Path) -> dict:
    """metrics.json of a run whose report and valid package are there."""
    assert (exp / "report.html").is_file()
    assert [finding for finding in validate(exp / ZIP) if finding.level == "error"] == []
    return read_json(exp / "metrics.json")


def said(clips) -> Counter:
    return Counter((c.machine, c.split, c.label, c.domain, c.attributes, c.digest) for c in clips)


def test_a_table_and_its_manifest(tmp_path, small, capsys):
    rows = record(tmp_path, {"Lüfter 1": WHOLE, "Säge": WHOLE})
    table = save(tmp_path / "t.csv", rows, delimiter=";", encoding="utf-16")
    assert main(["prepare", str(table), "--out", str(tmp_path / "m.csv")]) == 0
    assert run(tmp_path / "lists", CONF / "toy.yaml", tmp_path / "m.csv") == 0
    assert finished(tmp_path / "lists")["official_score"] > 0.9  # the fault is a loud tone
    assert run(tmp_path / "table", small, table) == 0
    assert sorted(finished(tmp_path / "table")["per_machine"]) == ["Lüfter 1", "Säge"]
    clips = [manifest.read(path) for path in (tmp_path / "m.csv", *tmp_path.glob("*/manifest.csv"))]
    assert said(clips[0]) == said(clips[1]) == said(clips[2])
    assert {c.file for c in clips[1]} == {c.file.replace("/", "_").replace(",", "_") for c in clips[0]}

    audio.write(tmp_path / rows[0]["file"], sound(99, False), RATE)
    capsys.readouterr()
    assert run(tmp_path / "table", small, None, "--stop-stage", "2") == 0  # --data is remembered
    out = capsys.readouterr().out
    assert "stage 0 data: wrote" in out
    assert "stage 2 adapt: wrote" in out
    changed = manifest.read(tmp_path / "table" / "manifest.csv")
    assert sum((said(clips[0]) - said(changed)).values()) == 1
    for _ in range(2):  # what is read is not forgotten where it fails
        assert run(tmp_path / "lists", CONF / "toy.yaml", None, "--stop-stage", "0") == 1
        assert "expected digest" in capsys.readouterr().err
    (tmp_path / rows[0]["file"]).unlink()
    assert run(tmp_path / "table", small, None, "--stop-stage", "0") == 1
    assert "expected a sound file, found nothing (line 2)" in capsys.readouterr().err
    assert manifest.read(tmp_path / "table" / "manifest.csv") == changed


def test_linked_machine_folders(tmp_path, small, capsys):
    for number, machine in enumerate(("fan", "pump")):
        clips = [("train", *SOURCE, 4), ("train", *TARGET, 4), *(("test", *kind, 2) for kind in WHOLE)]
        own = tmp_path / f"disk{number}"
        for split, domain, label, count in clips:
            (own / split).mkdir(parents=True, exist_ok=True)
            for k in range(count):
                wave = sound(len(list(own.rglob("*.wav"))) + 100 * number, label == "anomaly", domain == "target")
                audio.write(own / split / f"section_00_{domain}_{split}_{label}_{k:04d}_noAttribute.wav", wave, RATE)
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / machine).symlink_to(own)
    assert run(tmp_path / "exp", small, tmp_path / "data") == 0
    assert sorted(finished(tmp_path / "exp")["per_machine"]) == ["fan", "pump"]
    before = said(manifest.read(tmp_path / "exp" / "manifest.csv"))
    audio.write(next((tmp_path / "disk0" / "train").iterdir()), sound(99, False), RATE)
    capsys.readouterr()
    assert run(tmp_path / "exp", small, None, "--stop-stage", "2") == 0
    out = capsys.readouterr().out
    assert "stage 0 data: wrote" in out
    assert "stage 2 adapt: wrote" in out
    assert sum((before - said(manifest.read(tmp_path / "exp" / "manifest.csv"))).values()) == 1


def test_machines_that_lack_kinds_of_test_clips(tmp_path, small, capsys):
    kinds = {"all": WHOLE, "near": WHOLE[:2], "fine": WHOLE[::2], "broken": WHOLE[1:2], "untested": ()}
    table = save(tmp_path / "t.csv", record(tmp_path, kinds))
    assert run(tmp_path / "exp", small, table) == 0
    found = finished(tmp_path / "exp")
    assert sorted(found["per_machine"]) == ["all", "near"]
    assert found["official_score"] is not None
    assert found["left_out"] == {
        "untested section 00": "no test clip",
        "broken section 00": "no normal test clip",
        "fine section 00": "no anomalous test clip",
        "near section 00": "no normal target test clip",
    }
    page, out = (tmp_path / "exp" / "report.html").read_text(), capsys.readouterr().out
    for where, reason in found["left_out"].items():
        assert out.count(f"no official score of {where}: {reason}\n") == 1
        assert f"o official score of {where}: {reason}." in page


@pytest.mark.parametrize(
    ("kinds", "measured", "sentence"),
    [
        (WHOLE[:2], True, "no normal target test clip"),
        (WHOLE[::2], False, "no machine has normal and anomalous labelled test clips: nothing is measured"),
        ((), False, "a package holds scores of test clips, and the recordings have none: no package is written"),
    ],
)
def test_all_machines_lack_kinds_of_test_clips(tmp_path, small, capsys, kinds, measured, sentence):
    table = save(tmp_path / "t.csv", record(tmp_path, {"fan": kinds}, (SOURCE,)))
    assert run(tmp_path / "exp", small, table) == 0
    assert capsys.readouterr().out.count(sentence) == 1
    assert (tmp_path / "exp" / "report.html").is_file()
    assert (tmp_path / "exp" / ZIP).is_file() == bool(kinds)
    found = read_json(tmp_path / "exp" / "metrics.json")
    assert found["official_score"] is None
    assert list(found["per_machine"]) == ["fan"] * measured
    if kinds:
        given = ["--manifest", str(tmp_path / "exp" / "manifest.csv"), "--out", str(tmp_path / "out")]
        assert main(["reference", *given, "--system", "logmel_knn"]) == 0
        text = "AUC and pAUC over all domains (no official score)" if measured else "scores only"
        assert text in capsys.readouterr().out
        assert list((tmp_path / "out" / "logmel_knn").glob("anomaly_score_fan_section_00_test.csv"))
    if measured:
        row = found["per_machine"]["fan"]
        assert {"AUC (all)", "AUC (source)", "pAUC", "hmean_auc_pauc"} <= set(row)
        assert found["without_domains"]["ci95"][0] <= found["without_domains"]["score"]


def test_mimii_to_the_end(tmp_path, small):
    for section in ("id_00", "id_02"):
        for state, count in (("normal", 7), ("abnormal", 2)):
            for k in range(count):
                path = tmp_path / "raw" / "6_dB_fan" / "fan" / section / state / f"{k:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                audio.write(path, sound(10 * int(section[3:]) + k + 50 * (count == 2), count == 2, channels=8), RATE)
    assert main(["prepare", str(tmp_path / "raw"), "--corpus", "mimii", "--out", str(tmp_path / "out")]) == 0
    assert run(tmp_path / "exp", small, tmp_path / "out" / "manifest.csv") == 0
    found = finished(tmp_path / "exp")
    assert list(found["per_machine"]) == ["fan_6dB"]
    assert set(found["per_machine"]["fan_6dB"]["sections"]) == {"00", "02"}
    assert set(found["left_out"].values()) == {"no domains of the test clips"}


def test_recordings_in_the_experiment_are_not_removed(tmp_path, small, capsys):
    exp = tmp_path / "exp"
    table = save(
        tmp_path / "t.csv", [row | {"file": f"exp/data/{row['file']}"} for row in record(exp / "data", {"fan": ()})]
    )
    for _ in range(2):
        assert run(exp, small, table, "--stop-stage", "0") == 0
        shutil.copy(exp / "manifest.csv", tmp_path / "copy.csv")
        table.write_text(table.read_text() + "\n")  # changed: stage 0 starts anew
    assert len(list((exp / "data" / "fan").iterdir())) == 8
    assert run(exp, small, exp / "manifest.csv", "--stop-stage", "0") == 1
    assert "expected a list that is not this experiment's own" in capsys.readouterr().err
    assert manifest.read(exp / "manifest.csv")
