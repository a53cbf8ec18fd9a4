"""Recordings that cannot be used, or only with a warning."""

import logging

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
    put(path, rate=44100)


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
        (damage_rate, "expected 16000 Hz like the other clips of fan, found 44100 Hz"),
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
