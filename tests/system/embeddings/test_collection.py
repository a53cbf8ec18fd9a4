"""``wheeltapper embed --store``: embeddings that go on, grow, and that processes and jobs write together."""

import csv
import json
import shutil

import numpy as np
import pytest
from test_recordings import BAD, OPTIONS, RATE, folder
from training_runs import in_processes, run_command

from system.bin import embed as command
from system.bin import main
from system.embeddings import collection, store
from system.embeddings import embed as embeddings
from system.errors import WheeltapperError

__all__ = ["folder"]
GOOD = ["a.wav", "c.aiff", "d.wav", "deep/b.flac", "other.wav"]


def embed(folder, place, *options) -> int:
    return main(["embed", "--audio", str(folder), "--store", str(place), *OPTIONS, "--rate", str(RATE), *options])


def rows(place) -> dict[str, np.ndarray]:
    with open(place / "index.csv", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    return dict(zip(names, np.load(place / "embeddings.npy"), strict=True))


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """Names of the recordings that are embedded from here on."""
    found: list[str] = []
    usual = collection.embed_files
    monkeypatch.setattr(
        collection, "embed_files", lambda e, paths, *more: found.extend(p.name for p in paths) or usual(e, paths, *more)
    )
    return found


def test_the_rows_are_those_of_out_and_bad_recordings_are_listed(folder, tmp_path, capsys):
    assert embed(folder, tmp_path / "s") == 1
    told = capsys.readouterr()
    named = [line.split(": ")[1] for line in told.err.splitlines() if line.startswith("wheeltapper embed: ")]
    assert named == [str(folder / name) for name in BAD]
    assert "embeddings.npy: 5 recordings (index.csv), " in told.out
    assert "; 5 are left out, failed.csv says why" in told.out
    main(["embed", "--audio", str(folder), "--out", str(tmp_path / "x.npz"), *OPTIONS, "--rate", str(RATE)])
    wanted = np.load(tmp_path / "x.npz")
    found = rows(tmp_path / "s")
    assert list(found) == wanted["files"].tolist() == GOOD
    np.testing.assert_array_equal(np.stack(list(found.values())), wanted["embeddings"])
    with open(tmp_path / "s" / "failed.csv", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == BAD
    record = json.loads((tmp_path / "s" / "record.json").read_text())
    assert (record["checkpoint"], record["facts"]["encoder"]) == ("random", "FISHER")


def test_only_what_is_new_is_embedded(folder, tmp_path, counted, capsys):
    for name in BAD:
        (folder / name).unlink()
    assert embed(folder, tmp_path / "s") == 0
    before = rows(tmp_path / "s")
    counted.clear()
    assert embed(folder, tmp_path / "s") == 0
    assert counted == []
    shutil.copy(folder / "a.wav", folder / "copy.wav")  # a known content
    shutil.copy(folder / "other.wav", folder / "d.wav")  # another content under a known name
    (folder / "c.aiff").unlink()
    (folder / "new.wav").write_bytes((folder / "a.wav").read_bytes()[:-2000] + bytes(2000))
    assert embed(folder, tmp_path / "s") == 0
    assert counted == ["new.wav"]
    found = rows(tmp_path / "s")
    assert list(found) == ["a.wav", "copy.wav", "d.wav", "deep/b.flac", "new.wav", "other.wav"]
    for name, like in {
        "a.wav": "a.wav",
        "copy.wav": "a.wav",
        "d.wav": "other.wav",
        "deep/b.flac": "deep/b.flac",
    }.items():
        np.testing.assert_array_equal(found[name], before[like])


def test_an_interrupted_run_goes_on(folder, tmp_path, counted, monkeypatch):
    monkeypatch.setattr(collection, "BLOCK", 2)
    append, done = store.Appender.append, []

    def killed(self, digest, row):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(digest)
        append(self, digest, row)

    with monkeypatch.context() as patch:
        patch.setattr(store.Appender, "append", killed)
        assert embed(folder, tmp_path / "s", "--workers", "1") == 130
    assert not (tmp_path / "s" / "embeddings.npy").exists()
    counted.clear()
    assert embed(folder, tmp_path / "s", "--workers", "1") == 1
    assert len(set(counted)) == 2
    assert list(rows(tmp_path / "s")) == GOOD


def test_the_share_that_ends_last_writes_the_result(folder, tmp_path, capsys, monkeypatch):
    assert embed(folder, tmp_path / "whole") == 1
    capsys.readouterr()
    assert embed(folder, tmp_path / "s", "--share", "2/3") == 0
    assert "part 2 of 3: 3 of 10 recordings are there; the last part writes the result" in capsys.readouterr().out
    for name, value in {"ID": 10, "MIN": 10, "MAX": 14, "STEP": 2}.items():  # sbatch --array 10-14:2
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    embed(folder, tmp_path / "s", "--share", "slurm")
    assert "part 1 of 3: 7 of 10" in capsys.readouterr().out
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "14")
    embed(folder, tmp_path / "s", "--share", "slurm")
    assert "5 recordings (index.csv)" in capsys.readouterr().out
    for name in ("embeddings.npy", "index.csv", "failed.csv"):
        assert (tmp_path / "s" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("count", ["2", "4"])
def test_an_array_with_gaps_is_refused(folder, tmp_path, capsys, monkeypatch, count):
    for name, value in {"ID": "1", "MIN": "1", "MAX": "3", "COUNT": count}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert embed(folder, tmp_path / "s", "--share", "slurm") == 1
    assert f"expected an array without gaps such as 1-3, found {count} tasks from 1 to 3" in capsys.readouterr().err


def test_a_recording_that_changes_meanwhile_is_not_taken_for_done(folder, tmp_path, capsys, monkeypatch):
    usual, kept = collection.embed_files, (folder / "a.wav").read_bytes()

    def changing(encoder, paths, *more):
        shutil.copy(folder / "other.wav", folder / "a.wav")
        return usual(encoder, paths, *more)

    with monkeypatch.context() as patch:
        patch.setattr(collection, "embed_files", changing)
        assert embed(folder, tmp_path / "s") == 1
    assert "9 of 10 recordings are there, the others have changed since they were read" in capsys.readouterr().err
    assert not (tmp_path / "s" / "embeddings.npy").exists()
    (folder / "kept.wav").write_bytes(kept)  # the content that was there before
    assert embed(folder, tmp_path / "s") == 1  # for the bad ones
    found = rows(tmp_path / "s")
    np.testing.assert_array_equal(found["a.wav"], found["other.wav"])
    assert embed(folder, tmp_path / "fresh") == 1
    np.testing.assert_array_equal(found["kept.wav"], rows(tmp_path / "fresh")["kept.wav"])


def test_two_processes_share_a_manifest(folder, tmp_path, capsys):
    assert embed(folder, tmp_path / "whole") == 1
    with open(folder / "list.csv", "w") as file:
        file.write("\n".join(["file", *GOOD, *BAD]))
    given = [
        "embed",
        "--audio",
        str(folder / "list.csv"),
        "--store",
        str(tmp_path / "s"),
        *OPTIONS,
        "--rate",
        str(RATE),
    ]
    found = in_processes(2, run_command, [*given, "--workers", "1"], tmp_path)
    assert [status for status, _ in found] == [1, 1]
    told = [(tmp_path / f"{number}.out").read_text() for number in (0, 1)]
    assert "5 recordings (index.csv)" in told[0]
    assert told[1] == ""
    problems = [(tmp_path / f"{number}.err").read_text().count("wheeltapper embed: ") for number in (0, 1)]
    assert sum(problems) == 5
    assert min(problems) > 0
    for name in ("embeddings.npy", "index.csv"):
        assert (tmp_path / "s" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_one_recording_that_fails_in_the_network_leaves_the_others(folder, tmp_path, monkeypatch, capsys):
    for name in BAD:
        (folder / name).unlink()
    usual = embeddings.audio.read

    def broken(path, *more):
        if str(path).endswith("d.wav") and more:  # read by the network, not by the inspection
            raise WheeltapperError(f"{path}: no more")
        return usual(path, *more)

    monkeypatch.setattr(embeddings.audio, "read", broken)
    monkeypatch.setattr(
        collection, "inspect_all", lambda paths, workers: [Sound(collection.audio.digest(p)) for p in paths]
    )
    assert embed(folder, tmp_path / "s") == 1
    assert "d.wav: no more" in capsys.readouterr().err
    assert list(rows(tmp_path / "s")) == ["a.wav", "c.aiff", "deep/b.flac", "other.wav"]


class Sound:
    rate = RATE

    def __init__(self, digest: str):
        self.digest = digest


def test_another_encoder_is_refused(folder, tmp_path, capsys):
    assert embed(folder, tmp_path / "s") == 1
    assert embed(folder, tmp_path / "s", "--seed", "1") == 1
    assert "expected the settings of the embeddings that are there, found weights" in capsys.readouterr().err
    assert embed(folder, tmp_path / "s", "--pool", "mean") == 1
    assert "found pool mean instead of none; choose another folder for --store" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "{}", '{"facts": 3}', "no json"])
def test_another_record_is_refused(folder, tmp_path, capsys, text):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "record.json").write_text(text)
    assert embed(folder, tmp_path / "s") == 1
    assert f"{tmp_path / 's' / 'record.json'}: " in capsys.readouterr().err
    assert (tmp_path / "s" / "record.json").read_text() == text


def test_the_usual_rate_stays_that_of_the_beginning(folder, tmp_path, capsys):
    given = ["embed", "--audio", str(folder), "--store", str(tmp_path / "s"), *OPTIONS]
    assert main(given) == 1
    assert "other.wav: expected 16000 Hz like most recordings, found 8000 Hz" in capsys.readouterr().err
    for name in ("a.wav", "d.wav", "c.aiff"):
        (folder / name).unlink()
    assert main(given) == 1
    assert list(rows(tmp_path / "s")) == ["deep/b.flac"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "slurm"])
def test_wrong_shares(text, monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    with pytest.raises(WheeltapperError, match="--share"):
        command._share(text)
