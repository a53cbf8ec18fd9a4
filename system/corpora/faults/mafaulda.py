"""MaFaulDa (Ribeiro 2016): a machinery fault simulator, 1951 runs of 5 s at 50 kHz.

Raw files: ``full.zip`` with ``normal/12.288.csv``, ``imbalance/6g/*.csv``, ``overhang/ball_fault/0g/*.csv`` and so on;
eight columns without a header: tachometer, three accelerometers at the underhang bearing (axial, radial, tangential),
three at the overhang bearing, microphone. Written after the publisher's description and both benchmarks' code; not
tested with the actual files.
"""

import contextlib
import csv
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from system.corpora.faults.base import (
    RMIS,
    SIREN,
    Download,
    FaultCorpus,
    Measured,
    PlannedFile,
    RawRecording,
    View,
    flat_name,
    hyphens,
    list_files,
    parts_from,
)
from system.errors import WheeltapperError

RATE = 50000
COLUMNS = 8
VIBRATION, MICROPHONE = ("2", "3", "4", "5", "6", "7"), ("8",)
PLAIN = ("horizontal-misalignment", "imbalance", "normal", "vertical-misalignment")
BEARINGS = ("overhang", "underhang")
FAULTS = ("ball_fault", "cage_fault", "outer_race")
CLASSES = tuple(sorted([*PLAIN, *(f"{bearing}-{hyphens(fault)}" for bearing in BEARINGS for fault in FAULTS)]))


def find_recordings(folder: Path, channels: tuple[str, ...], together: bool = False) -> list[RawRecording]:
    """Lists the runs with their classes.

    Args:
        folder: folder of the raw files.
        channels: columns, counted from 1.
        together: whether all channels of a run are in one sound file (SIREN). Otherwise each channel is a file and a
            group of its own (RMIS), so that a split may separate the channels of a run.
    """
    found = []
    for path in list_files(folder, ".csv"):
        parts = parts_from(path, folder, (*PLAIN, *BEARINGS))
        kind = parts[0]
        if kind in BEARINGS:
            if parts[1] not in FAULTS:
                raise WheeltapperError(f"{path}: expected {kind}/{{{','.join(FAULTS)}}}/..., found {'/'.join(parts)}")
            kind = f"{kind}-{parts[1]}"
        name = flat_name(parts)
        outputs: tuple[PlannedFile, ...]
        if together:
            outputs = (PlannedFile(name, name, channels, "-".join((channels[0], *channels[1:][-1:]))),)
        else:
            names = {channel: f"{name}_channel{channel}" for channel in channels}
            outputs = tuple(PlannedFile(names[channel], names[channel], (channel,), channel) for channel in channels)
        found.append(RawRecording(path, kind, outputs))
    return found


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Measured]:
    """Opens a run; raises WheeltapperError with line and column of the first cell that is not a number."""
    import pandas as pd  # three times as fast as NumPy for 250,000 lines

    try:
        values = pd.read_csv(path, header=None, dtype=np.float64, na_filter=False).to_numpy()
    except ValueError as error:  # includes errors of the parser and of UTF-8
        raise WheeltapperError(f"{path}: expected {COLUMNS} columns of numbers, {_first_fault(path)}") from error
    if values.shape[1] != COLUMNS:
        raise WheeltapperError(f"{path}: expected {COLUMNS} columns of numbers, found {values.shape[1]}")
    yield Measured(RATE, {str(number): column for number, column in enumerate(values.T, 1)})


def _first_fault(path: Path) -> str:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for line, cells in enumerate(csv.reader(file), 1):
                if len(cells) != COLUMNS:
                    return f"found {len(cells)} in line {line}"
                for column, cell in enumerate(cells, 1):
                    if not _is_number(cell):
                        return f"found {cell[:40]!r} in line {line}, column {column}"
    except (UnicodeDecodeError, csv.Error) as error:
        return f"found {error}"
    return "found an empty file"


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _corpus(name: str, modality: str, rmis: tuple[str, ...], siren: tuple[str, ...]) -> FaultCorpus:
    return FaultCorpus(
        name=name,
        title="MaFaulDa",
        modality=modality,
        rate=RATE,
        source="https://www02.smt.ufrj.br/~offshore/mfs/page_01.html",
        licence=None,
        downloads=(
            Download("https://www02.smt.ufrj.br/~offshore/mfs/database/mafaulda/full.zip", "full.zip"),  # hash unknown
        ),
        views={
            RMIS: View(CLASSES, partial(find_recordings, channels=rmis), open_file),
            SIREN: View(CLASSES, partial(find_recordings, channels=siren, together=True), open_file, unit=False),
        },
    )


# SIREN combines the tachometer and the accelerometers, and uses the microphone separately.
CORPORA = (
    _corpus("mafaulda_sound", "sound", MICROPHONE, MICROPHONE),
    _corpus("mafaulda_vib", "vibration", VIBRATION, ("1", *VIBRATION)),
)
