import logging
import os
import shutil
import time
from dataclasses import replace

import pytest
from dcase_files import RATE, TRAIN, only_problem, put, put_machine

from system import manifest
from system.audio import digest
from system.bin import main
from system.corpora.dcase import prepare_dcase


def test_a_labelled_machine(tmp_path):
    folder = put_machine(tmp_path)
    clips = prepare_dcase(tmp_path, "dcase2026")
    assert len(clips) == 5 + 8
    assert clips == sorted(clips, key=lambda clip: (clip.machine, clip.section, clip.split, clip.file))
    clip = next(clip for clip in clips if clip.file == "section_00_target_test_anomaly_0001_vel_1.wav")
    path = folder / "test" / clip.file
    assert clip == manifest.Clip(
        corpus="dcase2026",
        machine="fan",
        section="00",
        split="test",
        file=path.name,
        path=str(path),
        label="anomaly",
        domain="target",
        attributes="vel_1",
        channels=1,
        rate=RATE,
        samples=3200,
        digest=digest(path),
    )
    assert manifest.is_development(clips) == {"fan": True}


def test_anonymous_two_channel_flac_of_any_length_beside_a_mono_machine(tmp_path):
    put_machine(tmp_path, "ToyCar")
    folder = put_machine(tmp_path, "Sander", anonymous=True, channels=2)
    for path in list(folder.rglob("*.wav")):
        put(path.with_suffix(".flac"), seconds=0.1 + 0.01 * int(path.stem[11:] == "0001"), channels=2, rate=48000)
        path.unlink()
    clips = prepare_dcase(tmp_path)
    sander = [clip for clip in clips if clip.machine == "Sander"]
    assert {(clip.channels, clip.rate) for clip in sander} == {(2, 48000)}
    assert {(clip.channels, clip.rate) for clip in clips if clip.machine == "ToyCar"} == {(1, 16000)}
    assert {clip.samples for clip in sander} == {4800, 5280}
    assert {(clip.label, clip.domain, clip.attributes) for clip in sander if clip.split == "test"} == {("", "", "")}
    assert manifest.is_development(clips) == {"Sander": False, "ToyCar": True}


def test_the_layout_of_2020(tmp_path, caplog):
    for split in ("train", "test"):
        for index in range(2):
            put(tmp_path / "fan" / split / f"normal_id_02_{index:08}.wav")
    put(tmp_path / "fan" / "test" / "anomaly_id_02_00000000.wav")
    with caplog.at_level(logging.WARNING):
        clips = prepare_dcase(tmp_path)
    assert [(clip.section, clip.split, clip.label, clip.domain) for clip in clips] == [
        ("02", "test", "anomaly", ""),
        ("02", "test", "normal", ""),
        ("02", "test", "normal", ""),
        ("02", "train", "normal", ""),
        ("02", "train", "normal", ""),
    ]
    assert caplog.text == ""


def test_the_layout_of_2021_where_folders_tell_the_domain(tmp_path):
    folder = put_machine(tmp_path, test=0)
    put(folder / "source_test" / "section_00_source_test_0000.wav")
    put(folder / "target_test" / "section_00_0001.wav")
    clips = [clip for clip in prepare_dcase(tmp_path) if clip.split == "test"]
    assert [(clip.file, clip.domain, clip.label) for clip in clips] == [
        ("section_00_0001.wav", "target", ""),
        ("section_00_source_test_0000.wav", "source", ""),
    ]


def test_supplemental_clips_are_tolerated(tmp_path):
    folder = put_machine(tmp_path)
    put(folder / "supplemental" / "section_00_machine_0001_.wav")
    put(folder / "supplemental" / "section_00_noise_0002_car_A1.wav")
    clips = [clip for clip in prepare_dcase(tmp_path) if clip.split == "supplemental"]
    assert [(clip.label, clip.attributes) for clip in clips] == [("normal", ""), ("", "car_A1")]


def test_other_and_hidden_files_are_passed_over(tmp_path):
    folder = put_machine(tmp_path)
    (folder / "train" / "readme.txt").write_text("no sound")
    (folder / "train" / "._section_00_source_train_normal_0000_vel_1.wav").write_bytes(b"\0" * 20)
    (folder / "test" / ".hidden").mkdir()
    put(folder / "test" / ".hidden" / "whatever.wav")
    (tmp_path / ".cache").mkdir()
    put(tmp_path / ".cache" / "train" / "whatever.wav")
    (tmp_path / "zips").mkdir()
    (tmp_path / "licence.pdf").write_bytes(b"%PDF")
    assert len(prepare_dcase(tmp_path)) == 13


