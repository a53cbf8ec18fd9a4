"""Files that are written whole or not at all, JSON, folder locks and content hashes."""

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


TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # as open_atomic names them, by process


@contextlib.contextmanager
def open_atomic(path: str | os.PathLike, mode: str = "w", durable: bool = True) -> Iterator[Any]:
    """Opens a temporary neighbour for writing and renames it to ``path`` when the block ends well.

    Args:
        durable: wait until the disk has it; for a folder of many files, where a power cut costs a repetition, False.

    Raises OSError that names ``path``, where the disk is full for instance.
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
    """Writes readable JSON whole or not at all; NaN and infinity are refused (they are not JSON)."""
    with open_atomic(path) as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.write("\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads JSON; WheeltapperError where the file is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a JSON file, found nothing") from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and nesting
        raise WheeltapperError(f"{path}: expected JSON, found damage ({error})") from error


@contextlib.contextmanager
def lock(folder: str | os.PathLike) -> Iterator[None]:
    """Holds a folder for this process; a second process is refused at once."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+") as file:
        if not locks.hold(file):
            raise WheeltapperError(_taken(folder))
        yield


def check_free(folder: str | os.PathLike) -> None:
    """Raises WheeltapperError where another process holds a folder; leaves nothing behind, makes no folder."""
    path = Path(folder) / LOCK
    if path.is_file():
        with open(path, "a+") as file:
            if not locks.hold(file):
                raise WheeltapperError(_taken(Path(folder)))


def _taken(folder: Path) -> str:
    return f"{folder}: another wheeltapper process is at work here; wait for it or choose another folder"


def tree_signature(folder: str | os.PathLike) -> str:
    """Hash over names, sizes and modification times of all files below a folder: notices a changed recording."""
    hasher = hashlib.sha256()
    for root, folders, names in os.walk(os.fspath(folder)):
        folders.sort()
        for name in sorted(names):
            status = os.stat(os.path.join(root, name))
            hasher.update(f"{os.path.relpath(os.path.join(root, name), folder)}|{status.st_size}|".encode())
            hasher.update(f"{status.st_mtime_ns}\n".encode())
    return hasher.hexdigest()


def files_signature(paths: Iterable[str | os.PathLike]) -> str:
    """``tree_signature`` of files by name, wherever they lie."""
    hasher = hashlib.sha256()
    for path in paths:
        status = os.stat(path)
        hasher.update(f"{os.path.abspath(path)}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return hasher.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content; WheeltapperError where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: an earlier stage should have written it, found nothing") from error
