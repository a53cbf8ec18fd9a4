"""Broken recordings and odd names among those of a run: said by stage 0 and the report, scored for the challenge."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from system import config
from system.bin import main
from system.corpora import health_table
from system.experiment import Experiment
from system.report.findings import collect_findings
from system.report.load_run import read_run
from system.report.page import write_report

RATE = 8000
CONF = {
    "data": {"rate": RATE},
    "branches": {"near": {"inputs": ["near"], "spectrum": {"statistic": "quantile", "merge": 16},
                          "scorer": {"name": "knn", "settings": {"k": 1}}}},
    "systems": [{"view": "two_channel", "weights": {"near": 1}}],
}  # fmt: skip
ODD = b"section_00_source_%s_normal_0090_L\xfcfter.wav"
BROKEN = {  # numbers of recordings; the test clips are the last four
    3: lambda x: np.clip(x, -0.05, 0.05),
    4: lambda x: x / 100,
    5: lambda x: x + 0.4,
    16: lambda x: 0 * x,
    17: lambda x: 60 * x,
}


def sound(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * 310 * np.arange(RATE) / RATE + seed)
    return 0.05 * tone[:, None] + generator.normal(0, 0.02, (RATE, 2))


def name_of(number: int) -> str:
    split, label = ("train", "normal") if number < 16 else ("test", ("normal", "anomaly")[number % 2])
    domain = "target" if number in (12, 13, 14, 15, 18, 19) else "source"
    return f"Fan/{split}/section_00_{domain}_{split}_{label}_{number:04d}_noAttribute.wav"


def record(folder: Path, changes: dict) -> Path:
    for number in range(20):
        path = folder / name_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, changes.get(number, lambda x: x)(sound(number)), RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Experiment, str]:
    """Stages 0 to 6, and what they said."""
    place = tmp_path_factory.mktemp("broken")
    data = record(place / "data", BROKEN)
    for split in (b"train", b"test"):
        shutil.copyfile(data / name_of(0), os.path.join(os.fsencode(data / "Fan"), split, ODD % split))
    (place / "c.yaml").write_text(yaml.safe_dump(CONF))
    command = ["run", "--exp", str(place / "exp"), "--conf", str(place / "c.yaml"), "--data", str(data)]
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda *text, **_: said.append(" ".join(map(str, text))))
        assert main([*command, "--stop-stage", "6"]) == 0
    return Experiment(place / "exp", config.load(place / "c.yaml")), "\n".join(said)


def test_stage_0_names_and_counts_what_is_broken_among_the_training_recordings(run):
    note = (
        "note: Fan: training recordings: clipped 1 of 16 (section_00_source_train_normal_0003_noAttribute.wav); "
        "DC offset 1 of 16 (section_00_source_train_normal_0005_noAttribute.wav); level 20 dB or more off the median "
        "1 of 16 (section_00_source_train_normal_0004_noAttribute.wav)"
    )
    assert note in run[1].splitlines()


def test_the_table_of_health_holds_every_recording(run):
    healths = health_table.read(run[0].health)
    assert len(healths) == 20
    by_number = {int(key[-1].split("_")[5]): health for key, health in healths.items()}
    assert [channel.dead for channel in by_number[16].channels] == ["zero", "zero"]
    assert all(channel.offset == pytest.approx(0.4, abs=1e-3) for channel in by_number[5].channels)
    for number in (0, 4, 17):
        for exact, own in zip(
            BROKEN.get(number, lambda x: x)(sound(number)).T, by_number[number].channels, strict=True
        ):
            assert own.level == pytest.approx(20 * np.log10(exact.std()), abs=1e-3)
            assert own.peak == pytest.approx(np.abs(exact).max(), rel=1e-5)
            assert len(own.bands) == 8
    again = run[0].folder / "again.csv"
    clips = [clip for clip in read_run(run[0].folder).clips if clip.key in healths]
    health_table.write(again, clips, healths)
    assert again.read_bytes() == run[0].health.read_bytes()


def test_test_clips_of_the_challenge_always_get_a_score(run):
    for kind, count in (("anomaly_score", 4), ("decision_result", 4)):
        with open(run[0].system(run[0].labels[0]) / f"{kind}_Fan_section_00_test.csv", newline="") as file:
            values = [float(value) for _, value in csv.reader(file)]
        assert len(values) == count
        assert np.isfinite(values).all()
    assert json.loads(run[0].metrics.read_text())["systems"]


def test_the_report_says_which_recordings_are_broken(run):
    found = collect_findings(read_run(run[0].folder))
    assert any(text.startswith("Fan: training recordings: clipped 1 of 16 (") for text in found)
    assert (
        "Fan section 00: test recordings: level 1 of 4 (section_00_source_test_anomaly_0017_noAttribute.wav); dead 1 "
        "of 4 (section_00_source_test_normal_0016_noAttribute.wav): their scores say nothing about the machine."
    ) in found


def test_a_name_that_is_not_utf8_is_named_and_the_folder_goes_on(run, tmp_path, capsys, caplog):
    folder, data = run[0].folder, run[0].folder.parent / "data"
    for layout in ("dcase", "files"):
        caplog.clear()
        assert main(["prepare", str(data), "--layout", layout, "--out", str(tmp_path / "m.csv")]) == 0
        warned = [record.getMessage() for record in caplog.records if "UTF-8" in record.getMessage()]
        assert len(warned) == (2 if layout == "dcase" else 1)
        assert all(r"L\xfcfter.wav" in text for text in warned)
        assert len((tmp_path / "m.csv").read_text(encoding="utf-8").splitlines()) == 21
    capsys.readouterr()
    new = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"m\xe4rz"))
    shutil.copytree(data / "Fan" / "test", new)
    Path(new, "cut.wav").write_bytes(Path(data / name_of(0)).read_bytes()[:500])
    options = ["--csv", str(tmp_path / "o.csv"), "--json", str(tmp_path / "o.json")]
    assert main(["score", "--exp", str(folder), new, *options]) == 1  # cut.wav
    rows = list(csv.DictReader((tmp_path / "o.csv").open(encoding="utf-8")))
    assert [row["status"] for row in rows] == ["error", "UNUSABLE", "UNUSABLE", "judged", "judged", "judged"]
    assert rows[3]["file"].endswith(r"m\xe4rz/section_00_source_test_normal_0090_L\xfcfter.wav")
    assert float(rows[3]["score"]) < float(rows[3]["threshold"])
    assert "5 recordings, 0 anomalous, 2 unusable, 1 not scored\n" in capsys.readouterr().err


def test_the_report_of_a_folder_that_is_not_utf8(run, tmp_path):
    folder = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"m\xe4rz")))
    shutil.copytree(run[0].folder, folder)
    assert r"m\xe4rz" in write_report(folder).read_text(encoding="utf-8")


def test_a_folder_that_no_manifest_can_name_is_one_line(tmp_path, capsys):
    data = record(tmp_path / "data", {}).rename(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"d\xe4ta")))
    assert main(["prepare", str(data), "--out", str(tmp_path / "m.csv")]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "m.csv: expected paths of recordings in UTF-8, found " in told
    assert r"d\xe4ta/Fan/" in told
    assert not (tmp_path / "m.csv").exists()


def test_a_machine_whose_training_recordings_are_mostly_dead_is_one_error(tmp_path, capsys):
    noise = np.random.default_rng(0)
    changes = {number: lambda x: noise.integers(-1, 2, x.shape) / 32768 for number in range(9)}
    data = record(tmp_path / "data", changes)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONF))
    command = ["run", "--exp", str(tmp_path / "exp"), "--conf", str(tmp_path / "c.yaml"), "--data", str(data)]
    assert main(command) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wheeltapper run: ")]
    assert told == [
        "wheeltapper run: stage 0 data: Fan section 00: expected training recordings of a running machine, found 9 of "
        f"16 without any signal ({', '.join(Path(name_of(number)).name for number in range(3))} and 6 more); take them "
        "out, or record again"
    ]
    assert not (tmp_path / "exp" / "manifest.csv").exists()
