"""Recordings that cannot be used, or only with a warning."""

import logging
import unicodedata

import numpy as np
import pytest
import soundfile
from dcase_files import RATE, TEST, TRAIN, noise, only_problem, problems, put, put_machine

from system.corpora.dcase import prepare_dcase
from system.errors import WheeltapperError

# Sound


def damage_empty(path):
    path.write_bytes(b"")


def damage_truncated(path):
    path.write_bytes(path.read_bytes()[:-1000])


def damage_header(path):
    path.write_bytes(b"RIFF" + b"\0" * 500)


def damage_no_samples(path):
    soundfile.write(path, np.zeros((0, 1)), RATE)


def damage_nan(path):
    wave = noise()
    wave[17] = np.nan
    put(path, wave=wave, subtype="FLOAT")


def damage_infinite(path):
    wave = noise()
    wave[17] = np.inf
    put(path, wave=wave, subtype="FLOAT")


def damage_missing(path):
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def damage_stereo(path):
    put(path, channels=2)


def damage_rate(path):
    content = bytearray(path.read_bytes())
    content[24:28] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)


def damage_short(path):
    put(path, seconds=0.09)


@pytest.mark.parametrize("place", [TRAIN, TEST])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_empty, "found an empty file"),
        (damage_truncated, "truncated"),
        (damage_header, "expected a readable wav"),
        (damage_no_samples, "0 samples"),
        (damage_nan, "found 1 that are NaN or infinite"),
        (damage_infinite, "found 1 that are NaN or infinite"),
        (damage_missing, "expected a sound file, found nothing"),
        (damage_stereo, "expected 1 channel(s) like the other clips of fan, found 2"),
        (damage_rate, "expected a sampling rate of 10 to 10,000,000 Hz, found 2,147,483,647 Hz"),
        (damage_short, "expected at least 0.1 s of sound, found 0.0900 s"),
    ],
)
def test_recordings_that_cannot_be_used(tmp_path, place, damage, message):
    path = put_machine(tmp_path) / place
    damage(path)
    found = only_problem(tmp_path)
    assert found.strip().startswith(f"{path}: ")
    assert message in found


def test_mono_in_a_stereo_set(tmp_path):
    path = put_machine(tmp_path, channels=2) / TEST
    put(path, channels=1)
    assert f"{path}: expected 2 channel(s) like the other clips of fan, found 1" in only_problem(tmp_path)


def test_more_channels_than_two(tmp_path):
    put_machine(tmp_path, channels=4)
    assert all("expected 1 or 2 channels, found 4" in line for line in problems(tmp_path))


def test_more_channels_than_two_of_which_some_are_chosen(tmp_path):
    put_machine(tmp_path, channels=4)
    assert {clip.channels for clip in prepare_dcase(tmp_path, channels="1,3")} == {4}
    put(tmp_path / "fan" / TEST, channels=2)
    assert "expected 4 channel(s) like the other clips of fan, found 2" in only_problem_of(tmp_path, channels="1,3")


def only_problem_of(folder, **options):
    with pytest.raises(WheeltapperError) as caught:
        prepare_dcase(folder, **options)
    return str(caught.value)


def test_several_rates_are_kept_and_said(tmp_path, caplog):
    put(put_machine(tmp_path) / TRAIN, rate=44100)
    with caplog.at_level(logging.WARNING):
        clips = prepare_dcase(tmp_path)
    assert sorted({clip.rate for clip in clips}) == [16000, 44100]
    assert "fan: recordings of 16000, 44100 Hz" in caplog.text


@pytest.mark.parametrize("kind", ["flac", "aiff", "au", "caf", "w64", "rf64", "ogg", "mp3"])
def test_kinds_of_files(tmp_path, kind):
    folder = put_machine(tmp_path)
    for path in list(folder.rglob("*.wav")):
        soundfile.write(path.with_suffix(f".{kind}"), soundfile.read(path)[0], RATE, format=kind.upper())
        path.unlink()
    clips = prepare_dcase(tmp_path)
    assert len(clips) == 13
    assert {clip.attributes for clip in clips} == {"vel_1"}
    assert {(clip.channels, clip.rate, clip.samples) for clip in clips} == {(1, RATE, 3200)}


