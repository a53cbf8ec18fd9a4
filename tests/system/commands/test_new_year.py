"""One more file in ``years/`` is all that every command needs for a new year of the challenge."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from dcase_files import put_machine

from system import manifest
from system.bin import main
from system.corpora import year_files
from system.corpora.challenge import load_year
from system.corpora.truth import read_truth
from system.evaluation import challenge_csv

sys.path.insert(0, str(Path(__file__).parents[2] / "submission"))
import package_builder

DEV, EVAL = ("Crane", "Loom"), ("Kettle", "Winch", "Drill")


@pytest.fixture(autouse=True)
def year(tmp_path, monkeypatch) -> int:
    """A folder of years with 2027, whose machines are its own."""
    folder = tmp_path / "years"
    shutil.copytree(year_files.YEARS, folder)
    machine = {"sections": ["00"], "seconds": 1, "attributes": True}
    archives = {
        part: {"record": 27000000 + number, "folder": "raw", "name": f"{part}_{{machine}}.zip"}
        for number, part in enumerate(("dev", "train", "test"))
    }
    content = {
        **{"year": 2027, "layout": "section", "rule": 2022, "rate": 16000, "channels": 1, "licence": "none"},
        "machines": {"dev": dict.fromkeys(DEV, machine), "eval": dict.fromkeys(EVAL, machine)},
        "archives": archives,
    }
    (folder / "2027.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(year_files, "YEARS", folder)
    return 2027


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def test_evaluate(tmp_path):
    truth = tmp_path / "truth.csv"
    with open(truth, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["machine", "section", "file", "domain", "label"])
        for number in range(8):
            domain, label = ("source", "target")[number % 2], ("normal", "anomaly")[number // 4]
            writer.writerow(["Kettle", "00", f"section_00_{number:04d}.wav", domain, label])
    scores = {f"section_00_{number:04d}.wav": float(number) for number in range(8)}
    challenge_csv.write_scores(tmp_path / "own" / challenge_csv.score_name("Kettle", "00"), scores)
    out = tmp_path / "metrics.json"
    assert run("evaluate", "--scores", tmp_path / "own", "--truth", truth, "--json", out, "--bootstrap", 0) == 0
    found = json.loads(out.read_text())
    assert found["year"] == 2027  # the newest is the default
    assert found["official_score"] == pytest.approx(1.0)
    assert run("evaluate", "--scores", tmp_path / "own", "--truth", truth, "--year", 2028) == 1


def test_validate(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(package_builder.DEV, 2027, DEV)
    monkeypatch.setitem(package_builder.EVAL, 2027, EVAL)
    path = package_builder.write_zip(tmp_path / "p.zip", package_builder.good_package(2027))
    assert run("validate", path) == 0
    assert "valid, 0 errors, 0 warnings" in capsys.readouterr().out
    assert run("validate", path, "--year", 2027) == 0
    assert run("validate", path, "--year", 2026) == 1
    lacking = package_builder.good_package(2027, machines=EVAL[:2])
    assert run("validate", package_builder.write_zip(tmp_path / "q.zip", lacking)) == 1
    assert "expected the evaluation machines of 2027, found no files at all for Drill" in capsys.readouterr().out


def test_leaderboard_of_our_results_alone(tmp_path, capsys):
    def system(machines, value):
        row = dict.fromkeys(("AUC (source)", "AUC (target)", "pAUC"), value)
        return {"Me_There_task2_1": {"official_score": value, "per_machine": dict.fromkeys(machines, row)}}

    path = tmp_path / "mine" / "metrics.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"year": 2027, "systems": system(DEV, 0.7), "evaluation": system(EVAL, 0.6)}))
    out = tmp_path / "table.html"
    assert run("leaderboard", "dcase2027", path, "--out", out) == 0
    said = capsys.readouterr().out
    assert "Our results on the development machines of 2027: mine: 70.00" in said
    assert "Our results on the evaluation machines of 2027: mine: 60.00" in said
    assert "DCASE 2027 Task 2" in out.read_text()
    assert "| Winch | AUC(source) | 60.00 |" in out.with_suffix(".md").read_text()


def test_prepare(tmp_path, capsys):
    raw = tmp_path / "data" / "raw"
    put_machine(raw, "Crane")
    put_machine(raw, "Winch", anonymous=True)
    out = tmp_path / "manifest.csv"
    listed = tmp_path / "eval_data_list_2027.csv"
    names = [("section_00_0000.wav", "section_00_source_test_normal_0000_vel_1.wav")]
    names += [("section_00_0001.wav", "section_00_target_test_anomaly_0001_vel_1.wav")]
    listed.write_text("Winch\n" + "".join(f"{hidden},{known}\n" for hidden, known in names))
    assert [row.label for row in read_truth(listed, 2027)] == ["normal", "anomaly"]
    assert run("prepare", tmp_path / "data", "--year", 2027, "--truth", listed, "--out", out) == 0
    labels = {(clip.machine, clip.label) for clip in manifest.read(out) if clip.split == "test"}
    assert labels == {(machine, label) for machine in ("Crane", "Winch") for label in ("normal", "anomaly")}
    put_machine(raw, "Tractor")
    assert run("prepare", tmp_path / "data", "--year", 2027, "--out", out) == 1
    assert "expected a machine and section of 2027, found Tractor" in capsys.readouterr().err


def test_download_and_run_know_it(tmp_path, capsys):
    assert [archive.name for archive in load_year(2027).select(["Winch"])] == ["train_Winch.zip", "test_Winch.zip"]
    refused = "http://127.0.0.1:9"
    assert run("download", "--year", 2027, "--out", tmp_path / "down", "--base-url", refused, "--machines", "Loom") == 1
    assert "dev_Loom.zip" in capsys.readouterr().err
    assert run("run", "--exp", tmp_path / "exp", "--data", "dcase2028", "--set", "evaluate.year=2027") == 1
    assert "dcase2026, dcase2027" in capsys.readouterr().err
