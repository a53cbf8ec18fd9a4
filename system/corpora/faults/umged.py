"""UM-GearEccDataset (Li, Chen, Wang, Yang: MSSP 224, 2025): gears of eleven eccentricities, eleven sensors, 600 s.

Raw files: 352 files of MATLAB 7.3 in folders, such as ``N139_G1_E16_T3_S1200.mat``: serial number, G1 without or G2
with a chipped tooth, eccentricity (E16 is 0.16 mm), structure of the drive train, speed in rpm. Variables
``DataSensor01`` to ``DataSensor11`` at 51.2 kHz. Names are from the publisher's guide, the order of the sensors is from
RMIS's code; not tested with the actual files.
"""

import contextlib
import re
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
)
from system.corpora.faults.mat import open_mat
from system.errors import WheeltapperError

RATE = 51200
CLASSES = tuple(f"E{amount:02d}" for amount in range(0, 21, 2))
SENSORS = {
    "umged_sound": ("sound", ("06",)),
    "umged_vib": ("vibration", ("03", "04", "05")),
    "umged_vol": ("voltage", ("07", "08")),
    "umged_cur": ("current", ("01", "02")),
}
NAME = re.compile(r"(?:.*_)?(?P<gear>G[12])_(?P<kind>E[0-9]{2})(?:_.*)?")


def find_recordings(folder: Path, sensors: tuple[str, ...]) -> list[RawRecording]:
    """Lists one recording per file and sensor; the class is the eccentricity, the gear a further attribute."""
    found = []
    for path in list_files(folder, ".mat"):
        match = NAME.fullmatch(path.stem)
        if not match or match["kind"] not in CLASSES:
            raise WheeltapperError(f"{path}: expected a name such as N139_G1_E16_T3_S1200.mat, found {path.name}")
        stem = flat_name(_inside(path, folder))
        names = {sensor: f"{stem}_channel{sensor}" for sensor in sensors}
        outputs = tuple(PlannedFile(name, name, (sensor,), sensor) for sensor, name in names.items())
        found.append(RawRecording(path, match["kind"], outputs, facts=(("gear", match["gear"]),)))
    return found


def _inside(path: Path, folder: Path) -> list[str]:
    """Parts of the path from a folder G1 or G2 on, if there is one."""
    parts = list(path.relative_to(folder).parts)
    start = next((index for index, part in enumerate(parts[:-1]) if part in ("G1", "G2")), 0)
    return parts[start:]


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Measured]:
    with open_mat(path) as mat:
        names = [name for name in mat.names if re.fullmatch(r"DataSensor[0-9]{2}", name)]
        yield Measured(RATE, {name[-2:]: mat.vector(name) for name in names})


def _corpus(name: str, modality: str, sensors: tuple[str, ...]) -> FaultCorpus:
    return FaultCorpus(
        name=name,
        title="UM-GearEccDataset",
        modality=modality,
        rate=RATE,
        source="https://github.com/LeeJMJM/UM-GearEccDataset",
        licence=None,
        advice="the page links to a share at Baidu and to a server of the group, which require an account",
        views={RMIS: View(CLASSES, partial(find_recordings, sensors=sensors), open_file, 10.0)},
    )


CORPORA = tuple(_corpus(name, *sensors) for name, sensors in SENSORS.items())
