"""WT-planetary-gearbox-dataset (Liu, Cui, Cheng: Measurement Science and Technology, 2023): a wind turbine's gearbox.

Raw files: ``<class>/{1,2}/<letter><run>_<Hz>.MAT``, 80 files of MATLAB 5 whose ``Data`` is [samples, 4] at 48 kHz, more
than 300 s; columns 1 and 2 are vibration. File names are those in the repository, the content is after RMIS's code; not
tested with the actual files.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from system.corpora.faults.base import (
    RMIS,
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
from system.corpora.faults.mat import open_mat

RATE = 48000
PAGE = "https://github.com/Liudd-BJUT/WT-planetary-gearbox-dataset"
CLASSES = {"broken": "B", "healthy": "N", "missing_tooth": "M", "root_crack": "R", "wear": "W"}
COLUMNS = 4
USED = ("1", "2")


def find_recordings(folder: Path) -> list[RawRecording]:
    """Lists two recordings per file, one for each channel; key-phase files are ignored."""
    found = []
    for path in list_files(folder, ".mat"):
        if "keyphase" in path.name.lower():
            continue
        parts = parts_from(path, folder, CLASSES)
        names = {channel: f"{flat_name(parts)}_channel{channel}" for channel in USED}
        outputs = tuple(PlannedFile(name, name, (channel,), channel) for channel, name in names.items())
        found.append(RawRecording(path, parts[0], outputs))
    return found


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Measured]:
    with open_mat(path) as mat:
        columns = mat.columns(COLUMNS, "Data")
        yield Measured(RATE, {str(number): column for number, column in enumerate(columns, 1)})


def _downloads() -> tuple[Download, ...]:
    names = [
        f"{kind}/{run}/{letter}{run}_{speed}.MAT"
        for kind, letter in CLASSES.items()
        for run in (1, 2)
        for speed in range(20, 60, 5)
    ]
    return tuple(Download(f"{PAGE}/raw/HEAD/{name}", name) for name in names)


CORPUS = FaultCorpus(
    name="wtpg",
    title="WT-planetary-gearbox-dataset",
    modality="vibration",
    rate=RATE,
    source=PAGE,
    licence=None,
    downloads=_downloads(),
    views={RMIS: View(tuple(map(hyphens, CLASSES)), find_recordings, open_file, 10.0)},
)
