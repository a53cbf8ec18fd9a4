"""Atomic writing of files, JSON, folder locks and hashes."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import platform
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from system import locks
from system.errors import WheeltapperError
from system.parallel import map_in_order

log = logging.getLogger(__name__)

LOCK = ".lock"
CODING = ("utf-8", "surrogateescape")  # of names, which may be any bytes
HASHING = 4  # files hashed at a time
SETTLED = 2_000_000_000  # ns after which a file system of coarse times shows another change; FAT has 2 s
REMEMBERED = 100_000  # hashes
_held: set[Path] = set()  # lock files that this process holds
_hashes: dict[tuple[str, str], tuple[tuple[int, ...], str]] = {}  # by kind and path: identity of the file, and hash


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
    if path.is_dir():  # also a link to one, which would be replaced
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Names of files that are not text are written as the bytes that they are.
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "", "errors": "surrogateescape"}
    try:
        with open(temporary, mode, **text) as file:
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
        if temporary.exists():  # on a read-only disk it is an error to remove what is not there
            temporary.unlink()


def denial(path: str | os.PathLike) -> str:
    """Why a file or folder cannot be written to, in the system's words; empty where it can."""
    if os.access(path, os.W_OK | (os.X_OK if os.path.isdir(path) else 0)):
        return ""
    return os.strerror(errno.EROFS if _is_read_only(path) else errno.EACCES)


def _is_read_only(path: str | os.PathLike) -> bool:
    """Whether a path is on a disk that is read-only."""
    return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


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
    """Context that locks a folder for this process.

    On a file system without locks the process that the lock file names counts as long as it lives on this machine.

    Raises:
        WheeltapperError: another process has locked the folder, or it is a link to nothing.
    """
    folder = Path(folder)
    if folder.is_symlink() and not folder.exists():
        raise WheeltapperError(f"{folder}: expected a folder, found a link to {folder.readlink()}, where nothing is")
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(os.path.abspath(folder / LOCK))
    with open(path, "a+", encoding="utf-8") as file:
        _hold(file, folder)
        file.truncate(0)
        file.write(f"{os.getpid()} {platform.node()}\n")
        file.flush()
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            with contextlib.suppress(OSError):  # of a disk that is gone
                file.truncate(0)


def check_free(folder: str | os.PathLike) -> None:
    """Raises WheeltapperError if another process has locked a folder; does not create the folder or a lock file."""
    path = Path(folder) / LOCK
    if path.is_file():
        with open(path, "a+", encoding="utf-8") as file:
            _hold(file, Path(folder))


def _hold(file: IO[str], folder: Path) -> None:
    held = locks.hold(file)
    owner = _owner(file)
    if held is False or (held is None and owner and _works(*owner, file.name)):
        who = f" (process {owner[0]} on {owner[1]})" if owner else ""
        advice = "" if held is False else f"; if it is none of wheeltapper, delete {file.name}"
        raise WheeltapperError(
            f"{folder}: another wheeltapper process is using this folder{who}; wait for it or choose another "
            f"folder{advice}"
        )


def _owner(file: IO[str]) -> tuple[int, str] | None:
    """Process and machine that a lock file names."""
    try:
        file.seek(0)
        number, machine = file.read().split(maxsplit=1)
        return int(number), machine.strip()
    except (OSError, ValueError):
        return None


def _works(number: int, machine: str, path: str) -> bool:
    """Whether a process that wrote its number to a lock file is still at work there, as far as can be known."""
    if machine != platform.node():
        return False
    if number == os.getpid():
        return Path(os.path.abspath(path)) in _held  # or of an earlier process of this number
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return True


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk`` in the order of names and through links to folders, but not into a folder from inside itself.

    A folder that cannot be read is passed over with a warning through ``logging``.

    Yields:
        (folder, names of its folders, names of its files); folders that the caller removes are not entered.
    """
    above: dict[str, set[tuple[int, int]]] = {}
    for root, folders, names in os.walk(os.fspath(folder), onerror=_warn_of_folder, followlinks=True):
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


def _warn_of_folder(error: OSError) -> None:
    log.warning("%s: passed over, it cannot be read (%s)", printable(str(error.filename)), error.strerror)


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


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, see ``remembered``; raises WheeltapperError if there is no file."""
    try:
        with open(path, "rb") as file:
            return remembered(file, "sha256", lambda: hashlib.file_digest(file, "sha256").hexdigest())
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a file of an earlier stage, found nothing") from error


def file_hashes(paths: Iterable[str | os.PathLike]) -> Generator[str]:
    """``file_hash`` of many files, some at a time, in order."""
    return map_in_order(file_hash, paths, HASHING)


def remembered(file: BinaryIO, kind: str, make: Callable[[], str]) -> str:
    """Hash of an open file, taken anew unless this process took it of the same file, unchanged since.

    A change shows in size, time or identity, but for one right after another where times are coarse: of a file that
    has changed a moment ago nothing is remembered.

    Args:
        file: opened to read.
        kind: of the hash.
        make: takes it.
    """
    before = _identity(file)
    key = (kind, os.path.abspath(os.fsdecode(file.name)))
    state, known = _hashes.get(key, ((), ""))
    if state == before:
        return known
    begin = time.time_ns()
    found = make()
    if max(before[-2:]) + SETTLED < begin and _identity(file) == before:
        _hashes[key] = (before, found)
        while len(_hashes) > REMEMBERED:
            _hashes.pop(next(iter(_hashes)), None)
    return found


def _identity(file: BinaryIO) -> tuple[int, ...]:
    """Device, number, size, and times of modification and change in ns."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
