"""MFPT bearings (Bechhoefer): normal, inner race, outer race under several loads.

Raw files: ``baseline_1.mat``, ``OuterRaceFault_1.mat``, ``OuterRaceFault_vload_1.mat``, ``InnerRaceFault_vload_1.mat``
of MATLAB 5: a structure ``bearing`` with ``gs`` (acceleration in g) and ``sr`` (97,656 Hz for the first two kinds,
48,828 Hz for the others). Field recordings and analyses in the same package are ignored. The same recordings as wav or
flac (``physical``) are accepted too, and were used for testing; the layout of the mat files is from public code.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from system.corpora.faults.base import OWN, Download, FaultCorpus, Measured, PlannedFile, RawRecording, View, list_files
from system.corpora.faults.mat import open_mat
from system.corpora.faults.physical import open_scaled
from system.errors import WheeltapperError

SOUNDS = (".wav", ".flac")
CLASSES = {"baseline": "normal", "innerracefault": "inner-race", "outerracefault": "outer-race"}
NAME = re.compile(r"(?P<kind>[a-z]+)(?:_vload)?_[0-9]+", re.IGNORECASE)
LEFT_OUT = re.compile(r"[56] - ")  # folders of analyses and of field recordings


def find_recordings(folder: Path) -> list[RawRecording]:
    """Lists the recordings from the test rig, each a group of its own."""
    found = []
    for path in list_files(folder, ".mat", *SOUNDS):
        if any(LEFT_OUT.match(part) for part in path.relative_to(folder).parts):
            continue
        match = NAME.fullmatch(path.stem)
        if not match or match["kind"].lower() not in CLASSES:
            raise WheeltapperError(f"{path}: expected a name such as InnerRaceFault_vload_1.mat, found {path.name}")
        output = PlannedFile(path.stem, path.stem, ("gs",), "gs")
        found.append(RawRecording(path, CLASSES[match["kind"].lower()], (output,)))
    if not found:
        raise WheeltapperError(f"{folder}: expected recordings from the test rig, found none")
    return found


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Measured]:
    """Opens a file with one channel, ``gs``; the sampling rate is stored in the file."""
    if path.suffix.lower() in SOUNDS:
        with open_scaled(path) as raw:
            yield Measured(raw.rate, {"gs": raw.channels["1"]})
        return
    with open_mat(path) as mat:
        rate = float(np.asarray(mat.vector("bearing", "sr")[0:1], np.float64)[0])
        if not rate.is_integer() or rate < 1:
            raise WheeltapperError(f"{path}: bearing.sr: expected a rate in Hz, found {rate}")
        yield Measured(int(rate), {"gs": mat.vector("bearing", "gs")})


CORPUS = FaultCorpus(
    name="mfpt",
    title="MFPT bearing fault data",
    modality="vibration",
    rate=None,
    source="https://www.mfpt.org/fault-data-sets/",
    licence="CC BY-NC-SA 4.0",  # as MathWorks' copy states
    downloads=(
        Download(  # hash unknown
            "https://www.mfpt.org/wp-content/uploads/2020/02/MFPT-Fault-Data-Sets-20200227T131140Z-001.zip",
            "MFPT-Fault-Data-Sets-20200227T131140Z-001.zip",
        ),
    ),
    views={OWN: View(tuple(CLASSES.values()), find_recordings, open_file, unit=False)},
)
