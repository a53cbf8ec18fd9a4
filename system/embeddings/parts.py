"""Rows of many clips, computed in parts that several processes share and that outlive their end.

A part is a file with the rows of at most ``SIZE`` clips of one machine, written when the last of them is there. The
parts do not depend on the number of processes, so that a run may go on with another one.
"""

import itertools
import math
import os
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from system import processes
from system.errors import WheeltapperError
from system.files import open_atomic
from system.manifest import Clip

SIZE = 128  # clips
PATIENCE = 60.0  # seconds until a file of another machine must be seen; file servers show it late

Columns = dict[str, np.ndarray]
Batches = Iterable[tuple[Sequence[int], Mapping[str, np.ndarray]]]


@dataclass
class Part:
    """Clips of a machine by their places among all clips, and the file for their rows."""

    path: Path
    machine: str
    places: list[int]
    columns: Columns = field(default_factory=dict)
    left: int = 0

    def read(self) -> Columns | None:
        """The rows by column; None where there are none or they are damaged."""
        try:
            with np.load(self.path) as archive:
                found = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return found if all(len(values) == len(self.places) for values in found.values()) else None

    def add(self, row: int, values: Mapping[str, np.ndarray]) -> None:
        """Adds the row of one clip; with the last one the file is written."""
        if not self.columns:
            self.columns = {name: np.empty((len(self.places), *v.shape), np.float32) for name, v in values.items()}
            self.left = len(self.places)
        for name, value in values.items():
            self.columns[name][row] = value
        self.left -= 1
        if not self.left:
            with open_atomic(self.path, "wb") as file:
                np.savez(file, **self.columns)  # type: ignore[arg-type]  # NumPy's stub has a bool among the keywords
            self.columns = {}


def describe_in_parts(
    clips: Sequence[Clip],
    folder: str | os.PathLike,
    describe: Callable[[list[Clip]], Batches],
    progress: Callable[[int], None] | None = None,
) -> Columns:
    """Describes clips by rows. Parts that are in ``folder`` are taken from there.

    Of several processes each describes its share of the parts; all must see ``folder``.

    Args:
        clips: N clips of any machines.
        folder: of the parts.
        describe: function of clips of one machine that yields places among them and their rows (B, ...) by column, in
            batches and in any order.
        progress: called with the number of clips described since the last call, an estimate with several processes.

    Returns:
        Rows float32 (N, ...) by column, in the order of the clips; in the main process only, in the others nothing.
    """
    parts = split(clips, Path(folder))
    mine = processes.share(parts)
    for _, group in itertools.groupby(mine, key=lambda part: part.machine):
        own = list(group)
        missing = [part for part in own if part.read() is None]
        if progress and (done := sum(len(part.places) for part in own if part not in missing)):
            progress(done * processes.count())
        rows = [(part, row) for part in missing for row in range(len(part.places))]
        for places, values in describe([clips[part.places[row]] for part, row in rows]) if rows else ():
            for number, place in enumerate(places):
                part, row = rows[place]
                part.add(row, {name: value[number] for name, value in values.items()})
            if progress:
                progress(len(places) * processes.count())
    processes.collect(len(mine))
    return _assembled(parts, len(clips)) if processes.is_main() else {}


def split(clips: Sequence[Clip], folder: Path) -> list[Part]:
    """Parts of about the same size of the clips of each machine."""
    machines: dict[str, list[int]] = {}
    for place, clip in enumerate(clips):
        machines.setdefault(clip.machine, []).append(place)
    found = []
    for machine, places in machines.items():
        for number, own in enumerate(np.array_split(places, math.ceil(len(places) / SIZE))):
            found.append(Part(folder / f"{machine}-{number:04d}.npz", machine, own.tolist()))
    return found


def _assembled(parts: Sequence[Part], count: int) -> Columns:
    columns: Columns = {}
    for part in parts:
        for name, values in _awaited(part).items():
            columns.setdefault(name, np.empty((count, *values.shape[1:]), np.float32))[part.places] = values
    return columns


def _awaited(part: Part) -> Columns:
    until = time.monotonic() + (PATIENCE if processes.count() > 1 else 0.0)
    while (found := part.read()) is None:
        if time.monotonic() > until:
            raise WheeltapperError(
                f"{part.path}: expected the rows that a process of this run wrote, found none; use an experiment "
                "folder that all machines share"
            )
        time.sleep(processes.POLL)
    return found
