"""A year of the challenge as the benchmarks ask for it."""

from dataclasses import replace

import pytest
from dcase_files import put, put_machine

from system import manifest
from system.bin import main
from system.corpora.benchmark_years import prepare_year, subset_of
from system.corpora.challenge import load_year
from system.errors import WheeltapperError


def put_2023(root, truth):
    put_machine(root / "raw", "fan")  # development
    put_machine(root / "raw", "shaker", anonymous=True)  # evaluation
    labelled = ("section_00_source_test_normal_0000_speed_1.wav", "section_00_target_test_anomaly_0001_speed_1.wav")
    rows = [f"section_00_{k:04}.wav,{name}" for k, name in enumerate(labelled)]
    truth.write_text("\n".join(["shaker", *rows]) + "\n")


def test_both_phases_with_their_labels(tmp_path):
    put_2023(tmp_path, tmp_path / "eval_data_list_2023.csv")
    clips = prepare_year(2023, tmp_path, tmp_path / "eval_data_list_2023.csv")
    assert {clip.corpus for clip in clips} == {"dcase2023"}
    assert {(clip.machine, subset_of(clip, 2023)) for clip in clips} == {("fan", "dev"), ("shaker", "eval")}
    asked = [(c.file, c.label, c.domain) for c in clips if c.machine == "shaker" and c.split == "test"]
    assert asked == [("section_00_0000.wav", "normal", "source"), ("section_00_0001.wav", "anomaly", "target")]
    assert manifest.is_development(clips) == {"fan": True, "shaker": True}
    unknown = [clip.label for clip in prepare_year(2023, tmp_path) if clip.machine == "shaker" and clip.split == "test"]
    assert unknown == ["", ""]


def test_machines_of_both_phases_are_told_apart_by_their_sections(tmp_path):
    for phase, section in (("dev", "00"), ("eval", "01")):
        for k in range(2):
            put(tmp_path / phase / "fan" / "train" / f"normal_id_{section}_{k:08d}.wav")
    for label in ("normal", "anomaly"):
        put(tmp_path / "dev" / "fan" / "test" / f"{label}_id_00_00000000.wav")
    put(tmp_path / "eval" / "fan" / "test" / "id_01_00000000.wav")
    truth = tmp_path / "eval_data_list_2020.csv"
    truth.write_text("fan\nid_01_00000000.wav,anomaly_id_01_00000003.wav,1\n")
    clips = prepare_year(2020, tmp_path, truth)
    assert [(c.section, c.split, c.label, c.domain, subset_of(c, 2020)) for c in clips] == [
        ("00", "test", "anomaly", "", "dev"),
        ("00", "test", "normal", "", "dev"),
        ("00", "train", "normal", "", "dev"),
        ("00", "train", "normal", "", "dev"),
        ("01", "test", "anomaly", "", "eval"),
        ("01", "train", "normal", "", "eval"),
        ("01", "train", "normal", "", "eval"),
    ]
    with pytest.raises(WheeltapperError, match="expected a machine and section of 2020, found fan section 07"):
        subset_of(replace(clips[0], section="07"), load_year(2020))


def test_what_is_missing(tmp_path):
    with pytest.raises(WheeltapperError, match="expected raw/ of 2023"):
        prepare_year(2023, tmp_path)
    put_2023(tmp_path, tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_text().splitlines()
    (tmp_path / "t.csv").write_text("\n".join(text[:-1]) + "\n")
    with pytest.raises(WheeltapperError, match=r"t\.csv: expected the truth of .*section_00_0001\.wav, found none"):
        prepare_year(2023, tmp_path, tmp_path / "t.csv")
    put_machine(tmp_path / "raw", "ToothBrush")
    with pytest.raises(WheeltapperError, match="expected a machine and section of 2023, found ToothBrush section 00"):
        prepare_year(2023, tmp_path)


def test_all_that_is_there_of_a_benchmark(tmp_path, capsys):
    put_2023(tmp_path / "raw" / "dcase2023", tmp_path / "raw" / "dcase2023" / "truth.csv")
    out = tmp_path / "data"
    assert main(["prepare", str(tmp_path / "raw"), "--suite", "siren", "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["dcase2023"]
    labels = [clip.label for clip in manifest.read(out / "dcase2023" / "manifest.csv") if clip.machine == "shaker"]
    assert sorted(labels) == ["anomaly", *["normal"] * 6]
    said = capsys.readouterr().out
    assert "not there: dcase2020, dcase2021, dcase2022, dcase2024, dcase2025, iiee, iica, cwru, mafaulda_vib" in said
    assert main(["prepare", str(tmp_path / "raw"), "--suite", "siren", "--sets", "pu_vib", "--out", str(out)]) == 1
    assert "siren: expected some of dcase2020" in capsys.readouterr().err


def test_the_command(tmp_path, capsys):
    put_2023(tmp_path, tmp_path / "t.csv")
    command = ["prepare", str(tmp_path), "--out", str(tmp_path / "m.csv"), "--truth", str(tmp_path / "t.csv")]
    assert main([*command, "--year", "2023"]) == 0
    labels = [clip.label for clip in manifest.read(tmp_path / "m.csv") if clip.machine == "shaker"]
    assert sorted(labels) == ["anomaly", *["normal"] * 6]
    assert main(command) == 1
    assert "--truth: expected --year" in capsys.readouterr().err
