"""MIMII (Purohit et al., DCASE 2019): fans, pumps, sliders and valves in factory noise, 16 kHz, eight channels, 10 s.

Raw files: ``<machine>/id_<NN>/{normal,abnormal}/<number>.wav`` from twelve zips (``-6_dB_fan.zip``), one for each
machine and signal-to-noise ratio. Split as in the authors' baseline program: with n abnormal recordings, the test set
has these and the first n normal ones; the other normal recordings are for training. Layout and split are from memory,
MD5 from a public copy of the record's page; not tested with the actual files.
"""

import re
from collections import defaultdict
from pathlib import Path

from system.corpora.faults.base import (
    OWN,
    Download,
    FaultCorpus,
    PlannedFile,
    RawRecording,
    View,
    list_files,
    parts_from,
)
from system.errors import WheeltapperError

MACHINES = ("fan", "pump", "slider", "valve")
LABELS = {"normal": "normal", "abnormal": "anomaly"}
RATIO = re.compile(r"(-?[0-9]+)_dB_[a-z]+")
RECORD = 3384388
MD5 = {
    "-6_dB_fan": "f02ae808a58d84b6815b7ec38ff30879",
    "-6_dB_pump": "d20b783a0ff9c93d58f452f98c37b112",
    "-6_dB_slider": "49913eda7d37f182cbf8ed5c984140e0",
    "-6_dB_valve": "fdfaf185fea61b21e11952a070a4ada7",
    "0_dB_fan": "6354d1cc2165c52168f9ef1bcd9c7c52",
    "0_dB_pump": "488748295c3f60b25de07b58fe75b049",
    "0_dB_slider": "4d674c21474f0646ecd75546db6c0c4e",
    "0_dB_valve": "178478eb0d11c79080a35562bfdeee71",
    "6_dB_fan": "0890f7d3c2fd8448634e69ff1d66dd47",
    "6_dB_pump": "a09ba6060c10fc09cd4c8770213b0b9f",
    "6_dB_slider": "838c2b3441858359c4704ef13a1b27ff",
    "6_dB_valve": "fe5fb7c337cd701b1d31dc641e621892",
}

_Place = tuple[str, str]


def find_recordings(folder: Path) -> list[RawRecording]:
    """Lists the recordings; sections are the ids.

    Machines are named like ``fan_-6dB`` if a parent folder contains the signal-to-noise ratio.

    Raises:
        WheeltapperError: a machine and id without training recordings.
    """
    found: dict[_Place, dict[str, list[Path]]] = defaultdict(lambda: {label: [] for label in LABELS})
    for path in list_files(folder, ".wav"):
        parts = parts_from(path, folder, MACHINES)
        if len(parts) != 4 or not re.fullmatch(r"id_[0-9]{2}", parts[1]) or parts[2] not in LABELS:
            raise WheeltapperError(f"{path}: expected <machine>/id_NN/{{normal,abnormal}}/*.wav in {folder}")
        ratio = next((match[1] for part in path.parts if (match := RATIO.fullmatch(part))), None)
        machine = f"{parts[0]}_{ratio}dB" if ratio else parts[0]
        found[machine, parts[1].removeprefix("id_")][parts[2]].append(path)
    recordings = []
    for (machine, section), paths in found.items():
        asked = len(paths["abnormal"])
        if len(paths["normal"]) <= asked:
            raise WheeltapperError(
                f"{folder}: {machine} id_{section}: expected more normal than abnormal recordings, found "
                f"{len(paths['normal'])} and {asked}"
            )
        for kind, label in LABELS.items():
            for number, path in enumerate(paths[kind]):
                split = "test" if kind == "abnormal" or number < asked else "train"
                output = PlannedFile(f"id_{section}/{kind}/{path.stem}", "", (), "1-8")
                recordings.append(RawRecording(path, kind, (output,), split, (), machine, section, label))
    return recordings


CORPUS = FaultCorpus(
    name="mimii",
    title="MIMII",
    modality="sound",
    rate=16000,
    source=f"https://zenodo.org/records/{RECORD}",
    licence="CC BY-SA 4.0",
    downloads=tuple(
        Download(f"https://zenodo.org/records/{RECORD}/files/{name}.zip", f"{name}.zip", md5)
        for name, md5 in MD5.items()
    ),
    views={OWN: View(tuple(LABELS), find_recordings)},
)