def test_attribute_files_fill_names_without_attributes_and_lose_against_names(tmp_path, caplog):
    folder = put_machine(tmp_path, target=0)
    put_machine(tmp_path, source=0, target=2, test=0, tail="_noAttribute")
    rows = ["file_name,d1p,d1v,d2p,d2v", "fan/train/section_00_target_train_normal_0000_noAttribute.wav,vel,9,loc,B"]
    rows += [
        "fan/train/section_00_source_train_normal_0000_vel_1.wav,vel,7,,",
        "fan/test/section_00_source_test_normal_0099.wav,vel,7,,",
    ]
    (folder / "attributes_00.csv").write_text("\n".join(rows))
    with caplog.at_level(logging.WARNING):
        clips = {clip.file: clip for clip in prepare_dcase(tmp_path)}
    assert clips["section_00_target_train_normal_0000_noAttribute.wav"].attributes == "vel_9_loc_B"
    assert clips["section_00_target_train_normal_0001_noAttribute.wav"].attributes == ""
    assert clips["section_00_source_train_normal_0000_vel_1.wav"].attributes == "vel_1"
    assert "1 file names contradict attributes_NN.csv" in caplog.text
    assert "lists 1 recordings that do not exist (test/section_00_source_test_normal_0099.wav)" in caplog.text


def test_a_damaged_attribute_file_is_a_problem(tmp_path):
    (put_machine(tmp_path) / "attributes_00.csv").write_text("nonsense\n")
    assert "attributes_00.csv: line 1: expected file_name" in only_problem(tmp_path)


def test_nothing_depends_on_the_order_or_time_of_the_files(tmp_path):
    put_machine(tmp_path / "a")
    put_machine(tmp_path / "a", "pump", anonymous=True)
    files = [path for path in (tmp_path / "a").rglob("*.wav")]
    for age, path in enumerate(reversed(sorted(files))):
        copy = tmp_path / "b" / path.relative_to(tmp_path / "a")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        os.utime(copy, (age, age))
    strip = [replace(clip, path="") for clip in prepare_dcase(tmp_path / "a", threads=1)]
    assert strip == [replace(clip, path="") for clip in prepare_dcase(tmp_path / "b", threads=3)]


def test_progress_counts_every_file(tmp_path):
    put_machine(tmp_path)
    seen = []
    prepare_dcase(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 13) for done in range(1, 14)]


# Where to look for machines


def test_missing_folder(tmp_path):
    assert "found nothing" in only_problem(tmp_path / "nowhere")
    path = tmp_path / "file"
    path.write_text("")
    assert "found a file" in only_problem(path)


def test_one_machine_is_not_a_corpus(tmp_path):
    folder = put_machine(tmp_path)
    assert f"give the folder above it: {tmp_path}" in only_problem(folder)


def test_machines_one_level_down(tmp_path):
    put_machine(tmp_path / "dev_data")
    put_machine(tmp_path / "eval_data")
    message = only_problem(tmp_path)
    assert "machines lie one level down: give" in message
    assert str(tmp_path / "dev_data") in message
    assert str(tmp_path / "eval_data") in message


def test_a_folder_without_machines(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "found no machine" in only_problem(tmp_path)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("stray.wav", "expected recordings in machine folders, found 1 beside them (stray.wav)"),
        ("fan/stray.wav", "expected recordings in train/ and test/, found 1 beside them (stray.wav)"),
        ("pump/some/stray.wav", "expected train/ and test/ in a machine's folder"),
        ("fan/train/normal/stray.wav", "expected recordings directly in train/"),
    ],
)
def test_recordings_in_the_wrong_place(tmp_path, place, message):
    put_machine(tmp_path)
    put(tmp_path / place)
    assert message in only_problem(tmp_path)


def test_folders_of_other_names_are_not_read_and_said(tmp_path, caplog):
    folder = put_machine(tmp_path)
    put(folder / "test_rename" / "section_00_source_test_normal_0000_vel_1.wav")
    with caplog.at_level(logging.WARNING):
        assert len(prepare_dcase(tmp_path)) == 13
    assert f"{folder / 'test_rename'}: ignored" in caplog.text


