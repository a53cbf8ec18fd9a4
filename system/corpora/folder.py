"""Folders that a program fills by itself: written beside their place, put there whole, replaced only if its own."""

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
    """Whether ``folder`` was made with the same ``identity`` and every clip named in its record is still there."""
    if not (folder / record).is_file():
        return False
    found = read_json(folder / record)
    if not isinstance(found, dict) or found.get("identity") != identity:
        return False
    return all((folder / name).is_file() for name in found.get("clips", {}))


@contextlib.contextmanager
def replacing(folder: Path, record: str) -> Iterator[Path]:
    """A temporary sibling to write into, which takes the place of ``folder`` when the block ends well.

    Args:
        folder: missing, empty, or holding the file ``record``, which marks it as written by the same program.
        record: name of that file; the block must write it.

    Raises WheeltapperError where the folder holds anything else, or another process is filling it.
    """
    folder = Path(os.path.abspath(folder))
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
    # Windows moves no folder in which a file is open.
    (temporary / LOCK).unlink()
    retired = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        shutil.rmtree(retired, ignore_errors=True)
        os.replace(folder, retired)
    os.replace(temporary, folder)
    shutil.rmtree(retired, ignore_errors=True)


def _empty(folder: Path) -> None:
    """Removes what a killed run left."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def run_all(work: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[tuple[Any, Any]]:
    """Yields (item, work(item)) in order, computed by threads; the first error or interruption drops the rest."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield from zip(items, pool.map(work, items), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Writes a CSV whole or not at all."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def attribute_rows(names: Iterable[tuple[str, str]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of an attributes_NN.csv: file_name, then names and values of the attributes in pairs.

    Args:
        names: (``machine/split/file.wav``, attributes as ``key_value_key_value`` or empty). Where there is none, the
            cells stay empty.
    """
    rows = []
    for name, attributes in names:
        rows.append([name, *(attributes.split("_") if attributes else [])])
    pairs = max([1, *(len(row) // 2 for row in rows)])
    header = ["file_name", *(f"d{k}{letter}" for k in range(1, pairs + 1) for letter in "pv")]
    return header, [row + [""] * (len(header) - len(row)) for row in rows]
