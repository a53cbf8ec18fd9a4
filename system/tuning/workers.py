"""Several processes that share one task, in this command or in others with the same folder."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from system import locks
from system.dependencies import import_failure
from system.errors import WheeltapperError

PATIENCE = 10.0  # seconds that helpers have to end when no work is left
CLAIMS = "claims.lock"  # name of the file in the folder of a task
BEYOND = 2**30  # number of no piece of work
POLL = 0.2  # seconds between checks of the other processes' progress


class Claims:
    """Numbered pieces of work, each held by one process at a time.

    A claim is a lock on one byte of a file. The operating system releases it when the process ends for any reason, and
    file servers pass it on between machines.
    """

    def __init__(self, path: str | os.PathLike):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 - closing any handle of the file would release every claim

    @contextlib.contextmanager
    def hold(self, number: int) -> Iterator[bool]:
        """Yields whether this process holds the piece within the block."""
        if locks.hold_byte(self._file, number) is False:
            yield False
            return
        try:
            yield True
        finally:
            locks.release_byte(self._file, number)

    @property
    def work(self) -> bool:
        """Whether claims keep processes apart here."""
        held = locks.hold_byte(self._file, BEYOND)
        if held:
            locks.release_byte(self._file, BEYOND)
        return held is not None

    def close(self) -> None:
        """Releases all claims."""
        self._file.close()


class JournalLock:
    """A lock for appending to a journal (optuna's BaseJournalFileLock).

    Optuna's own locks are files that outlive a killed process, so that the next one waits half a minute. This lock ends
    with its process.
    """

    def __init__(self, path: str | os.PathLike):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 - as above

    def acquire(self) -> bool:
        """Waits for the lock."""
        locks.wait_for_byte(self._file, 0)
        return True

    def release(self) -> None:
        """Releases the lock."""
        locks.release_byte(self._file, 0)


def possible(folder: str | os.PathLike, processes: int) -> int:
    """Number of processes that can share a task in a folder: one where its file system has no locks."""
    claims = Claims(Path(folder) / CLAIMS)
    try:
        return processes if claims.work else 1
    finally:
        claims.close()


def side_by_side(work: Callable[..., None], arguments: tuple[Any, ...], processes: int, progress: Callable) -> None:
    """Runs ``work(*arguments, progress, alive)`` in this process and ``processes - 1`` others until all return.

    ``work`` divides its task with ``Claims`` and returns when no work is left; the piece of a helper that dies is done
    by another. ``alive()`` tells a helper whether the process that started it still exists.
    """
    context = multiprocessing.get_context("spawn")
    helpers = [
        context.Process(target=_help, args=(work, arguments, os.getpid()), daemon=True) for _ in range(processes - 1)
    ]
    for helper in helpers:
        helper.start()
    try:
        work(*arguments, progress, lambda: True)
        for helper in helpers:
            helper.join(PATIENCE)
    finally:
        for helper in helpers:
            helper.terminate()
            helper.join()


def _help(work: Callable[..., None], arguments: tuple[Any, ...], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process receives it too and ends this one
    try:
        work(*arguments, lambda done, total: None, lambda: os.getppid() == parent)
    except Exception as error:
        # The parent process meets the same error and reports it.
        if not isinstance(error, WheeltapperError) and import_failure(error) is None:
            raise
