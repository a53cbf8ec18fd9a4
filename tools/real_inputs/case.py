"""Cases by kind, the place where one is tried, and what it says when it fails."""

import contextlib
import re
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_inputs.bases import Bases

CASES: list["Case"] = []
LONGEST = 300  # seconds of a case; one that waits for ever fails


class Failed(Exception):
    """What a careful user expects, and what was found."""


@dataclass(frozen=True)
class Place:
    """Where a case is tried: a folder of its own, and the runs that cases share."""

    folder: Path
    bases: Bases

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@dataclass(frozen=True)
class Case:
    """One case: its kind (a theme), its name, and what to try."""

    kind: str
    name: str
    attempt: Callable[[Place], None]

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Outcome:
    """What became of a case; ``problem`` is empty where all was as expected."""

    case: Case
    problem: str
    seconds: float


def case(kind: str, name: str, values: Mapping[str, Any] | Sequence[Any] | None = None) -> Callable:
    """Decorator that registers a function of a place, or of a place and a value, as one case or one a value.

    Args:
        kind: theme of the case.
        name: of the case; with values, {} stands for the value, or its key in a mapping.
        values: what the function is tried with.
    """

    def register(function: Callable) -> Callable:
        if values is None:
            CASES.append(Case(kind, name, function))
            return function
        table = values if isinstance(values, Mapping) else {value: value for value in values}
        for key, value in table.items():

            def attempt(place: Place, value: Any = value) -> None:
                function(place, value)

            CASES.append(Case(kind, name.format(key), attempt))
        return function

    return register


def expect(truth: Any, expected: str, found: Any) -> None:
    """Raises Failed unless something is true."""
    if not truth:
        raise Failed(f"expected {expected}; found {shorten(found)}")


def shorten(found: Any, longest: int = 300) -> str:
    """One line of at most so many letters; the end of a longer text, where programs say what is wrong."""
    text = re.sub(r"\s+", " ", str(found)).strip()
    return text if len(text) <= longest else f"...{text[-longest:]}"


def attempt(tried: Case, bases: Bases, keep: bool = False) -> Outcome:
    """Tries a case in a temporary folder below that of the shared runs; whatever it raises is its failure."""
    begin = time.monotonic()
    with _folder(bases.folder, tried, keep) as folder:
        former = signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(LONGEST)
        try:
            tried.attempt(Place(folder, bases))
            problem = ""
        except Failed as error:
            problem = str(error)
        except (Exception, SystemExit) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            problem = f"expected no exception; found {type(error).__name__}: {shorten(error)} ({place})"
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, former)
    return Outcome(tried, problem, time.monotonic() - begin)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"the case took longer than {LONGEST} s")


@contextlib.contextmanager
def _folder(root: Path, tried: Case, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="case", dir=root))  # no words, which would be found in what is said
    folder.chmod(0o755)
    if keep:
        (folder / "case.txt").write_text(f"{tried}\n")
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
