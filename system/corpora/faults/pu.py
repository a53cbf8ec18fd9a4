"""Paderborn University bearings (Lessmeier et al. 2016): 32 bearings, four conditions, 20 runs each of 4 s at 64 kHz.

Raw files: ``<bearing>.rar`` with ``<bearing>/N15_M07_F10_<bearing>_<run>.mat`` of MATLAB 5: a structure with the name
of the file, whose array ``Y`` has seven elements with ``Data``: 2 and 3 are the phase currents, 7 is the vibration.
RMIS's folders ``healthy``, ``IR`` and ``OR`` are accepted too. Written after RMIS's code; not tested with the actual
files.
"""

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from system.corpora.faults.base import (
    RMIS,
    Download,
    FaultCorpus,
    Measured,
    PlannedFile,
    RawRecording,
    View,
    list_files,
)
from system.corpora.faults.mat import open_mat
from system.errors import WheeltapperError

RATE = 64000
PAGE = "https://groups.uni-paderborn.de/kat/BearingDataCenter/"
SIGNALS = 7
VIBRATION, CURRENT = ("7",), ("2", "3")
# RMIS's classes of the bearings. KB23, KB24 and KB27 have both faults; they are counted as in RMIS.
PLACES = {
    "healthy": "K001 K002 K003 K004 K005 K006",
    "IR/artificial": "KI01 KI03 KI05 KI07 KI08",
    "IR/lifetime": "KB23 KB24 KI04 KI14 KI16 KI17 KI18 KI21",
    "OR/artificial": "KA01 KA03 KA05 KA06 KA07 KA08 KA09",
    "OR/lifetime": "KA04 KA15 KA16 KA22 KA30 KB27",
}
BEARINGS = {bearing: place for place, bearings in PLACES.items() for bearing in bearings.split()}
NAME = re.compile(r"(?P<condition>N[0-9]+_M[0-9]+_F[0-9]+)_(?P<bearing>K[A-Z0-9][0-9]{2})_(?P<run>[0-9]+)")
REPLACED = "_new"  # RMIS provides N15_M01_F10_KA08_2_new.mat, because SciPy cannot read the published file


def find_recordings(folder: Path, channels: tuple[str, ...]) -> list[RawRecording]:
    """Lists the runs; all runs and channels of a bearing under one condition are one group."""
    found = []
    paths = list_files(folder, ".mat")
    stems = {path.stem for path in paths}
    for path in paths:
        if path.stem + REPLACED in stems:
            continue
        match = NAME.fullmatch(path.stem.removesuffix(REPLACED))
        if not match or match["bearing"] not in BEARINGS:
            raise WheeltapperError(f"{path}: expected a name such as N15_M07_F10_KA01_1.mat, found {path.name}")
        place, bearing = BEARINGS[match["bearing"]], match["bearing"]
        group = "_".join([place.replace("/", "_"), bearing, match["condition"], bearing])
        outputs = tuple(
            PlannedFile(f"{group}_{match['run']}_channel{channel}", group, (channel,), channel) for channel in channels
        )
        facts = (("bearing", bearing), ("condition", match["condition"]))
        found.append(RawRecording(path, place.partition("/")[0], outputs, facts=facts))
    return found


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Measured]:
    name = path.stem.removesuffix(REPLACED)
    try:
        with open_mat(path) as mat:
            keys = ("a", name, "Y") if "a" in mat.names else (name, "Y")  # one level deeper in RMIS's replacement
            lines = {str(k + 1): mat.vector(*keys, k, "Data") for k in range(SIGNALS)}
            yield Measured(RATE, lines)
    except WheeltapperError as error:
        if name == "N15_M01_F10_KA08_2" and name == path.stem:
            raise WheeltapperError(
                f"{error}; the published file is unreadable: put RMIS's {name}{REPLACED}.mat into its folder"
            ) from error
        raise


def _corpus(name: str, modality: str, channels: tuple[str, ...]) -> FaultCorpus:
    return FaultCorpus(
        name=name,
        title="Paderborn University bearing data",
        modality=modality,
        rate=RATE,
        source=PAGE,
        licence="CC BY-NC 4.0",  # from memory
        downloads=tuple(Download(f"{PAGE}{bearing}.rar", f"{bearing}.rar") for bearing in sorted(BEARINGS)),
        advice="unpack the .rar files into one folder (unrar x FILE, or 7z x FILE)",
        views={RMIS: View(("healthy", "IR", "OR"), partial(find_recordings, channels=channels), open_file)},
    )


CORPORA = (_corpus("pu_vib", "vibration", VIBRATION), _corpus("pu_cur", "current", CURRENT))
