"""Stages: what is skipped, run again, resumed; atomic files; the lock; a full disk."""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from system import bin as command_line
from system import files, stage
from system.errors import WheeltapperError
from system.files import lock, open_atomic, read_json, tree_signature, write_json
from system.stage import Stage


class Toy:
    """A stage that copies its input and counts how often it worked."""

    def __init__(self, exp: Path):
        self.exp, self.runs, self.settings = exp, 0, {"size": 3}
        self.source = exp / "input.txt"
        self.source.write_text("one")
        self.output = exp / "out" / "copy.txt"
        self.watched = exp / "watched"
        self.watched.mkdir()
        self.said: list[str] = []

    def stage(self) -> Stage:
        watch = lambda: tree_signature(self.watched)  # noqa: E731
        return Stage(3, "copy", self.exp, dict(self.settings), [self.source], watch, ["out"])

    def work(self) -> list[Path]:
        self.runs += 1
        with open_atomic(self.output) as file:
            file.write(self.source.read_text())
        return [self.output]

    def run(self) -> bool:
        return self.stage().run(self.work, self.said.append)


@pytest.fixture
def toy(tmp_path) -> Toy:
    return Toy(tmp_path)


def test_runs_once(toy):
    assert toy.run()
    assert not toy.run()
    assert toy.runs == 1
    assert "complete, nothing to do" in toy.said[-1]
    record = read_json(toy.exp / "stages" / "3_copy.json")
    assert record["settings"] == {"size": 3}
    assert record["reads"] == {"input.txt": hashlib.sha256(b"one").hexdigest()}
    assert record["writes"] == {"out/copy.txt": 3}
    assert record["versions"]["python"].startswith("3.")


def change_settings(toy):
    toy.settings["size"] = 4


def change_input(toy):
    toy.source.write_text("two")


def lose_output(toy):
    toy.output.unlink()


def cut_output(toy):
    toy.output.write_text("o")


def rewrite_output(toy):
    toy.output.write_text(toy.output.read_text()[::-1])


def change_watched(toy):
    (toy.watched / "new.wav").write_text("x")


def damage_marker(toy):
    (toy.exp / "stages" / "3_copy.json").write_text('{"fingerprint": ')


def empty_marker(toy):
    (toy.exp / "stages" / "3_copy.json").write_text("[1]")


@pytest.mark.parametrize(
    "change",
    [
        change_settings,
        change_input,
        lose_output,
        cut_output,
        rewrite_output,
        change_watched,
        damage_marker,
        empty_marker,
    ],
    ids=lambda change: change.__name__,
)
def test_runs_again_after_a_change(toy, change):
    toy.run()
    change(toy)
    assert not toy.stage().is_complete()
    assert toy.run()
    assert toy.runs == 2
    assert toy.output.read_text() == toy.source.read_text()
    assert not toy.run()


def test_a_touched_input_of_the_same_content_changes_nothing(toy):
    toy.run()
    os.utime(toy.source, (1, 1))
    assert not toy.run()


def test_an_input_that_is_missing(toy):
    toy.source.unlink()
    with pytest.raises(WheeltapperError, match=r"input\.txt: expected a file of an earlier stage"):
        toy.run()


def interrupted(toy, leave: str) -> None:
    def work():
        toy.output.parent.mkdir(exist_ok=True)
        (toy.output.parent / leave).write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.stage().run(work, toy.said.append)
    assert not toy.stage().is_complete()


def test_an_interrupted_stage_finds_its_files_again(toy):
    interrupted(toy, "state.pt")
    toy.run()
    assert (toy.output.parent / "state.pt").read_text() == "half"
    assert any("taking up what an interrupted run left" in text for text in toy.said)
    assert not toy.stage().started.exists()


@pytest.mark.parametrize("change", [change_settings, change_input], ids=lambda change: change.__name__)
def test_an_interrupted_stage_of_other_settings_starts_anew(toy, change):
    interrupted(toy, "state.pt")
    change(toy)
    toy.run()
    assert [path.name for path in toy.output.parent.iterdir()] == ["copy.txt"]


def test_nothing_of_a_half_cleared_stage_is_taken_up(toy, monkeypatch):
    interrupted(toy, "state.pt")
    settings = dict(toy.settings)
    change_settings(toy)
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "_clear", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            toy.run()
    toy.settings = settings
    toy.run()
    assert [path.name for path in toy.output.parent.iterdir()] == ["copy.txt"]


def test_a_stage_folder_that_is_a_link_keeps_being_one(toy, tmp_path):
    """As to a larger disk: what is in it is the stage's, the link is the user's."""
    disk = tmp_path / "disk"
    (disk / "old").mkdir(parents=True)
    (disk / "old.txt").write_text("old")
    (disk / "kept").symlink_to(toy.watched)
    toy.output.parent.symlink_to(disk)
    assert toy.run()
    assert not toy.run()
    change_settings(toy)
    assert toy.run()
    assert toy.output.parent.is_symlink()
    assert [path.name for path in disk.iterdir()] == ["copy.txt"]
    assert toy.watched.is_dir()
    assert list(read_json(toy.stage().marker)["writes"]) == ["out/copy.txt"]


def test_a_stage_folder_that_is_a_link_to_nothing(toy, tmp_path):
    toy.output.parent.symlink_to(tmp_path / "gone")
    with pytest.raises(WheeltapperError, match=r"out: expected a place .* stage 3 copy, found a link to .*gone"):
        toy.run()
    assert toy.runs == 0
    assert toy.output.parent.is_symlink()


