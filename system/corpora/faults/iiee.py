"""IDMT-ISA-ELECTRIC-ENGINE: three small electric engines (good, broken, heavy load), with an official split.

Raw: ``{train,train_cut,test,test_cut}/{engine1_good,engine2_broken,engine3_heavyload}/<condition>[_<number>].wav``,
44.1 kHz mono; the cuts have 3 s. Written after public descriptions and both benchmarks' code; not tested with the
actual files.
"""

import re
from functools import partial
from pathlib import Path

from system.corpora.faults.base import RMIS, SIREN, FaultCorpus, PlannedFile, RawRecording, View, list_files, parts_from
from system.errors import WheeltapperError

CLASSES = {"engine1_good": "good", "engine2_broken": "broken", "engine3_heavyload": "heavyload"}
FOLDERS = ("train_cut", "test_cut", "train", "test")


def find_recordings(folder: Path, fall_back: bool = False) -> list[RawRecording]:
    """Lists the cuts of the official split: ``train_cut/`` and ``test_cut/``.

    Args:
        folder: folder of the raw files.
        fall_back: use ``test/`` if there is no ``test_cut/`` (SIREN).

    Raises:
        WheeltapperError: no recordings in a part of the split or a class.
    """
    named = [(path, parts_from(path, folder, FOLDERS)) for path in list_files(folder, ".wav")]
    sides = {"train_cut": "train", "test_cut": "test"}
    if fall_back and not any(parts[0] == "test_cut" for _, parts in named):
        sides = {"train_cut": "train", "test": "test"}
    found = [_recording(path, parts, sides[parts[0]]) for path, parts in named if parts[0] in sides]
    for side, split in sides.items():
        for name, kind in CLASSES.items():
            if not any(recording.kind == kind and recording.split == split for recording in found):
                raise WheeltapperError(f"{folder}: expected recordings in {side}/{name}/, found none")
    return found


def _recording(path: Path, parts: list[str], split: str) -> RawRecording:
    if len(parts) != 3 or parts[1] not in CLASSES:
        raise WheeltapperError(f"{path}: expected {parts[0]}/{{{','.join(CLASSES)}}}/*.wav, found {'/'.join(parts)}")
    source = re.sub(r"_\d+$", "", path.stem)  # recording that the cut is from
    condition = re.sub(r"(_\d+)+$", "", path.stem)
    output = PlannedFile("/".join([*parts[:2], path.stem]), "/".join([*parts[:2], source]), ("1",), "1")
    return RawRecording(path, CLASSES[parts[1]], (output,), split, (("condition", condition),))


CORPUS = FaultCorpus(
    name="iiee",
    title="IDMT-ISA-ELECTRIC-ENGINE",
    modality="sound",
    rate=44100,
    source="https://www.idmt.fraunhofer.de/en/publications/datasets/isa-electric-engine.html",
    licence="CC BY-NC-ND 4.0",  # according to a third party
    zenodo=7551261,
    views={
        RMIS: View(tuple(CLASSES.values()), find_recordings),
        SIREN: View(tuple(CLASSES.values()), partial(find_recordings, fall_back=True)),
    },
)
