"""The program's commands in this process, and what they say."""

import contextlib
import csv
import ctypes
import io
import logging
import math
import os
import re
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Linux: what takes a right of the superuser from the programs that a process starts, and rights to pass permissions.
DROP, OVERRIDE, READ_SEARCH = 24, 1, 2


@dataclass(frozen=True)
class Ended:
    """A command that ended: its exit status, and what it wrote to standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def lines(self, *parts: str) -> list[str]:
        """Lines that hold all of some regular expressions, whatever the case."""
        lines = self.text.splitlines()
        return [line for line in lines if all(re.search(part, line, re.IGNORECASE) for part in parts)]


def run(*arguments: object, here: Path | None = None) -> Ended:
    """Runs a command in this process; an exception is a traceback in its text and the status 1."""
    from system.bin import main

    out, err = io.StringIO(), io.StringIO()
    logging.getLogger().handlers.clear()  # or they go on writing to the first command's standard error
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(warnings.catch_warnings())
        if here:
            stack.enter_context(contextlib.chdir(here))
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except Exception:
            status = 1
            err.write(traceback.format_exc())
    return Ended(status, out.getvalue(), err.getvalue())


def process(
    *arguments: object, root: Path = ROOT, here: Path | None = None, bound: bool = False, **environment: str
) -> Ended:
    """Runs a command in a process of its own.

    Args:
        root: checkout whose program is run.
        here: current folder.
        bound: by permissions, like any user but the superuser.
        environment: variables.
    """
    done = subprocess.run(
        [sys.executable, "-m", "system.bin", *map(str, arguments)],
        cwd=here or root,
        env=os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        timeout=300,
        check=False,
        preexec_fn=_bind if bound and os.getuid() == 0 else None,
    )
    return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _bind() -> None:
    for right in (OVERRIDE, READ_SEARCH):
        ctypes.CDLL(None).prctl(DROP, right, 0, 0, 0)


@dataclass(frozen=True)
class Row:
    """A judged recording; what is not there is an empty text or NaN."""

    values: dict[str, str]

    @property
    def name(self) -> str:
        return Path(self.values["file"]).name

    @property
    def decision(self) -> str:
        return self.values.get("decision", "")

    @property
    def remark(self) -> str:
        return self.values.get("remark", "")

    @property
    def error(self) -> str:
        return self.values.get("error", "")

    @property
    def score(self) -> float:
        return _number(self.values.get("score", ""))

    @property
    def deviations(self) -> float:
        return _number(self.values.get("deviations", ""))

    def times(self) -> dict[str, float]:
        """Columns that name a moment of the recording, in seconds."""
        found = {
            name: _number(value) for name, value in self.values.items() if re.search("worst|time|second|at$", name)
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True)
class Judged:
    """What ``score`` says of recordings."""

    ended: Ended
    rows: list[Row]

    def row(self, name: str) -> Row:
        """The row of a file by its name."""
        return next(row for row in self.rows if row.name == name)

    def count(self, decision: str) -> int:
        return sum(row.decision == decision for row in self.rows)


def score(
    exp: Path, files: Sequence[object], out: Path, *options: object, machine: str = "mill", **how: object
) -> Judged:
    """Judges recordings by a finished run; the rows are those of its csv (none if there is none).

    Args:
        exp: folder of the run.
        files: recordings and folders.
        out: folder for the csv.
        options: of the command line.
        machine: --machine; empty for none.
        how: options of ``process``, which then runs it.
    """
    table = out / "judged.csv"
    table.unlink(missing_ok=True)
    named = ["--machine", machine] if machine else []
    arguments = ["score", "--exp", exp, *files, *named, "--csv", table, *options]
    ended = process(*arguments, **how) if how else run(*arguments)  # type: ignore[arg-type]
    return Judged(ended, read_rows(table))


def read_rows(table: Path) -> list[Row]:
    if not table.is_file():
        return []
    with open(table, newline="", encoding="utf-8") as file:
        return [Row(row) for row in csv.DictReader(file)]


def settings(values: Iterable[str]) -> list[str]:
    """Options that set values."""
    return [text for value in values for text in ("--set", value)]
