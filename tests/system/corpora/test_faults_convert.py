"""Preparation of data sets: cuts, interruptions, changed data, errors in the data, the command line."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from faults_files import heard, pcm, put_csv, put_mat, put_mat73, put_wav, signal

from system import audio, manifest
from system.bin import main
from system.corpora import faults
from system.corpora.faults import convert
from system.corpora.faults.convert import prepare
from system.errors import WheeltapperError

MAFAULDA = faults.find_corpus("mafaulda_vib")


def put_runs(raw, count=3, peak=2.0):
    for k in range(count):
        put_csv(raw / "normal" / f"{k}.csv", np.stack([signal(100, 8 * k + c, peak) for c in range(8)], axis=1))


def make(name, raw, out, view=""):
    return prepare(faults.find_corpus(name), raw, out, view)


@pytest.mark.parametrize("seconds", [0.1, 4.9, 5.0, 5.1, 9.9, 10.0, 14.9, 15.0, 15.1, 19.9, 20.0, 25.0, 25.1, 40.0])
def test_cuts(seconds):
    """RMIS: [0, 10), [10, 20), ...; the last ten seconds where more than five are left; nothing where not."""
    rate, samples = 10, round(10 * seconds)
    expected = [range(k, k + 100) for k in range(0, samples - 99, 100)]
    if samples - 100 * len(expected) > 50:
        expected.append(range(samples)[-100:])
    starts, length = convert._cuts(samples, rate, 10.0)
    assert [range(start, start + length) for start in starts] == expected


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch):
    put_runs(tmp_path / "raw")
    clips = prepare(MAFAULDA, tmp_path / "raw", tmp_path / "out")
    calls = []
    monkeypatch.setattr(convert, "_measure", lambda *_: calls.append("measure"))
    monkeypatch.setattr(audio, "write", lambda *_: calls.append("write"))
    assert prepare(MAFAULDA, tmp_path / "raw", tmp_path / "out") == clips
    assert calls == []


def test_an_interrupted_run_is_taken_up(tmp_path, monkeypatch):
    put_runs(tmp_path / "raw")
    expected = prepare(MAFAULDA, tmp_path / "raw", tmp_path / "whole")
    write, written = audio.write, []

    def stops(path, *rest):
        if len(written) == 8:  # the second cut of the second file
            raise KeyboardInterrupt
        write(path, *rest)
        written.append(path)

    monkeypatch.setattr(audio, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        prepare(MAFAULDA, tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()
    monkeypatch.setattr(audio, "write", lambda path, *rest: (written.append(path), write(path, *rest)))
    clips = prepare(MAFAULDA, tmp_path / "raw", tmp_path / "out")
    # The first file is not written again; the second one is, completely.
    assert (len(written), len(set(written))) == (8 + 12, 18)
    assert [(clip.file, clip.digest) for clip in clips] == [(clip.file, clip.digest) for clip in expected]


def test_a_louder_file_changes_the_scale_of_all(tmp_path, monkeypatch):
    """After an interruption while rewriting, no file with another scale counts as complete."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    put_runs(raw, 2)
    before = prepare(MAFAULDA, raw, out)
    put_runs(tmp_path / "louder", 1, peak=8.0)
    louder = shutil.copy(tmp_path / "louder" / "normal" / "0.csv", raw / "normal" / "2.csv")
    write, written = audio.write, []

    def stops(path, *rest):
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, *rest)
        written.append(path)

    monkeypatch.setattr(audio, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        prepare(MAFAULDA, raw, out)
    monkeypatch.setattr(audio, "write", write)
    Path(louder).unlink()
    again = prepare(MAFAULDA, raw, out)
    assert [(clip.file, clip.digest) for clip in again] == [(clip.file, clip.digest) for clip in before]
    assert [audio.digest(clip.path) for clip in again] == [clip.digest for clip in again]
    values = np.loadtxt(raw / "normal" / "0.csv", delimiter=",")
    assert np.array_equal(heard(again[0].path), pcm(values[:, 1] / 2.0))
    shutil.copy(tmp_path / "louder" / "normal" / "0.csv", louder)
    loud = prepare(MAFAULDA, raw, out)
    assert len(loud) == 18
    assert np.array_equal(heard(loud[0].path), pcm(values[:, 1] / 8.0))


def test_a_lost_cut_is_made_again(tmp_path):
    put_runs(tmp_path / "raw")
    clips = prepare(MAFAULDA, tmp_path / "raw", tmp_path / "out")
    (tmp_path / "out" / "audio" / clips[4].file).unlink()
    Path(clips[13].path).write_bytes(b"")
    record = next((tmp_path / "out" / "records").rglob("1.csv.json"))
    record.write_text(record.read_text()[:40])  # as left by a full disk
    assert prepare(MAFAULDA, tmp_path / "raw", tmp_path / "out") == clips
    assert [audio.digest(clip.path) for clip in clips] == [clip.digest for clip in clips]


def test_folders_that_are_not_for_it(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    with pytest.raises(WheeltapperError, match=r"raw: expected the folder of a data set, found nothing"):
        prepare(MAFAULDA, raw, out)
    raw.mkdir()
    with pytest.raises(WheeltapperError, match=r"raw: expected \.csv files, found none"):
        prepare(MAFAULDA, raw, out)
    assert not out.exists()
    put_runs(raw, 1)
    with pytest.raises(WheeltapperError, match="expected a folder outside the raw data"):
        prepare(MAFAULDA, raw, raw / "out")
    prepare(MAFAULDA, raw, out)
    with pytest.raises(WheeltapperError, match=r"out: expected an empty folder or one for .*sound.*, found one for"):
        prepare(faults.find_corpus("mafaulda_sound"), raw, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(WheeltapperError, match=r"mine: expected an empty folder"):
        prepare(MAFAULDA, raw, tmp_path / "mine")
    with pytest.raises(WheeltapperError, match="mafaulda_vib: view: expected one of rmis, siren, found 'own'"):
        prepare(MAFAULDA, raw, tmp_path / "b", "own")


ROW = "1,2,3,4,5,6,7,8\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROW + "1,2,3,oops,5,6,7,8\n", "expected 8 columns of numbers, found 'oops' in line 2, column 4"),
        (ROW + "1,2,3\n", "expected 8 columns of numbers, found 3 in line 2"),
        (ROW + "1,2,3,4,5,6,7,8,9\n", "expected 8 columns of numbers, found 9 in line 2"),
        ("1,2,3\n1,2,3\n", "expected 8 columns of numbers, found 3"),
        (ROW + "1,nan,3,4,5,6,7,8\n", "expected 8 columns of numbers, found 'nan' in line 2, column 2"),
        (ROW + "1,inf,3,4,5,6,7,8\n", "channel 2: expected finite samples, found 1 NaN or infinite"),
        ("1,2,0,4,5,6,7,8\n" * 3, r"channel 3: expected a signal, found silence \(all samples are zero\)"),
        ("", "expected 8 columns of numbers, found an empty file"),
    ],
)
def test_mistakes_in_a_csv(tmp_path, text, message):
    put_runs(tmp_path / "raw")
    (tmp_path / "raw" / "normal" / "bad.csv").write_text(text)
    with pytest.raises(WheeltapperError, match=rf"normal/bad\.csv: {message}"):
        prepare(MAFAULDA, tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_unknown_folders(tmp_path):
    put_csv(tmp_path / "raw" / "unbalance" / "6g" / "1.csv", np.ones((5, 8)))
    with pytest.raises(WheeltapperError, match=r"6g/1\.csv: expected a file below a folder horizontal.*found unb"):
        prepare(MAFAULDA, tmp_path / "raw", tmp_path / "out")
    put_csv(tmp_path / "b" / "overhang" / "wear" / "1.csv", np.ones((5, 8)))
    with pytest.raises(WheeltapperError, match=r"1\.csv: expected overhang/\{ball_fault,cage_fault,outer_race\}"):
        prepare(MAFAULDA, tmp_path / "b", tmp_path / "out")


def wtpg(raw, **variables):
    return "wtpg", put_mat(raw / "wear" / "1" / "W1_20.MAT", **variables)


def long(samples=48000 * 6, columns=4):
    return np.stack([signal(samples, k) for k in range(columns)], axis=1)


def truncated(raw):
    name, path = wtpg(raw, Data=long())
    path.write_bytes(path.read_bytes()[:-1000])
    return name, path


def truncated_umged(raw, keep):
    path = raw / "G1" / "N1_G1_E00_T0_S600.mat"
    put_mat73(path, DataSensor06=long(60000, 1))
    path.write_bytes(path.read_bytes()[:keep])
    return "umged_sound", path


def wav(raw, name, wave, rate=48000):
    return name, put_wav(raw / "tubeleak" / "lab" / "1" / "1_iO_0_1_.wav", wave, rate, "FLOAT")


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (truncated, "expected a MATLAB file, found damage"),
        (lambda raw: truncated_umged(raw, 700), "expected a MATLAB file, found damage"),
        (lambda raw: truncated_umged(raw, 50_000), "expected a MATLAB file, found damage"),
        (lambda raw: wtpg(raw, Other=long()), "expected Data, found Other"),
        (lambda raw: wtpg(raw, Data=long(columns=3)), "Data: expected 4 columns, found 288000 x 3"),
        (lambda raw: wtpg(raw, Data="text"), "Data: expected a matrix of numbers"),
        (lambda raw: wtpg(raw, Data=long() * [1, 0, 1, 1]), "channel 2: expected a signal, found silence"),
        (
            lambda raw: wtpg(raw, Data=long() * [np.nan, 1, 1, 1]),
            "channel 1: expected finite samples, found 288000 NaN",
        ),
        (lambda raw: wtpg(raw, Data=long(48000 * 5)), r"expected more than 5 s, found 5\.000 s"),
        (lambda raw: wav(raw, "iica", signal(480000), 44100), "expected 48000 Hz, found 44100 Hz"),
        (lambda raw: wav(raw, "iica", np.zeros(480000)), "channel 1: expected a signal, found silence"),
        (lambda raw: wav(raw, "iica", np.full(480000, np.nan)), "expected finite samples"),
    ],
)
def test_mistakes_in_other_files(tmp_path, put, message):
    name, path = put(tmp_path / "raw")
    with pytest.raises(
        WheeltapperError, match=rf"{re.escape(str(path))}: .*{message}|{re.escape(str(path))}: {message}"
    ):
        make(name, tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_mistakes_in_files_that_stay_where_they_are(tmp_path):
    for k, (wave, rate) in enumerate(((signal(99), 48000), (np.zeros(99), 48000), (signal(99), 16000))):
        put_wav(tmp_path / "raw" / "ventleak" / "lab" / "1" / f"1_iO_{k}_1_.wav", wave, rate)
    (tmp_path / "raw" / "ventleak" / "lab" / "1" / "1_iO_3_1_.wav").write_bytes(b"RIFF")
    with pytest.raises(WheeltapperError) as caught:
        make("iica", tmp_path / "raw", tmp_path / "out", "siren")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for line, text in zip(
        lines, ("iO_1_1_.wav: expected sound, found silence", "found 16000 Hz", "4 bytes"), strict=True
    ):
        assert text in line


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("iica", "tubeleak/lab/1/1_xO_0_1_.wav"),
        ("iica", "tubeleak/lab/1_iO_0_1_.wav"),
        ("umged_vib", "G1/N1_G1_E03_T0_S600.mat"),
        ("umged_vib", "G1/eccentric.mat"),
        ("pu_vib", "K007/N15_M07_F10_K007_1.mat"),
        ("pu_vib", "K001/K001_1.mat"),
        ("mfpt", "InnerFault_1.mat"),
        ("mimii", "fan/id_00/broken/1.wav"),
        ("iiee", "train_cut/engine4_new/pure_0.wav"),
        ("sdust_bearing", "IF0.3/1.mat"),
    ],
)
def test_unknown_names(tmp_path, name, file):
    path = tmp_path / "raw" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    with pytest.raises(WheeltapperError, match=rf"{re.escape(str(path))}: expected "):
        make(name, tmp_path / "raw", tmp_path / "out")


