"""Example of a corpus: writes a manifest for a folder of files such as ``pump3 2024-05-01 ok.wav``.

python my_corpus.py FOLDER manifest.csv; then wheeltapper run --exp EXP --conf CONF --data manifest.csv
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from system import manifest
from system.audio import list_files
from system.corpora.inspection import inspect
from system.errors import WheeltapperError
from system.manifest import Clip

NAME = re.compile(r"(?P<machine>\w+) (?P<day>[\d-]+)(?P<number> \d+)? (?P<state>ok|fault)")
LEARNED_UNTIL = "2024-06"  # later recordings are for testing
MOVED = "2024-04"  # the machines moved to a new hall on this day


def clips(folder: Path) -> Iterator[Clip]:
    """Returns one clip per recording, with machine, split, label and domain."""
    for path in list_files(folder):
        found = NAME.fullmatch(path.stem)
        if found is None:
            raise WheeltapperError(f"{path}: expected a name such as 'pump3 2024-05-01 ok.wav'")
        early, sound = found["day"] < LEARNED_UNTIL, inspect(path)
        if early and found["state"] == "fault":
            continue  # faults are never used for training
        yield Clip(
            corpus="mill",
            machine=found["machine"],
            section="00",
            split="train" if early else "test",
            file=path.name,
            path=str(path),
            label="normal" if found["state"] == "ok" else "anomaly",
            domain="source" if found["day"] < MOVED else "target",
            attributes=f"month_{found['day'][:7]}",
            group=found["machine"] + found["day"],  # splits keep recordings of one day together
            channels=sound.channels,
            rate=sound.rate,
            samples=sound.samples,
            digest=sound.digest,
        )


if __name__ == "__main__":
    manifest.write(sys.argv[2], clips(Path(sys.argv[1])))
