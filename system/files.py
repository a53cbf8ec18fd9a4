"""Atomic writing of files, JSON, folder locks and hashes."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from system import locks
from system.errors import WheeltapperError

LOCK = ".lock"
CODING = ("utf-8", "surrogateescape")  # of names, which may be any bytes


TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # temporary files of open_atomic, with the process id


@contextlib.contextmanager
def open_atomic(path: str | os.PathLike, mode: str = "w", durable: bool = True) -> Iterator[Any]:
    """Context that writes a file atomically: a temporary file is renamed to ``path`` if the block succeeds.

    Args:
        path: file to write; missing folders are created.
        mode: ``w`` for text, ``wb`` for bytes.
        durable: whether to wait until the data are on the disk. False is faster for many files that can be rewritten
            after a power failure.

    Yields:
        The open file.

    Raises:
        OSError: for example if the disk is full; the error names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    try:
        with open(temporary, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes indented JSON atomically; raises ValueError for NaN and infinity, which are not JSON."""
    with open_atomic(path) as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.write("\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads JSON; raises WheeltapperError if the file is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a JSON file, found nothing") from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and nesting
        raise WheeltapperError(f"{path}: expected JSON, found damage ({error})") from error


@contextlib.contextmanager
def lock(folder: str | os.PathLike) -> Iterator[None]:
    """Context that locks a folder for this process; raises WheeltapperError if another process has locked it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+") as file:
        if not locks.hold(file):
            raise WheeltapperError(_taken(folder))
        yield


def check_free(folder: str | os.PathLike) -> None:
    """Raises WheeltapperError if another process has locked a folder; does not create the folder or a lock file."""
    path = Path(folder) / LOCK
    if path.is_file():
        with open(path, "a+") as file:
            if not locks.hold(file):
                raise WheeltapperError(_taken(Path(folder)))


def _taken(folder: Path) -> str:
    return f"{folder}: another wheeltapper process is using this folder; wait for it or choose another folder"


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk`` in the order of names and through links to folders, but not into a folder from inside itself.

    Yields:
        (folder, names of its folders, names of its files); folders that the caller removes are not entered.
    """
    above: dict[str, set[tuple[int, int]]] = {}
    for root, folders, names in os.walk(os.fspath(folder), followlinks=True):
        folders.sort()
        status = os.stat(root)
        own = above.pop(root, set()) | {(status.st_dev, status.st_ino)}
        for name in list(folders):
            path = os.path.join(root, name)
            if os.path.islink(path):
                target = os.stat(path)
                if (target.st_dev, target.st_ino) in own:
                    folders.remove(name)
        yield root, folders, sorted(names)
        above |= {os.path.join(root, name): own for name in folders}


def tree_signature(folder: str | os.PathLike) -> str:
    """Hash of names, sizes and modification times of all files below a folder, to detect changed recordings.

    Links count by what they lead to, and by where they do.
    """
    hasher = hashlib.sha256()
    for root, folders, names in walk(folder):
        for name in [*names, *folders]:
            path = os.path.join(root, name)
            if os.path.islink(path):
                hasher.update(f"{os.path.relpath(path, folder)}|{os.path.realpath(path)}\n".encode(*CODING))
        for name in names:
            path = os.path.join(root, name)
            hasher.update(f"{os.path.relpath(path, folder)}|{_state(path)}\n".encode(*CODING))
    return hasher.hexdigest()


def files_signature(paths: Iterable[str | os.PathLike]) -> str:
    """Hash of paths, sizes and modification times of files, and of where links lead to."""
    hasher = hashlib.sha256()
    for path in paths:
        where = os.path.abspath(path)
        real = os.path.realpath(path)
        hasher.update(f"{where}|{_state(where)}{'' if real == where else f'|{real}'}\n".encode(*CODING))
    return hasher.hexdigest()


def _state(path: str) -> str:
    """Size and time of modification of what a path leads to; empty if there is nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}|{status.st_mtime_ns}"


def is_text(name: str) -> bool:
    """Whether the name of a file is UTF-8; file systems take any bytes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def printable(name: str) -> str:
    """A name, or text with names, in which bytes that are not UTF-8 are numbers, such as ``\\xfc``."""
    return name if is_text(name) else os.fsencode(name).decode("utf-8", "backslashreplace")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content; raises WheeltapperError if there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a file of an earlier stage, found nothing") from error
