"""Several processes at one task, in this command or in another one with the same folder."""

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

PATIENCE = 10.0  # s, that helpers have to find out that nothing is left
NAP = 0.2  # s, between two looks at what other processes are doing


class Claims:
    """Numbered pieces of work, each held by one process at a time.

    A claim is a lock on one byte of a file: the system takes it back when its process ends, however it ends, and file
    servers carry it between machines.
    """

    def __init__(self, path: str | os.PathLike):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 - closing any handle of the file would drop every claim

    @contextlib.contextmanager
    def hold(self, number: int) -> Iterator[bool]:
        """Whether the piece is this process's own within the block."""
        if not locks.hold_byte(self._file, number):
            yield False
            return
        try:
            yield True
        finally:
            locks.release_byte(self._file, number)

    def close(self) -> None:
        """Gives everything back."""
        self._file.close()


class JournalLock:
    """The right to append to a journal (optuna's BaseJournalFileLock). Optuna's own locks are files that outlive a
    killed process, so that the next one waits half a minute, and that others poll for; this one ends with its process.
    """

    def __init__(self, path: str | os.PathLike):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 - as above

    def acquire(self) -> bool:
        """Waits for the right."""
        locks.wait_for_byte(self._file, 0)
        return True

    def release(self) -> None:
        """Gives it back."""
        locks.release_byte(self._file, 0)


def side_by_side(work: Callable[..., None], arguments: tuple[Any, ...], processes: int, progress: Callable) -> None:
    """Runs ``work(*arguments, progress, alive)`` in this process and in ``processes - 1`` others until all return.

    ``work`` divides its task by ``Claims`` and returns when nothing of it is left; a helper that dies leaves its piece
    to the others. ``alive()`` tells a helper whether the process that started it is still there.
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it hears it too, and ends this one
    try:
        work(*arguments, lambda done, total: None, lambda: os.getppid() == parent)
    except Exception as error:
        # The same mistake meets the process that started it, which reports it.
        if not isinstance(error, WheeltapperError) and import_failure(error) is None:
            raise
