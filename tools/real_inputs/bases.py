"""Finished runs that cases share; each is made at its first use, and copied by a case that changes it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from real_inputs import sounds
from real_inputs.program import Ended, run

SPECTRUM = {
    "threads": 1,
    "branches": {"lines": {"inputs": ["near", "far"], "spectrum": {"bands": 64}, "scorer": {"name": "knn"}}},
    "systems": [{"name": "lines", "weights": {"lines": 1.0}}],
    "evaluate": {"bootstrap": 20},
}
LOOP = {"steps": 3, "batch_size": 4, "warmup_steps": 1, "log_every": 1, "save_every": 1}
ENCODER = {
    "threads": 1,
    "encoder": {"family": "fisher", "size": "nano", "checkpoint": "default"},
    "pretrain": {"loop": {"steps": 0}},
    "branches": {
        "main": {"pool": "band", "crop_seconds": 1.0, "loop": LOOP},
        "aux": {"depth": 2, "pool": "band", "crop_seconds": 1.0, "loop": LOOP, "scorer": {"name": "knn"}},
    },
    "systems": [
        {"name": "near", "abbreviation": "near", "view": "near_only", "weights": {"main": 0.8, "aux": 0.2}},
        {"name": "both", "abbreviation": "both", "view": "two_channel", "weights": {"main": 0.8, "aux": 0.2}},
    ],
    "evaluate": {"bootstrap": 20},
    "benchmark": {"runs": 2, "min_clips": 3},
}
SMALL = {"mill": (10, 4, 3, 3)}


class Bases:
    """Shared runs and recordings below a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self._made: dict[str, Path | Exception] = {}

    def conf(self, content: dict = SPECTRUM, name: str = "spectrum") -> Path:
        """A configuration as a file."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """A folder that a function fills once; its error is every later user's too."""
        if name not in self._made:
            place = self.folder / "bases" / name
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            try:
                make(place)
                self._made[name] = place
            except Exception as error:
                self._made[name] = error
        found = self._made[name]
        if isinstance(found, Exception):
            raise found
        return found

    @property
    def recordings(self) -> Path:
        """The steady mill in both domains, 24 and 8 references of 4 s, and a second machine."""
        machines = {"mill": (24, 8, 4, 3), "saw": (10, 4, 2, 2)}
        return self.once("recordings", lambda place: sounds.corpus(place, machines))

    @property
    def small(self) -> Path:
        """The mill alone, 10 and 4 references of 1 s."""
        return self.once("small", lambda place: sounds.corpus(place, SMALL, seconds=1.0))

    @property
    def steady(self) -> Path:
        """A run of spectra on ``recordings``, to the report."""
        return self.finished("steady", self.conf(), lambda: self.recordings)

    @property
    def toy(self) -> Path:
        """A run of the included encoder, adapted in three steps, on ``small``, to the report."""
        return self.finished("toy", self.conf(ENCODER, "encoder"), lambda: self.small)

    def finished(self, name: str, conf: Path, data: Callable[[], Path], last: int = 9) -> Path:
        """A run of all stages up to one, on recordings."""

        def make(place: Path) -> None:
            ended = run("run", "--exp", place, "--conf", conf, "--data", data(), "--stop-stage", last)
            (place / "told.txt").write_text(ended.text)
            if ended.status:
                raise RuntimeError(f"the shared run {name} failed: {ended.text[-800:]}")

        return self.once(name, make)

    def told(self, place: Path) -> Ended:
        """What a shared run said."""
        return Ended(0, (place / "told.txt").read_text(), "")
