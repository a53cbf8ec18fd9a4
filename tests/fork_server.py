"""Command lines in processes of their own, forked from one that has everything imported: each costs what it computes.

The server must be forked before torch has computed a gradient, which a forked process cannot do any more.
"""

import contextlib
import importlib
import io
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path


@dataclass
class Ended:
    """How a process ended: exit status, negative where a signal did it; seconds; what it printed."""

    status: int
    seconds: float
    told: str

    @property
    def last(self) -> str:
        return (self.told.strip().splitlines() or [""])[-1]


class Server:
    """Starts command lines of ``wheeltapper`` by forking.

    Args:
        folder: for what the processes print.
        fresh: a server in an interpreter of its own, which reads the environment anew, instead of a fork of this one.
    """

    def __init__(self, folder: Path, fresh: bool = False):
        self.folder, self.learned = folder, folder / "modules.txt"
        context = multiprocessing.get_context("spawn" if fresh else "fork")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, None if fresh else self.connection))
        self.process.start()
        other.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()
        self.process.join()

    def ask(self, **request) -> dict:
        self.connection.send(request)
        return self.connection.recv()

    def start(self, arguments: Sequence[str] = (), **options) -> tuple[int, Path]:
        """Starts a command line, or what ``call`` says; ``options`` as ``_child`` has them."""
        log = options.pop("log", self.folder / "log.txt")
        learn = "" if self.learned.exists() else str(self.learned)
        return self.ask(start=list(arguments), log=str(log), learn=learn, **options)["pid"], log

    def wait(self, started: tuple[int, Path], seconds: float | None = None) -> Ended:
        """Waits for what was started; kills it after ``seconds``."""
        pid, log = started
        answer = self.ask(wait=pid, seconds=seconds)
        return Ended(answer["status"], answer["seconds"], log.read_text(errors="replace"))

    def run(self, *arguments: str, seconds: float | None = None, **options) -> Ended:
        """Runs a command line to its end, or until it is killed after ``seconds``."""
        learned = self.learned.exists()
        ended = self.wait(self.start(arguments, **options), seconds)
        if not learned and self.learned.exists():
            self.ask(modules=self.learned.read_text().split())
        return ended


def serve(connection: Connection, other: Connection | None) -> None:
    """Answers requests until the other end of the connection is closed.

    * ``{"modules": [names]}``: imports them.
    * ``{"start": arguments, ...}``, see ``_child``: starts a process; answers ``{"pid": number}``.
    * ``{"wait": pid, "seconds": number or None}``: waits for it, kills it when the time is over; answers ``{"status":
      exit status, negative where a signal ended it, "seconds": number}``.
    """
    if other is not None:
        other.close()
    begins: dict[int, float] = {}
    with contextlib.suppress(EOFError):
        while True:
            request = connection.recv()
            answer: dict = {}
            if "modules" in request:
                _import(request["modules"])
            elif "start" in request:
                pid = os.fork()
                if not pid:
                    connection.close()
                    _child(request)
                begins[pid] = time.monotonic()
                answer = {"pid": pid}
            else:
                answer = _wait(request["wait"], begins.pop(request["wait"]), request["seconds"])
            connection.send(answer)


def _import(names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            with contextlib.suppress(Exception):  # of modules that others put together as they are imported
                importlib.import_module(name)


def _child(request: dict) -> None:
    """Runs a command line and never returns.

    The request: ``start``: arguments; ``call``: (function, arguments) in their place; ``log``: file for what is
    printed; ``cwd``; ``environment``: variables; ``hook``: [module, {options}], whose ``install(**options)`` is called
    before; ``user``: number; ``learn``: file for the names of the modules that were loaded in the end.
    """
    status = 70
    try:
        _redirect(request["log"])
        os.environ.update(request.get("environment", {}))
        time.tzset()
        os.chdir(request.get("cwd", "."))
        sys.argv = ["wheeltapper", *request["start"]]
        finish = None
        if request.get("hook"):
            module, options = request["hook"]
            finish = importlib.import_module(module).install(**options)
        if request.get("user"):
            os.setgid(request["user"])
            os.setuid(request["user"])
        from system.bin import main as wheeltapper

        function, arguments = request.get("call") or (wheeltapper, [request["start"]])
        status = function(*arguments) or 0
        if finish:
            finish()
        if request.get("learn"):
            Path(request["learn"]).write_text("\n".join(sorted(sys.modules)))
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 70
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _redirect(log: str) -> None:
    """Standard streams of a process's own, whatever those of the tests are."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), errors="backslashreplace", line_buffering=True)


def _wait(pid: int, begin: float, seconds: float | None) -> dict:
    if seconds is not None:
        while time.monotonic() < begin + seconds:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return _answer(status, begin)
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
    return _answer(os.waitpid(pid, 0)[1], begin)


def _answer(status: int, begin: float) -> dict:
    return {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - begin}
