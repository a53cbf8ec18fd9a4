"""Embedding files: an array (N, D) and an index that names the clip of each row."""

import csv
import io
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from system.errors import WheeltapperError
from system.files import open_atomic
from system.manifest import WINDOW, Clip, Key, Row

# Exceptions of NumPy for damaged npy and npz files: its own, those of zip and deflate, and of the header's parser.
READ_ERRORS = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, OverflowError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
INDEX = ("machine", "section", "split", "file")


def write_array(path: str | os.PathLike, values: np.ndarray) -> None:
    """Writes an array as npy, atomically."""
    # When numpy writes to a file itself, a full disk gives an OSError without errno.
    buffer = io.BytesIO()
    np.save(buffer, values)
    with open_atomic(path, "wb") as file:
        file.write(buffer.getbuffer())


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
    key: Key = (machine, section, split, file)
    return (*key, int(start), int(window)) if int(window) else key


def read_rows(index: str | os.PathLike, embeddings: str | os.PathLike) -> dict[Row, np.ndarray]:
    """The embedding of each clip or window by its ``Clip.row``.

    Raises:
        WheeltapperError: a file is damaged, or the two do not belong together.
    """
    keys = read_index(index)
    try:
        values = np.load(embeddings)
        if not isinstance(values, np.ndarray) or not values.ndim:
            raise ValueError("something other than rows")
    except READ_ERRORS as error:
        raise WheeltapperError(f"{embeddings}: expected an array of numbers, found damage ({error})") from error
    if len(keys) != len(values):
        raise WheeltapperError(f"{embeddings}: expected {len(keys)} rows as in {index}, found {len(values)}")
    return dict(zip(keys, values, strict=True))