def test_float_files_are_the_same_every_time(tmp_path):
    wave = np.array([[0.5, -7.25, 3.0], [1e-6, 2.0, -1.0]])
    audio.write_float(tmp_path / "a.wav", wave, 12000)
    read, rate = audio.read(tmp_path / "a.wav")
    assert rate == 12000
    assert np.array_equal(read, wave.astype(np.float32))
    assert b"PEAK" not in (tmp_path / "a.wav").read_bytes()  # libsndfile's, with the time of day


def test_the_command(tmp_path, capsys):
    put_runs(tmp_path / "raw")
    out = tmp_path / "out"
    assert main(["prepare", str(tmp_path / "raw"), "--corpus", "mafaulda_vib", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["normal", "18", "0", "18", "0.000", "1", "50000"]
    assert lines[2] == f"wrote {out / 'manifest.csv'}: 18 clips"
    assert len(manifest.read(out / "manifest.csv")) == 18
    siren = ["prepare", str(tmp_path / "raw"), "--corpus", "mafaulda_vib", "--view", "siren", "--out"]
    assert main([*siren, str(tmp_path / "b")]) == 0
    assert [clip.channels for clip in manifest.read(tmp_path / "b" / "manifest.csv")] == [7, 7, 7]
    assert main([*siren, str(tmp_path / "m.csv")]) == 1
    assert "--view: expected --corpus NAME of a known data set, and a folder" in capsys.readouterr().err


def test_a_corpus_may_still_be_called_as_one_likes(tmp_path):
    put_wav(tmp_path / "set" / "fan" / "x.wav", signal(999), 16000)
    options = ["--layout", "files", "--corpus", "cwru", "--out", str(tmp_path / "m.csv")]
    assert main(["prepare", str(tmp_path / "set"), *options]) == 0
    assert manifest.read(tmp_path / "m.csv")[0].corpus == "cwru"
