"""Hashes of files against hashlib, and what is remembered of them."""

import hashlib
import os
import time

import pytest

from system import audio, files
from system.errors import WheeltapperError

OLD = 1_600_000_000


@pytest.fixture
def taken(monkeypatch):
    """Number of times that a hash of content was taken, one entry each; as if all files had been changed long ago."""
    found, digest = [], hashlib.file_digest
    monkeypatch.setattr(files, "_hashes", {})
    monkeypatch.setattr(hashlib, "file_digest", lambda *arguments: found.append(1) or digest(*arguments))
    monkeypatch.setattr(time, "time_ns", lambda now=time.time_ns: now() + 3_000_000_000)
    return found


def put(path, content: bytes):
    path.write_bytes(content)
    os.utime(path, (OLD, OLD))
    return path


def test_a_file_is_hashed_once(tmp_path, taken):
    path = put(tmp_path / "a", b"content")
    expected = hashlib.sha256(b"content").hexdigest()
    assert [files.file_hash(path), *files.file_hashes([path] * 3)] == [expected] * 4
    assert len(taken) == 1
    assert audio.digest(path) == hashlib.blake2b(b"content", digest_size=16).hexdigest()
    assert len(taken) == 2


def change_size(path):
    put(path, b"another content")


def change_content_and_keep_size_and_time(path):
    put(path, b"CONTENT")


def replace_by_another(path):
    os.replace(put(path.with_name("b"), b"CONTENT"), path)


@pytest.mark.parametrize("change", [change_size, change_content_and_keep_size_and_time, replace_by_another])
def test_a_changed_file_is_hashed_again(tmp_path, taken, change):
    path = put(tmp_path / "a", b"content")
    files.file_hash(path)
    time.sleep(0.02)  # beyond the clock of the file system
    change(path)
    assert files.file_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_nothing_is_remembered_of_a_file_that_has_just_changed(tmp_path, taken, monkeypatch):
    """Where times have steps of 2 s, another change of the same size might not show."""
    monkeypatch.undo()
    path = tmp_path / "a"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        os.utime(path, (OLD, OLD))  # of a copy that keeps its time
        assert files.file_hash(path) == hashlib.sha256(content).hexdigest()
        assert ("sha256", str(path)) not in files._hashes


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(tmp_path, taken, monkeypatch):
    path = put(tmp_path / "a", b"content")
    with open(path, "rb") as file:
        files.remembered(file, "sha256", lambda: path.write_bytes(b"longer than before") and "hash")
    assert files._hashes == {}


def test_hashes_of_a_missing_file(tmp_path):
    with pytest.raises(WheeltapperError, match="no: expected a file of an earlier stage, found nothing"):
        list(files.file_hashes([tmp_path / "no"]))


def test_few_hashes_are_remembered(tmp_path, taken, monkeypatch):
    monkeypatch.setattr(files, "REMEMBERED", 3)
    for number in range(5):
        files.file_hash(put(tmp_path / str(number), b"x"))
    assert [key[1] for key in files._hashes] == [str(tmp_path / str(number)) for number in (2, 3, 4)]