def test_a_finished_stage_clears_only_what_it_owns(toy):
    toy.run()
    (toy.exp / "mine.txt").write_text("keep")
    (toy.output.parent / "old.txt").write_text("old")
    change_settings(toy)
    toy.run()
    assert (toy.exp / "mine.txt").read_text() == "keep"
    assert not (toy.output.parent / "old.txt").exists()


def test_killed_just_after_the_marker_it_is_not_taken_up_later(toy):
    """What says that the stage was begun goes at the next start, lest changed files be taken for a killed run's."""
    toy.run()
    toy.stage().started.write_text(toy.stage().fingerprint())
    assert not toy.run()
    assert not toy.stage().started.exists()


def test_what_was_half_written_is_removed(toy):
    interrupted(toy, ".copy.txt.123.tmp")
    left = [toy.exp / ".config.yaml.77.tmp", toy.exp / "stages" / ".3_copy.json.123.tmp"]
    kept = [toy.exp / ".mine.tmp", toy.exp / "other" / ".out.txt.123.tmp"]
    for path in left + kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    toy.run()
    assert [path.name for path in toy.output.parent.iterdir()] == ["copy.txt"]
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_seconds_do_not_hang_on_the_clock(toy, monkeypatch):
    times = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(stage.time, "time", lambda: next(times))
    toy.run()
    assert 0 <= read_json(toy.stage().marker)["seconds"] < 60


def test_no_marker_after_a_failure(toy):
    toy.run()
    change_settings(toy)
    with pytest.raises(ZeroDivisionError):
        toy.stage().run(lambda: 1 // 0, toy.said.append)
    assert not (toy.exp / "stages" / "3_copy.json").exists()


def test_open_atomic_keeps_the_old_file_on_an_error(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def write_half() -> None:
        with open_atomic(path) as file:
            file.write("new")
            file.flush()
            assert path.read_text() == "old"
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_open_atomic_makes_folders_and_takes_bytes(tmp_path):
    with open_atomic(tmp_path / "a" / "b" / "x.bin", "wb") as file:
        file.write(b"\x00\x01")
    assert (tmp_path / "a" / "b" / "x.bin").read_bytes() == b"\x00\x01"


def test_json(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, 2.5, None, "é"]})
    assert read_json(tmp_path / "x.json") == {"a": [1, 2.5, None, "é"]}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert read_json(tmp_path / "x.json")["a"][0] == 1
    with pytest.raises(WheeltapperError, match="found nothing"):
        read_json(tmp_path / "no.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(WheeltapperError, match="found damage"):
        read_json(tmp_path / "x.json")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "x.json").write_text('"old"')
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_json(tmp_path / "x.json", {"a": 1})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "x.json"))
    assert read_json(tmp_path / "x.json") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux' device that is always full")
def test_a_disk_that_fills_while_an_array_is_written(tmp_path):
    import numpy as np

    from system.embeddings.files import write_array

    (tmp_path / f".x.npy.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_array(tmp_path / "x.npy", np.zeros(100000))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 1, r"/x/y: No space left on device \(free some"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "/x: Permission denied"),
        (WheeltapperError("a.wav: expected sound"), 1, "a.wav: expected sound"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_the_command_line_says_it_in_one_line(monkeypatch, capsys, error, status, text):
    class Verb:
        @staticmethod
        def add_arguments(parser):
            pass

        @staticmethod
        def main(args):
            raise error

    monkeypatch.setattr(command_line.importlib, "import_module", lambda name: Verb)
    assert command_line.main(["score"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("wheeltapper score: ")
    assert re.search(text, err)


def test_an_unexpected_error_is_not_hidden(monkeypatch):
    class Verb:
        @staticmethod
        def add_arguments(parser):
            pass

        @staticmethod
        def main(args):
            raise KeyError("a mistake of ours")

    monkeypatch.setattr(command_line.importlib, "import_module", lambda name: Verb)
    with pytest.raises(KeyError):
        command_line.main(["score"])


def test_lock(tmp_path):
    hold = "import sys; from system.files import lock\nwith lock(sys.argv[1]): print('held')"
    command = [sys.executable, "-c", hold, str(tmp_path / "exp")]
    with lock(tmp_path / "exp"):
        with pytest.raises(WheeltapperError, match="another wheeltapper process"), lock(tmp_path / "exp"):
            pass
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode != 0
        assert "another wheeltapper process" in found.stderr
        with lock(tmp_path / "other"):
            pass
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "held\n"


def test_tree_signature_sees_every_kind_of_change(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.wav").write_text("one")
    seen = {tree_signature(tmp_path)}
    (tmp_path / "a" / "1.wav").write_text("oneone")
    seen.add(tree_signature(tmp_path))
    os.utime(tmp_path / "a" / "1.wav", (1, 1))
    seen.add(tree_signature(tmp_path))
    (tmp_path / "a" / "1.wav").rename(tmp_path / "a" / "2.wav")
    seen.add(tree_signature(tmp_path))
    assert len(seen) == 4
    assert tree_signature(tmp_path) in seen


def test_fingerprint_of_a_moved_experiment(tmp_path):
    prints = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        toy = Toy(tmp_path / name)
        prints.append(toy.stage().fingerprint())
    assert prints[0] == prints[1]


def test_fingerprint_does_not_depend_on_the_order_of_settings(toy):
    toy.settings = {"a": 1, "b": {"c": 2, "d": 3}}
    first = toy.stage().fingerprint()
    toy.settings = json.loads('{"b": {"d": 3, "c": 2}, "a": 1}')
    assert toy.stage().fingerprint() == first
