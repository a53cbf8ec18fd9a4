"""Paderborn University bearings (Lessmeier et al. 2016): 32 bearings, four conditions, 20 runs each of 4 s at 64 kHz.

Raw: ``<bearing>.rar``, with ``<bearing>/N15_M07_F10_<bearing>_<run>.mat`` of MATLAB 5: a structure of the file's
name whose array ``Y`` has seven elements with ``Data``: 2 and 3 are the phase currents, 7 the vibration. RMIS moves the
bearings into ``healthy``, ``IR`` and ``OR``, which is taken as well. Layout from RMIS's code; not checked against the
files themselves.
"""

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from system.corpora.faults.base import RMIS, Corpus, Download, Measured, Output, Recording, View, list_files
from system.corpora.faults.mat import open_mat
from system.errors import WheeltapperError

RATE = 64000
PAGE = "https://groups.uni-paderborn.de/kat/BearingDataCenter/"
SIGNALS = 7
VIBRATION, CURRENT = ("7",), ("2", "3")
# Where RMIS puts each bearing. KB23, KB24 and KB27 have both faults; what RMIS counts them as is followed.
PLACES = {
    "healthy": "K001 K002 K003 K004 K005 K006",
    "IR/artificial": "KI01 KI03 KI05 KI07 KI08",
    "IR/lifetime": "KB23 KB24 KI04 KI14 KI16 KI17 KI18 KI21",
    "OR/artificial": "KA01 KA03 KA05 KA06 KA07 KA08 KA09",
    "OR/lifetime": "KA04 KA15 KA16 KA22 KA30 KB27",
}
BEARINGS = {bearing: place for place, bearings in PLACES.items() for bearing in bearings.split()}
NAME = re.compile(r"(?P<condition>N[0-9]+_M[0-9]+_F[0-9]+)_(?P<bearing>K[A-Z0-9][0-9]{2})_(?P<run>[0-9]+)")
REPLACED = (
    "_new"  # RMIS hands out N15_M01_F10_KA08_2_new.mat, which SciPy can read, for a published file that it cannot
)


def find(folder: Path, channels: tuple[str, ...]) -> list[Recording]:
    """The runs by class; all runs and channels of a bearing under one condition are one group."""
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
            Output(f"{group}_{match['run']}_channel{channel}", group, (channel,), channel) for channel in channels
        )
        facts = (("bearing", bearing), ("condition", match["condition"]))
        found.append(Recording(path, place.partition("/")[0], outputs, facts=facts))
    return found


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Measured]:
    name = path.stem.removesuffix(REPLACED)
    try:
        with open_mat(path) as mat:
            keys = ("a", name, "Y") if "a" in mat.names else (name, "Y")  # the replacement's is one level deeper
            lines = {str(k + 1): mat.vector(*keys, k, "Data") for k in range(SIGNALS)}
            yield Measured(RATE, lines)
    except WheeltapperError as error:
        if name == "N15_M01_F10_KA08_2" and name == path.stem:
            raise WheeltapperError(
                f"{error}; the published file is known to be unreadable: put RMIS's {name}{REPLACED}.mat beside it"
            ) from error
        raise


def _corpus(name: str, modality: str, channels: tuple[str, ...]) -> Corpus:
    return Corpus(
        name=name,
        title="Paderborn University bearing data",
        modality=modality,
        rate=RATE,
        source=PAGE,
        licence="CC BY-NC 4.0",  # from memory
        downloads=tuple(Download(f"{PAGE}{bearing}.rar", f"{bearing}.rar") for bearing in sorted(BEARINGS)),
        advice="unpack the .rar files into one folder (unrar x FILE, or 7z x FILE)",
        views={RMIS: View(("healthy", "IR", "OR"), partial(find, channels=channels), open_file)},
    )


CORPORA = (_corpus("pu_vib", "vibration", VIBRATION), _corpus("pu_cur", "current", CURRENT))