def test_kinds_that_cannot_be_read_are_counted_and_named(tmp_path, caplog):
    folder = put_machine(tmp_path)
    for number, kind in enumerate(("m4a", "AAC", "wma", "amr")):
        (folder / "train" / f"section_00_source_train_normal_{90 + number:04}_vel_1.{kind}").write_bytes(b"sound")
    with caplog.at_level(logging.WARNING):
        assert len(prepare_dcase(tmp_path)) == 13
    assert "4 files of other kinds left out: section_00_source_train_normal_0090_vel_1.m4a, " in caplog.text
    for path in (folder / "train").glob("*.wav"):
        path.unlink()
    assert "found none; 4 files of other kinds left out" in only_problem(tmp_path).replace("section 00: ", "")


def test_a_header_without_the_length_is_said(tmp_path, caplog):
    path = put_machine(tmp_path) / TRAIN
    content = bytearray(path.read_bytes())
    content[40:44] = b"\0\0\0\x80"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        clip = next(clip for clip in prepare_dcase(tmp_path) if clip.path == str(path))
    assert clip.samples == 3200
    assert (
        f"1 recording kept, with a remark: {path}: the header does not say the length (it says 0x80000000)"
        in caplog.text
    )


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_attributes_of_names_from_a_mac(tmp_path, forms, caplog):
    on_disk, listed = forms
    folder = put_machine(tmp_path, tail="_noAttribute")
    name = "section_00_source_train_normal_0077_öl_süd.wav"
    put(folder / "train" / unicodedata.normalize(on_disk, name))
    bare = "section_00_source_train_normal_0078_.wav"
    put(folder / "train" / bare)
    rows = ["file_name,d1p,d1v", f"fan/train/{bare},öl,süd", f"fan/train/{name},öl,süd"]
    (folder / "attributes_00.csv").write_text(unicodedata.normalize(listed, "\n".join(rows)), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        clips = prepare_dcase(tmp_path)
    assert [clip.attributes for clip in clips if clip.attributes] == [unicodedata.normalize("NFC", "öl_süd")] * 2
    assert "attributes_00" not in caplog.text
    assert "attributes_NN" not in caplog.text


def test_truncated_flac(tmp_path):
    path = put_machine(tmp_path) / TRAIN
    flac = put(path.with_suffix(".flac"), seconds=2)
    path.unlink()
    flac.write_bytes(flac.read_bytes()[:-2000])
    assert str(flac) in only_problem(tmp_path)


def test_silence_is_an_error_in_training_and_a_warning_in_a_test(tmp_path, caplog):
    folder = put_machine(tmp_path)
    put(folder / TEST, wave=np.zeros((3200, 1)))
    with caplog.at_level(logging.WARNING):
        assert len(prepare_dcase(tmp_path)) == 13
    assert f"{folder / TEST}: silent test clip (all samples are zero), kept" in caplog.text
    put(folder / TRAIN, wave=np.zeros((3200, 1)))
    assert f"{folder / TRAIN}: expected sound in a training clip, found silence" in only_problem(tmp_path)


def test_one_dead_channel_is_said(tmp_path, caplog):
    folder = put_machine(tmp_path, channels=2)
    wave = noise(channels=2)
    wave[:, 1] = 0
    put(folder / TRAIN, wave=wave)
    with caplog.at_level(logging.WARNING):
        prepare_dcase(tmp_path)
    assert f"{folder / TRAIN}: channel 1 is silent" in caplog.text


def test_a_sound_after_the_first_block_is_heard(tmp_path, monkeypatch):
    monkeypatch.setattr("system.corpora.inspection.BLOCK", 1000)
    folder = put_machine(tmp_path)
    wave = np.zeros((3200, 1))
    wave[3100:] = 0.5
    put(folder / TRAIN, wave=wave)
    assert len(prepare_dcase(tmp_path)) == 13


def test_all_problems_are_counted_and_ten_are_shown(tmp_path):
    folder = put_machine(tmp_path, source=20)
    for path in sorted((folder / "train").glob("*source*"))[:12]:
        path.write_bytes(b"")
    put(folder / "test" / "what.wav")
    with pytest.raises(WheeltapperError) as caught:
        prepare_dcase(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path}: 13 problems (the first 10 are shown)"
    assert len(lines) == 11
