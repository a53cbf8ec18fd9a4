"""File locks that the operating system releases when their process ends for any reason.

They use fcntl, or msvcrt on Windows. If Python has neither, nothing is locked, and users must not run two processes in
one folder. The same holds on file systems without locks, which some network and user-space file systems are: a warning
says so, once for each folder.
"""

import errno
import logging
import os
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:
    msvcrt = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

# Errors of fcntl that mean that another handle has the lock; all others mean that there are no locks here.
TAKEN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
_warned: set[Path] = set()


def hold(file: IO) -> bool | None:
    """Locks a whole file for this handle.

    Returns:
        False if another handle, of any process, has locked it; None, after a warning, if its file system has no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            _by_msvcrt(file, 0, msvcrt.LK_NBLCK)
    except OSError as error:
        return _taken(file, error)
    return True


def hold_byte(file: IO, number: int) -> bool | None:
    """Locks one byte of a file, which may be beyond its end, for this process; returns as ``hold``.

    Such locks work between machines on file servers. Closing any handle of the file releases all locks of this process
    on it.
    """
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        elif msvcrt is not None:
            _by_msvcrt(file, number, msvcrt.LK_NBLCK)
    except OSError as error:
        return _taken(file, error)
    return True


def wait_for_byte(file: IO, number: int) -> None:
    """Like ``hold_byte``, but waits until no other process has the lock."""
    while True:
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX, 1, number)
            elif msvcrt is not None:
                _by_msvcrt(file, number, msvcrt.LK_LOCK)  # which gives up after ten seconds
        except OSError as error:
            if _taken(file, error) is False:
                continue
        return


def release_byte(file: IO, number: int) -> None:
    """Releases the lock of a byte."""
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, number)
        elif msvcrt is not None:
            _by_msvcrt(file, number, msvcrt.LK_UNLCK)
    except OSError as error:
        _taken(file, error)


def _taken(file: IO, error: OSError) -> bool | None:
    if fcntl is None or error.errno in TAKEN:
        return False
    folder = Path(os.path.abspath(file.name)).parent
    if folder not in _warned:
        _warned.add(folder)
        reason = error.strerror or error
        log.warning("%s: its file system has no locks (%s): start no second process in this folder", folder, reason)
    return None


def _by_msvcrt(file: IO, number: int, mode: int) -> None:
    os.lseek(file.fileno(), number, os.SEEK_SET)
    msvcrt.locking(file.fileno(), mode, 1)  # type: ignore[attr-defined]  # of Windows alone
