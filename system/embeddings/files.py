"""Embedding files: an array (N, D) and an index that names the clip of each row."""

import csv
import mmap
import os
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from system.errors import WheeltapperError
from system.files import open_atomic
from system.manifest import WINDOW, Clip, Key, Row

# Exceptions of NumPy for damaged npy and npz files: its own, those of zip and deflate, and of the header's parser.
READ_ERRORS = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, OverflowError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
RESIDENT = 1 << 26  # bytes of embeddings given out, after which their pages are let go
INDEX = ("machine", "section", "split", "file")


def write_array(path: str | os.PathLike, values: np.ndarray) -> None:
    """Writes an array as npy, atomically, without a copy of it in memory."""
    values = np.ascontiguousarray(values)
    with open_atomic(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
        # When numpy writes to a file itself, a full disk gives an OSError without errno.
        file.write(values.reshape(-1).view(np.uint8).data)


def write_index(path: str | os.PathLike, clips: Sequence[Clip]) -> None:
    """Writes the index: machine, section, split and file of the clip of each row.

    Where some rows are windows, also first sample and samples of each; zeros for a whole recording.
    """
    columns = (*INDEX, *WINDOW) if any(clip.window for clip in clips) else INDEX
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([getattr(clip, name) for name in columns] for clip in clips)


def read_index(path: str | os.PathLike) -> list[Row]:
    """The ``Clip.row`` of each row of an embedding file.

    Raises WheeltapperError where a line has other columns.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [_row(*line) for line in list(csv.reader(file))[1:]]
    except (TypeError, ValueError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected UTF-8 text with commas ({','.join(INDEX)}), found {error}") from error


def _row(machine: str, section: str, split: str, file: str, start: str = "0", window: str = "0") -> Row:
    intern = sys.intern  # the same few words, and files that other tables name too
    key: Key = (intern(machine), intern(section), intern(split), intern(file))
    return (*key, int(start), int(window)) if int(window) else key


class EmbeddingRows(Mapping[Row, np.ndarray]):
    """Embeddings by ``Clip.row``, on disk: memory holds those that are used."""

    def __init__(self, rows: Sequence[Row], values: np.ndarray) -> None:
        self._places, self._values = {row: place for place, row in enumerate(rows)}, np.asarray(values)
        self._map, self._given = getattr(values, "_mmap", None), 0

    def __getitem__(self, row: Row) -> np.ndarray:
        found = self._values[self._places[row]]
        self._given += found.nbytes
        if self._given > RESIDENT and self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)  # the system reads them again where they are still in use
            self._given = 0
        return found

    def __iter__(self) -> Iterator[Row]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def read_rows(index: str | os.PathLike, embeddings: str | os.PathLike) -> EmbeddingRows:
    """The embedding of each clip or window by its ``Clip.row``, mapped into memory.

    Raises:
        WheeltapperError: a file is damaged, or the two do not belong together.
    """
    keys = read_index(index)
    try:
        values = np.load(embeddings, mmap_mode="r")
        if not isinstance(values, np.ndarray) or not values.ndim:
            raise ValueError("something other than rows")
    except READ_ERRORS as error:
        raise WheeltapperError(f"{embeddings}: expected an array of numbers, found damage ({error})") from error
    if len(keys) != len(values):
        raise WheeltapperError(f"{embeddings}: expected {len(keys)} rows as in {index}, found {len(values)}")
    return EmbeddingRows(keys, values)
