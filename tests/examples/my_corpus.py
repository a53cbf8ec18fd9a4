"""A corpus of one's own: one folder of files such as ``pump3 2024-05-01 ok.wav``, to a manifest.

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
LEARNED_UNTIL = "2024-06"  # recordings of later days are the test
MOVED = "2024-04"  # from here on the machines stood in the new hall


def clips(folder: Path) -> Iterator[Clip]:
    """One clip a recording: whose it is, whether it is learned from, and what is known of it."""
    for path in list_files(folder):
        found = NAME.fullmatch(path.stem)
        if found is None:
            raise WheeltapperError(f"{path}: expected a name such as 'pump3 2024-05-01 ok.wav'")
        early, sound = found["day"] < LEARNED_UNTIL, inspect(path)
        if early and found["state"] == "fault":
            continue  # nothing is ever learned from faults
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
            group=found["machine"] + found["day"],  # recordings of one day stay together where clips are split
            channels=sound.channels,
            rate=sound.rate,
            samples=sound.samples,
            digest=sound.digest,
        )


if __name__ == "__main__":
    manifest.write(sys.argv[2], clips(Path(sys.argv[1])))
