"""Locks on file systems that have none: work goes on, a line says so, and nobody waits for ever."""

import errno
import fcntl
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from system import files, locks
from system.bin import main
from system.errors import WheeltapperError
from system.files import LOCK, check_free, lock
from system.tuning import workers
from system.tuning.workers import Claims, JournalLock

NO_LOCKS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]


def refuse(monkeypatch, number: int) -> None:
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(fcntl, "lockf", refused)
    monkeypatch.setattr(locks, "_warned", set())


@pytest.fixture(params=NO_LOCKS, ids=errno.errorcode.get)
def lockless(request, monkeypatch) -> int:
    refuse(monkeypatch, request.param)
    return request.param


def test_a_folder(tmp_path, lockless, caplog):
    for _ in range(2):
        check_free(tmp_path)
        with lock(tmp_path):
            pass
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{tmp_path}: its file system has no locks ({os.strerror(lockless)})")


def test_one_process_at_a_time_all_the_same(tmp_path, lockless):
    with lock(tmp_path):
        for again in (lambda: lock(tmp_path).__enter__(), lambda: check_free(tmp_path)):
            with pytest.raises(WheeltapperError, match=rf"another wheeltapper process .* \(process {os.getpid()} on"):
                again()
    check_free(tmp_path)


@pytest.mark.parametrize(("number", "machine", "taken"), [("", "", True), ("0", "", False), ("", "elsewhere", False)])
def test_what_another_process_left(tmp_path, monkeypatch, number, machine, taken):
    """One that lives on this machine counts; one that has ended does not, nor one that nobody can ask."""
    refuse(monkeypatch, errno.ENOLCK)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    number = {"": os.getppid(), "0": ended.pid}[number]
    (tmp_path / LOCK).write_text(f"{number} {machine or platform.node()}\n")
    if taken:
        with pytest.raises(WheeltapperError, match=rf"\(process {number} on .*delete {tmp_path / LOCK}"):
            lock(tmp_path).__enter__()
    else:
        with lock(tmp_path):
            assert (tmp_path / LOCK).read_text().split()[0] == str(os.getpid())


def test_damaged_lock_files_hold_nobody(tmp_path, monkeypatch):
    refuse(monkeypatch, errno.ENOLCK)
    for content in (b"", b"\xff\xfe", b"x y", b"12"):
        (tmp_path / LOCK).write_bytes(content)
        with lock(tmp_path):
            pass


def test_claims_and_journals(tmp_path, lockless):
    claims, journal = Claims(tmp_path / "claims.lock"), JournalLock(tmp_path / "journal.lock")
    with claims.hold(3) as mine:
        assert mine
    assert not claims.work
    assert journal.acquire()
    journal.release()
    assert workers.possible(tmp_path, 4) == 1


def test_with_locks_processes_share(tmp_path):
    assert workers.possible(tmp_path, 4) == 4


def test_a_lock_that_is_taken_is_no_lack_of_locks(tmp_path, monkeypatch, caplog):
    refuse(monkeypatch, errno.EAGAIN)
    assert Claims(tmp_path / "c").work
    with pytest.raises(WheeltapperError, match="another wheeltapper process"):
        lock(tmp_path).__enter__()
    assert not caplog.records


def test_the_process_that_has_it_is_named(tmp_path):
    hold = "import sys; from system.files import lock\nwith lock(sys.argv[1]): print('held', flush=True); input()"
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        for ask in (lambda: lock(tmp_path).__enter__(), lambda: check_free(tmp_path)):
            with pytest.raises(WheeltapperError, match=rf"process {other.pid} on {platform.node()}"):
                ask()
        other.communicate("\n")
    with lock(tmp_path):
        pass


def test_a_link_to_nothing(tmp_path, capsys):
    (tmp_path / "exp").symlink_to(tmp_path / "gone")
    with pytest.raises(WheeltapperError, match=f"exp: expected a folder, found a link to {tmp_path / 'gone'}"):
        lock(tmp_path / "exp").__enter__()
    assert main(["run", "--exp", str(tmp_path / "exp"), "--conf", "toy.yaml"]) == 1
    assert "a link to nothing" in capsys.readouterr().err
    assert not Path(tmp_path / "gone").exists()


def test_nothing_is_held_in_the_end(tmp_path):
    with lock(tmp_path):
        assert (tmp_path / LOCK).resolve() in files._held
    assert (tmp_path / LOCK).read_text() == ""
    assert not files._held
