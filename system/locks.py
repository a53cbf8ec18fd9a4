"""Locks on files that the operating system takes back when their process ends, however it ends.

By fcntl or, on Windows, by msvcrt. Where a Python has neither nothing is locked: two processes in one folder are then
the user's to avoid.
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
    """Locks a whole file for this handle of it; False where another handle, of this process or another, has it."""
    if fcntl is None:
        return hold_byte(file, 0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def hold_byte(file: IO, number: int) -> bool:
    """Locks one byte of a file, there or not, for this process; False where another process has it.

    File servers carry such a lock between machines. Closing any handle of the file gives up all of this process's.
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
    """As ``hold_byte``, when the process that has it has given it up."""
    if fcntl is not None:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, number)
    while fcntl is None and msvcrt is not None:
        try:
            return _by_msvcrt(file, number, msvcrt.LK_LOCK)
        except OSError:  # it tries for ten seconds
            continue


def release_byte(file: IO, number: int) -> None:
    """Gives a byte back."""
    if fcntl is not None:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, number)
    elif msvcrt is not None:
        _by_msvcrt(file, number, msvcrt.LK_UNLCK)


def _by_msvcrt(file: IO, number: int, mode: int) -> None:
    os.lseek(file.fileno(), number, os.SEEK_SET)
    msvcrt.locking(file.fileno(), mode, 1)  # type: ignore[attr-defined]  # of Windows alone
