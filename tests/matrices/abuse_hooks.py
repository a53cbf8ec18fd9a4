"""What is done to a process before a run: see fork_server.py."""

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Callable

BACKWARDS = 7.0  # seconds by which the clock goes back at each look


def clock_backwards() -> None:
    """Each look at the clock of the day shows an earlier time."""
    state = [time.time()]

    def earlier() -> float:
        state[0] -= BACKWARDS
        return state[0]

    time.time = earlier


def disk_full(exp: str, after: int) -> None:
    """The disk that holds ``exp`` is full when the ``after``-th file has been written to it."""
    state, fsync = [0], os.fsync

    def full(number: int) -> None:
        path = os.readlink(f"/proc/self/fd/{number}")
        if path.startswith(exp):
            state[0] += 1
            if state[0] > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(number)

    os.fsync = full


def reversed_folders() -> None:
    """Folders are listed in the reverse of the alphabet."""
    listdir, scandir = os.listdir, os.scandir

    class Listing:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __iter__(self):
            return self.entries

        def __next__(self):
            return next(self.entries)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def close(self):
            pass

    os.listdir = lambda path=".": sorted(listdir(path), reverse=True)
    os.scandir = lambda path=".": Listing(path)


def no_network() -> Callable[[], None]:
    """Notes every use of a socket; the function returned ends the process with status 3 where there was one."""
    seen: list[str] = []

    def notice(event: str, arguments: tuple) -> None:
        if event.startswith("socket.") and event != "socket.gethostname":
            seen.append(f"{event} {arguments}")

    sys.addaudithook(notice)

    def finish() -> None:
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # of the listing itself
                link = os.readlink(f"/proc/self/fd/{name}")
                seen.extend([link] if link.startswith("socket:") else [])
        if seen:
            print("\n".join(seen))
            raise SystemExit(3)

    return finish


def opens_a_port() -> Callable[[], None]:
    """What ``no_network`` must notice."""
    finish = no_network()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
    return finish


def reversed_folders_without_network() -> Callable[[], None]:
    reversed_folders()
    return no_network()


HOOKS = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__
}


def install(name: str, **options) -> Callable[[], None] | None:
    """Does what a function of this file does."""
    return HOOKS[name](**options)
