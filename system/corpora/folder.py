"""Atomic writing of whole folders; a folder is only replaced if the same program wrote it."""

import contextlib
import csv
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from system.errors import WheeltapperError
from system.files import LOCK, lock, open_atomic, read_json


def is_complete(folder: Path, record: str, identity: dict) -> bool:
    """Whether a folder was written with the same settings and all its clips still exist.

    Args:
        folder: the folder.
        record: name of the file in it with the identity and the clips.
        identity: the settings.
    """
    if not (folder / record).is_file():
        return False
    found = read_json(folder / record)
    if not isinstance(found, dict) or found.get("identity") != identity:
        return False
    return all((folder / name).is_file() for name in found.get("clips", {}))


@contextlib.contextmanager
def replacing(folder: Path, record: str) -> Iterator[Path]:
    """Context with a temporary folder that replaces ``folder`` if the block succeeds.

    Args:
        folder: missing, empty, or with the file ``record``, which marks it as written by the same program.
        record: name of that file; the block must write it.

    Yields:
        The temporary folder.

    Raises:
        WheeltapperError: the folder has other content, or another process is writing it.
    """
    if folder.is_symlink() and not folder.exists():
        raise WheeltapperError(f"{folder}: expected a folder, found a link to {folder.readlink()}, where nothing is")
    folder = Path(os.path.realpath(folder))  # a link to another disk stays one
    if folder.exists() and not folder.is_dir():
        raise WheeltapperError(f"{folder}: expected a folder to write to, found a file")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / record).is_file():
        raise WheeltapperError(
            f"{folder}: expected an empty folder or one with {record} of an earlier run, found other files"
        )
    temporary = folder.with_name(f".{folder.name}.partial")
    with lock(temporary):
        _empty(temporary)
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    # Windows cannot move a folder with an open file.
    (temporary / LOCK).unlink()
    retired = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        shutil.rmtree(retired, ignore_errors=True)
        os.replace(folder, retired)
    os.replace(temporary, folder)
    shutil.rmtree(retired, ignore_errors=True)


def _empty(folder: Path) -> None:
    """Removes files of a killed run."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def run_all(work: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[tuple[Any, Any]]:
    """Applies a function to items in threads.

    Args:
        work: the function.
        items: its arguments.
        workers: number of threads.

    Yields:
        (item, result), in order. The first error cancels the remaining items.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        yield from zip(items, pool.map(work, items), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Writes a CSV atomically."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def attribute_rows(names: Iterable[tuple[str, str]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of an attributes_NN.csv: file_name, then pairs of attribute name and value.

    Args:
        names: pairs of ``machine/split/file.wav`` and attributes (``key_value_key_value``, or empty for none).
    """
    rows = []
    for name, attributes in names:
        rows.append([name, *(attributes.split("_") if attributes else [])])
    pairs = max([1, *(len(row) // 2 for row in rows)])
    header = ["file_name", *(f"d{k}{letter}" for k in range(1, pairs + 1) for letter in "pv")]
    return header, [row + [""] * (len(header) - len(row)) for row in rows]
