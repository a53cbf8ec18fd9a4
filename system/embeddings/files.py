"""Embedding files: an array (N, D) and an index that says which clip each row is."""

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
from system.manifest import Clip, Key

# What NumPy lets out over damaged npy and npz files: its own, of zip and deflate, of a header read as Python.
DAMAGE = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, OverflowError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
INDEX = ("machine", "section", "split", "file")


def write_array(path: str | os.PathLike, values: np.ndarray) -> None:
    """Writes an array as npy, whole or not at all."""
    # numpy hides that a disk is full (an OSError without a number) where it writes to a file itself.
    buffer = io.BytesIO()
    np.save(buffer, values)
    with open_atomic(path, "wb") as file:
        file.write(buffer.getbuffer())


def write_index(path: str | os.PathLike, clips: Sequence[Clip]) -> None:
    """Writes which clip each row of an embedding file is."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(INDEX)
        writer.writerows([getattr(clip, name) for name in INDEX] for clip in clips)


def read_index(path: str | os.PathLike) -> list[Key]:
    """The (machine, section, split, file) of each row of an embedding file.

    Raises WheeltapperError where a line has other columns.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [(machine, section, split, name) for machine, section, split, name in csv.reader(file)][1:]
    except (ValueError, csv.Error) as error:
        raise WheeltapperError(f"{path}: expected UTF-8 text with commas ({','.join(INDEX)}), found {error}") from error


def read_rows(index: str | os.PathLike, embeddings: str | os.PathLike) -> dict[Key, np.ndarray]:
    """The embedding of each clip by (machine, section, split, file).

    Raises WheeltapperError where the two files do not belong together.
    """
    keys = read_index(index)
    try:
        values = np.load(embeddings)
        if not isinstance(values, np.ndarray) or not values.ndim:
            raise ValueError("something other than rows")
    except DAMAGE as error:
        raise WheeltapperError(f"{embeddings}: expected an array of numbers, found damage ({error})") from error
    if len(keys) != len(values):
        raise WheeltapperError(f"{embeddings}: expected {len(keys)} rows as in {index}, found {len(values)}")
    return dict(zip(keys, values, strict=True))
