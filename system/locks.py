"""File locks that the operating system releases when their process ends for any reason.

They use fcntl, or msvcrt on Windows. If Python has neither, nothing is locked, and users must not run two processes in
one folder.
"""

import os
from typing import IO

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:
    msvcrt = None  # type: ignore[assignment]


def hold(file: IO) -> bool:
    """Locks a whole file for this handle; returns False if another handle, of any process, has locked it."""
    if fcntl is None:
        return hold_byte(file, 0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def hold_byte(file: IO, number: int) -> bool:
    """Locks one byte of a file, which may be beyond its end, for this process; False if another process has it.

    Such locks work between machines on file servers. Closing any handle of the file releases all locks of this process
    on it.
    """
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        elif msvcrt is not None:
            _by_msvcrt(file, number, msvcrt.LK_NBLCK)
    except OSError:
        return False
    return True


def wait_for_byte(file: IO, number: int) -> None:
    """Like ``hold_byte``, but waits until no other process has the lock."""
    if fcntl is not None:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, number)
    while fcntl is None and msvcrt is not None:
        try:
            return _by_msvcrt(file, number, msvcrt.LK_LOCK)
        except OSError:  # msvcrt gives up after ten seconds
            continue


def release_byte(file: IO, number: int) -> None:
    """Releases the lock of a byte."""
    if fcntl is not None:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, number)
    elif msvcrt is not None:
        _by_msvcrt(file, number, msvcrt.LK_UNLCK)


def _by_msvcrt(file: IO, number: int, mode: int) -> None:
    os.lseek(file.fileno(), number, os.SEEK_SET)
    msvcrt.locking(file.fileno(), mode, 1)  # type: ignore[attr-defined]  # of Windows alone
