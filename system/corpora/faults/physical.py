"""Reader of raw recordings that were re-encoded as sound files, with a table of their scales in physical units."""

import contextlib
import csv
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from system.corpora.faults.base import Measured, Samples, open_sound
from system.errors import WheeltapperError

TABLE = "manifest.csv"
STEPS = {"scale_per_lsb": 2.0**15, "scale_per_lsb24": 2.0**23}  # column to quantisation steps at full scale


class _Scaled:
    def __init__(self, channel: Samples, scale: float) -> None:
        self.channel, self.scale = channel, scale

    def __len__(self) -> int:
        return len(self.channel)

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.channel[part].astype(np.float64) * self.scale


@contextlib.contextmanager
def open_scaled(path: Path) -> Iterator[Measured]:
    """Opens a sound file in physical units.

    The scale comes from a ``manifest.csv`` in the same or the parent folder, with the columns ``file`` and
    ``scale_per_lsb`` (physical units per 16-bit step) or ``scale_per_lsb24``. Without a table, values are not scaled.

    Raises:
        WheeltapperError: the table does not list the file, or its scale is not a positive number.
    """
    with open_sound(path) as raw:
        scale = _scale(path)
        yield Measured(raw.rate, {name: _Scaled(channel, scale) for name, channel in raw.channels.items()})


def _scale(path: Path) -> float:
    for folder in (path.parent, path.parent.parent):
        table = folder / TABLE
        if table.is_file():
            name = path.relative_to(folder).as_posix()
            scales = _read(table, table.stat().st_mtime_ns)
            if scales is not None and name not in scales:
                raise WheeltapperError(f"{table}: expected the scale of {name}, found none")
            return 1.0 if scales is None else scales[name]
    return 1.0


@lru_cache(maxsize=8)
def _read(table: Path, _: int) -> dict[str, float] | None:
    """File name to factor from full scale 1 to physical units; None if the table has no such column."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        column = next((name for name in STEPS if name in (reader.fieldnames or ())), None)
        if column is None:
            return None
        scales = {}
        for row in reader:
            try:
                scale = float(row[column]) * STEPS[column]
            except (TypeError, ValueError):
                scale = math.nan
            if not 0 < scale < math.inf:
                raise WheeltapperError(
                    f"{table}: line {reader.line_num}: {column}: expected a number above 0, found {row[column]!r}"
                )
            scales[row["file"]] = scale
    return scales
