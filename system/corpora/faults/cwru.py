"""Case Western Reserve University bearings: seeded faults at a motor's drive end and fan end, with SIREN's classes.

Raw files: ``<number>.mat`` of MATLAB 5 with ``X<number>_DE_time``, ``_FE_time``, ``_BA_time``, in any folder. Copies
often have longer names with the number (``12k_Drive_End_B007_0_118.mat``, ``118_0.mat``), which identifies the
recording. The same recordings as wav or flac (``..._118_DE.flac``), with their scale in a table (``physical``), are
accepted too. The numbers of the 12 kHz files were checked against such a copy; the others are from memory.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from system.corpora.faults.base import (
    SIREN,
    Download,
    FaultCorpus,
    Measured,
    PlannedFile,
    RawRecording,
    View,
    list_files,
)
from system.corpora.faults.mat import open_mat
from system.corpora.faults.physical import open_scaled
from system.errors import WheeltapperError

RATE = 12000
SOUNDS = (".wav", ".flac")
ENDS = {"DE": "12k_Drive_End", "FE": "12k_Fan_End"}
FAULTS = ("IR", "B", "OC@3", "OC@6", "OC@12")
# End, and fault with its size in mils (and clock position for the outer race): file numbers for loads of 0 to 3 hp.
TABLE = """
DE IR007 105 106 107 108 | DE IR014 169 170 171 172 | DE IR021 209 210 211 212 | DE IR028 3001 3002 3003 3004
DE B007 118 119 120 121 | DE B014 185 186 187 188 | DE B021 222 223 224 225 | DE B028 3005 3006 3007 3008
DE OR007@6 130 131 132 133 | DE OR014@6 197 198 199 200 | DE OR021@6 234 235 236 237
DE OR007@3 144 145 146 147 | DE OR021@3 246 247 248 249 | DE OR007@12 156 158 159 160 | DE OR021@12 258 259 260 261
FE IR007 278 279 280 281 | FE IR014 274 275 276 277 | FE IR021 270 271 272 273
FE B007 282 283 284 285 | FE B014 286 287 288 289 | FE B021 290 291 292 293
FE OR007@6 294 295 296 297 | FE OR014@6 313 | FE OR021@6 315
FE OR007@3 298 299 300 301 | FE OR014@3 310 309 311 312 | FE OR021@3 - 316 317 318 | FE OR007@12 302 305 306 307
"""
# 48 kHz and normal recordings, which SIREN does not use.
LEFT_OUT = {
    *range(97, 101),
    *(first + load for first in (109, 122, 135, 148, 161, 174, 189, 201, 226, 238, 250, 262) for load in range(4)),
    *(213, 214, 217, 218),
}
SIGNAL = re.compile(r"(?P<channel>DE|FE|BA).*time")


def _numbers() -> dict[int, tuple[str, str, int]]:
    """File number to end, fault and load in hp."""
    found = {}
    for entry in TABLE.replace("\n", "|").split("|"):
        end, fault, *numbers = entry.split() or ("", "")
        found.update({int(number): (end, fault, load) for load, number in enumerate(numbers) if number != "-"})
    return found


NUMBERS = _numbers()


def find_recordings(folder: Path) -> list[RawRecording]:
    """Lists the 12 kHz recordings of faults (105 in the complete data set), each a group of its own.

    Raises:
        WheeltapperError: a file name without a known number, or a recording that occurs twice.
    """
    found: list[RawRecording] = []
    seen: dict[int, Path] = {}
    for path in list_files(folder, ".mat", *SOUNDS):
        number = _number(path)
        if number in LEFT_OUT:
            continue
        if seen.setdefault(number, path) != path:
            raise WheeltapperError(f"{path}: expected recording {number} once, found also {seen[number]}")
        end, fault, load = NUMBERS[number]
        name = f"{ENDS[end]}_{fault}_{load}_{number}"
        match = re.fullmatch(r"([A-Z]+)(\d+)(@\d+)?", fault)
        assert match is not None  # of every fault in NUMBERS
        kind, size, place = match.groups()
        facts = (("size", size), ("load", str(load)))
        output = PlannedFile(name, name, ("signal",), _channel(path))
        found.append(RawRecording(path, f"{end}_{'OC' if kind == 'OR' else kind}{place or ''}", (output,), facts=facts))
    if not found:
        raise WheeltapperError(f"{folder}: expected 12 kHz recordings of faults, found none")
    return found


def _number(path: Path) -> int:
    words = [int(word) for word in re.split(r"[_ ]", path.stem) if word.isdecimal()]
    known = [number for number in words if number in NUMBERS or number in LEFT_OUT]
    if len(known) != 1:
        raise WheeltapperError(
            f"{path}: expected a name with the number of a recording (118.mat, 12k_Drive_End_B007_0_118.mat), "
            f"found {path.name}"
        )
    return known[0]


def _channel(path: Path) -> str:
    """Accelerometer in a sound file's name; DE for mat files, whose first channel is the drive end."""
    if path.suffix.lower() not in SOUNDS:
        return "DE"
    said = path.stem.rpartition("_")[2]
    return said if said in ENDS else "1"


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Measured]:
    """Opens a file with one channel, ``signal``; in mat files the first accelerometer, as in SIREN."""
    if path.suffix.lower() in SOUNDS:
        with open_scaled(path) as raw:
            yield Measured(raw.rate, {"signal": raw.channels["1"]})
        return
    with open_mat(path) as mat:
        name = next((name for name in mat.names if SIGNAL.search(name)), None)
        if name is None:
            raise WheeltapperError(f"{path}: expected X..._DE_time, found {', '.join(mat.names) or 'no variable'}")
        yield Measured(RATE, {"signal": mat.vector(name)})


CORPUS = FaultCorpus(
    name="cwru",
    title="Case Western Reserve University bearing data",
    modality="vibration",
    rate=RATE,
    source="https://engineering.case.edu/bearingdatacenter",
    licence=None,
    downloads=tuple(  # no hash is published
        Download(f"https://engineering.case.edu/sites/default/files/{number}.mat", f"{number}.mat")
        for number in sorted(NUMBERS)
    ),
    views={
        SIREN: View(tuple(f"{end}-{fault}" for end in ENDS for fault in FAULTS), find_recordings, open_file, unit=False)
    },
)