# Names


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("train/section_00_source_train_anomaly_0009_vel_1.wav", "found an anomaly"),
        ("train/section_00_0009.wav", "found a name without label"),
        ("train/section_00_source_test_normal_0009_vel_1.wav", "expected a train clip in train/"),
        ("test/section_00_source_train_normal_0009_vel_1.wav", "expected a test clip in test/"),
        ("test/recording 9.wav", "expected a DCASE file name"),
        ("train/section_00_machine_0001_.wav", "in supplemental/ and only there"),
        ("supplemental/section_00_source_train_normal_0009_vel_1.wav", "in supplemental/ and only there"),
        ("source_test/section_00_target_test_normal_0009_vel_1.wav", "expected the source domain in source_test/"),
    ],
)
def test_names_that_do_not_fit_their_folder(tmp_path, place, message):
    path = put(put_machine(tmp_path) / place)
    found = only_problem(tmp_path)
    assert found.strip().startswith(str(path))
    assert message in found


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("source_test/section_00_0007.wav", "target_test/section_00_0007.wav"),
        ("test/section_00_0007.wav", "source_test/section_00_0007.wav"),
        ("test/section_00_0007.wav", "test/section_00_0007.flac"),
    ],
)
def test_duplicate_names(tmp_path, first, second):
    folder = put_machine(tmp_path, test=0)
    put(folder / first)
    put(folder / second)
    message = only_problem(tmp_path)
    assert str(folder / first) in message
    assert str(folder / second) in message
    assert "expected a unique name" in message


# Sets


def test_a_machine_without_training_clips(tmp_path):
    put_machine(tmp_path, source=0, target=0)
    assert f"{tmp_path / 'fan'}: expected at least 2 normal training clips in train/, found none" in only_problem(
        tmp_path
    )


def test_a_machine_with_empty_folders(tmp_path):
    put_machine(tmp_path)
    (tmp_path / "pump" / "train").mkdir(parents=True)
    assert f"{tmp_path / 'pump'}: expected at least 2" in only_problem(tmp_path)


def test_one_training_clip(tmp_path):
    put_machine(tmp_path, source=1, target=0)
    message = only_problem(tmp_path)
    assert f"{tmp_path / 'fan'}: section 00: expected at least 2 normal training clips, found 1" in message


def test_a_section_without_training_clips(tmp_path):
    folder = put_machine(tmp_path)
    put(folder / "test" / "section_01_source_test_normal_0000_vel_1.wav")
    assert "section 01: expected at least 2 normal training clips, found 0" in only_problem(tmp_path)


@pytest.mark.parametrize(("source", "target", "missing"), [(3, 0, "target"), (0, 3, "source")])
def test_references_of_one_domain_are_allowed_and_said(tmp_path, caplog, source, target, missing):
    put_machine(tmp_path, source=source, target=target)
    with caplog.at_level(logging.WARNING):
        assert len(prepare_dcase(tmp_path)) == 11
    assert f"fan: no {missing} training clips" in caplog.text


def test_a_machine_without_test_clips_is_allowed_and_said(tmp_path, caplog):
    put_machine(tmp_path, test=0)
    with caplog.at_level(logging.WARNING):
        assert len(prepare_dcase(tmp_path)) == 5
    assert "fan: no test clips" in caplog.text


def test_labelled_and_anonymous_test_clips_do_not_mix(tmp_path):
    folder = put_machine(tmp_path)
    put(folder / "test" / "section_00_0000.wav")
    assert "expected test clips all labelled or all anonymous, found 8 and 1" in only_problem(tmp_path)


# The command


def test_verb(tmp_path, capsys):
    put_machine(tmp_path / "raw", "ToyCar")
    put_machine(tmp_path / "raw", "Sander", anonymous=True, channels=2)
    out = tmp_path / "manifest.csv"
    assert main(["prepare", str(tmp_path / "raw"), "--out", str(out), "--corpus", "mine"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == ["Sander", "eval", "00", "5", "3", "2", "2", "0", "0", "0", "0.2", "2", "16000"]
    assert rows[2] == ["ToyCar", "dev", "00", "5", "3", "2", "8", "4", "4", "0", "0.2", "1", "16000"]
    clips = manifest.read(out)
    assert clips == prepare_dcase(tmp_path / "raw", "mine")
    assert "raw/Sander/train/" in out.read_text()


def test_verb_writes_nothing_and_shows_no_traceback_on_a_mistake(tmp_path, capsys):
    (put_machine(tmp_path / "raw") / TRAIN).write_bytes(b"")
    out = tmp_path / "manifest.csv"
    assert main(["prepare", str(tmp_path / "raw"), "--out", str(out)]) == 1
    assert "found an empty file" in capsys.readouterr().err
    assert not out.exists()


def test_an_interruption_does_not_wait_for_the_files_in_the_queue(tmp_path, monkeypatch):
    from system.corpora import inspection

    put_machine(tmp_path, source=40)
    opened = []
    inspect = inspection.inspect

    def slow(path, *rest):
        opened.append(path)
        time.sleep(0.02)
        return inspect(path, *rest)

    monkeypatch.setattr(inspection, "inspect", slow)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_dcase(tmp_path, threads=2, progress=stop)
    assert len(opened) < 10
