"""IDMT-ISA-COMPRESSED-AIR: leaks of compressed air, recorded by several microphones in factory noise.

Raw files: ``{tubeleak,ventleak,ventlow}/<noise>/<session>/<session>_<iO|niO>_<knob>_<mic>_.wav`` (in older packages
below ``raw/``), 48 kHz mono, 24 bit, about 30 s. ``niO`` is a leak, ``iO`` is no leak. Written after public
descriptions and both benchmarks' code; not tested with the actual files.
"""

from pathlib import Path

from system.corpora.faults.base import (
    RMIS,
    SIREN,
    FaultCorpus,
    PlannedFile,
    RawRecording,
    View,
    list_files,
    open_sound,
    parts_from,
)
from system.errors import WheeltapperError

LEAKS = ("tubeleak", "ventleak", "ventlow")
STATES = {"iO": "noleak", "niO": "leak"}
NO_LEAK = "no-leak"


def find_rmis(folder: Path) -> list[RawRecording]:
    """Lists recordings for RMIS: three kinds of leak, six classes; the cuts of a recording are one group."""
    return [_recording(path, parts, f"{parts[0]}-{state}") for path, parts, state in _named(folder)]


def find_siren(folder: Path) -> list[RawRecording]:
    """Lists whole recordings for SIREN: tube leak, vent leak, and no leak in one common class."""
    found = [
        _recording(path, parts, NO_LEAK if state == "noleak" else parts[0])
        for path, parts, state in _named(folder)
        if parts[0] != "ventlow"
    ]
    if not found:
        raise WheeltapperError(f"{folder}: expected recordings below tubeleak/ and ventleak/, found none")
    return found


def _named(folder: Path) -> list[tuple[Path, list[str], str]]:
    found = []
    for path in list_files(folder, ".wav"):
        parts = parts_from(path, folder, LEAKS)
        words = path.stem.split("_")
        if len(parts) != 4 or len(words) < 4 or not all(words[:4]) or words[1] not in STATES:
            raise WheeltapperError(
                f"{path}: expected <leak>/<noise>/<session>/<session>_<iO|niO>_<knob>_<mic>_.wav, "
                f"found {'/'.join(parts)}"
            )
        found.append((path, parts, STATES[words[1]]))
    return found


def _recording(path: Path, parts: list[str], kind: str) -> RawRecording:
    leak, noise, session = parts[:3]
    _, _, knob, mic = path.stem.split("_")[:4]
    whole = "/".join([leak, noise, session, path.stem])
    facts = (("leak", leak), ("noise", noise), ("session", session), ("knob", knob), ("mic", mic))
    # RMIS names the cuts <file>0.wav, and the recording <file> without its last underscore.
    output = PlannedFile(whole, whole.rstrip("_"), ("1",), "1")
    return RawRecording(path, kind, (output,), facts=facts)


CORPUS = FaultCorpus(
    name="iica",
    title="IDMT-ISA-COMPRESSED-AIR",
    modality="sound",
    rate=48000,
    source="https://www.idmt.fraunhofer.de/en/publications/datasets/isa-compressed-air.html",
    licence=None,
    zenodo=7551606,
    views={
        RMIS: View(
            classes=tuple(f"{leak}-{state}" for leak in LEAKS for state in STATES.values()),
            find_recordings=find_rmis,
            open=open_sound,
            seconds=10.0,
            suffix="{}",
        ),
        SIREN: View(classes=(NO_LEAK, "tubeleak", "ventleak"), find_recordings=find_siren),
    },
)
