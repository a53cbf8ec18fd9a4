"""SDUST (Shandong University of Science and Technology): bearings (40 s) and planetary gears (20 s) at 25.6 kHz.

Raw files: a git repository with ``轴承数据集/<class>/*.mat`` (bearings) and ``齿轮数据集/<class>/*.mat`` (gears,
classes in Chinese or with RMIS's names) of MATLAB 5; ``Signal.y_values.values`` is [samples, 6]. Written after RMIS's
code; not tested with the actual files.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from system.corpora.faults.base import (
    RMIS,
    FaultCorpus,
    Measured,
    PlannedFile,
    RawRecording,
    View,
    flat_name,
    list_files,
    parts_from,
)
from system.corpora.faults.mat import open_mat
from system.errors import WheeltapperError

RATE = 25600
COLUMNS = 6
PAGE = "https://github.com/JRWang-SDUST/SDUST-Dataset"
BEARINGS = {
    name: name for name in ("IF0.2", "IF0.4", "IF0.6", "NC", "OF0.2", "OF0.4", "OF0.6", "RF0.2", "RF0.4", "RF0.6")
}
GEARS = {
    "NC": "normal",
    "行星断裂": "planetrayfracture",
    "行星点蚀": "planetraypitting",
    "行星磨损": "planetraywear",
    "太阳断裂": "sunfracture",
    "太阳点蚀": "sunpitting",
    "太阳磨损": "sunwear",
}
GEARS |= {name: name for name in GEARS.values()}
PLACES = {"sdust_bearing": ("轴承数据集", "bearing"), "sdust_gear": ("齿轮数据集", "gear")}


def find_recordings(folder: Path, name: str, classes: dict[str, str]) -> list[RawRecording]:
    """Lists six recordings per file, one for each column.

    Args:
        folder: folder of the raw files.
        name: name of the data set; the folder of the other data set in the same repository is ignored.
        classes: folder name to class.
    """
    others = {place for other, places in PLACES.items() if other != name for place in places}
    found = []
    for path in list_files(folder, ".mat"):
        if others & set(path.relative_to(folder).parts[:-1]):
            continue
        parts = parts_from(path, folder, classes)
        kind = classes[parts[0]]
        stem = flat_name([parts[0] if parts[0] == "NC" else kind, *parts[1:]])
        # RMIS numbers the columns from last to first.
        names = {str(column): f"{stem}_channel{COLUMNS + 1 - column}" for column in range(1, COLUMNS + 1)}
        outputs = tuple(
            PlannedFile(own, own, (column,), str(COLUMNS + 1 - int(column))) for column, own in names.items()
        )
        found.append(RawRecording(path, kind, outputs))
    if not found:
        raise WheeltapperError(f"{folder}: expected .mat files in {' or '.join(PLACES[name])}, found none")
    return found


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Measured]:
    with open_mat(path) as mat:
        columns = mat.columns(COLUMNS, "Signal", "y_values", "values")
        yield Measured(RATE, {str(number): column for number, column in enumerate(columns, 1)})


def _corpus(name: str, title: str, classes: dict[str, str]) -> FaultCorpus:
    return FaultCorpus(
        name=name,
        title=title,
        modality="vibration",
        rate=RATE,
        source=PAGE,
        licence=None,
        advice=f"git clone {PAGE}",
        views={
            RMIS: View(
                tuple(dict.fromkeys(classes.values())),
                partial(find_recordings, name=name, classes=classes),
                open_file,
                10.0,
            )
        },
    )


CORPORA = (_corpus("sdust_bearing", "SDUST bearings", BEARINGS), _corpus("sdust_gear", "SDUST gears", GEARS))
