"""The smallest run through all stages with every kind of branch, in processes of its own, and what to compare it by."""

import csv
import io
import json
import shutil
from pathlib import Path

import yaml
from fork_server import Ended, Server

ZIP = "Wheeltapper_Demo_task2.zip"
LOOP = {"steps": 4, "batch_size": 2, "warmup_steps": 1, "log_every": 1, "save_every": 1}
CONF = {
    "data": {"synthetic": "tiny"},
    "threads": 1,
    "encoder": {"family": "fisher", "size": "nano", "checkpoint": "default"},
    "pretrain": {"loop": LOOP, "crop_seconds": 0.5, "mask": {"clones": 2}, "decoder": {"dim": 32, "layers": 1}},
    "branches": {
        "main": {"crop_seconds": 0.5, "loop": LOOP, "scorer": {"name": "mahalanobis"}},
        "frozen": {"shares": "main", "readout": "mean", "scorer": {"name": "knn"}},
        "box": {
            "autoencoder": {"epochs": 2, "batch": 256, "hidden": [12], "bottleneck": 4, "folds": 2, "score": "residual"}
        },
        "lines": {"inputs": ["residual"], "spectrum": {"bands": 32}, "scorer": {"name": "knn"}},
    },
    "systems": [
        {"name": "all", "view": "two_channel", "weights": {"main": 0.4, "frozen": 0.2, "box": 0.2, "lines": 0.2}},
        {"name": "network", "abbreviation": "network", "view": "near_only", "weights": {"main": 1.0}},
    ],
    "evaluate": {"bootstrap": 20},
    "benchmark": {"runs": 2, "min_clips": 3},
}
# Nothing is learned in this one: what does not hang on networks is tried with it.
QUICK = {
    "data": {"synthetic": "tiny"},
    "threads": 1,
    "branches": {"lines": {"inputs": ["residual"], "spectrum": {"bands": 32}, "scorer": {"name": "knn"}}},
    "systems": [{"name": "lines", "weights": {"lines": 1.0}}],
    "evaluate": {"bootstrap": 20},
}
# Columns and keys that hold times, and files that hold little else.
TIMES = {"seconds", "clips_per_second"}
TIMED = ("report.html", "tensorboard", ".lock")


def write_conf(folder: Path, conf: dict = CONF, **changes) -> Path:
    """A configuration, with other values of whole top-level keys."""
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(conf | changes))
    return path


class Reference:
    """An uninterrupted run and what is there before each of its stages, for others to be compared with it.

    All runs lie at the same place, ``exp``: the manifest names the recordings by their whole paths.
    """

    def __init__(self, folder: Path, server: Server, conf: Path):
        self.folder, self.server, self.conf, self.exp = folder, server, conf, folder / "exp"
        self.events, self.finished = folder / "events.json", folder / "finished"
        options = {"exp": str(self.exp), "record": str(self.events), "keep": str(self.before("{}"))}
        whole = self.run(hook=["kill_points", options])
        if whole.status:
            raise RuntimeError(f"the uninterrupted run failed: {whole.told}")
        self.expected = results(self.exp)
        copy(self.exp, self.finished)

    def before(self, stage: int | str) -> Path:
        return self.folder / f"before_{stage}"

    def seconds(self, stage: int) -> float:
        """How long a stage took."""
        return json.loads(next((self.finished / "stages").glob(f"{stage}_*.json")).read_text())["seconds"]

    def run(self, first: int = 0, last: int = 9, *more: str, **options) -> Ended:
        """Runs stages in the experiment folder."""
        return self.server.run(*recipe(self.exp, self.conf, first, last, *more), **options)

    def differences(self) -> list[str]:
        """How what is in the experiment folder differs from the uninterrupted run's results."""
        return differences(results(self.exp), self.expected)


def recipe(exp: Path, conf: Path, first: int = 0, last: int = 9, *options: str) -> list[str]:
    """Arguments of the command line that runs stages."""
    return ["run", "--exp", str(exp), "--conf", str(conf), f"--stage={first}", f"--stop-stage={last}", *options]


def copy(source: Path, place: Path) -> None:
    """Puts a copy, times of modification included, in the place of a folder."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place, copy_function=shutil.copy2)


def results(exp: Path) -> dict[str, bytes]:
    """All files of a run by name, without what tells time and memory: times in CSVs and records, the report's text."""
    found = {}
    for path in sorted(path for path in exp.rglob("*") if path.is_file()):
        name = path.relative_to(exp).as_posix()
        if any(part in name for part in TIMED):
            if path == exp / "report.html":
                found[name] = b"there"
            continue
        found[name] = _timeless(path)
    return found


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    if path.parent.name == "stages" and path.suffix == ".json":
        record = json.loads(data)
        return json.dumps([record["settings"], sorted(record["writes"])]).encode()
    if path.name == "compliance.json":
        record = json.loads(data)
        return json.dumps([record["passed"], record["rules"]]).encode()
    if path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(data.decode())))
        kept = [number for number, name in enumerate(rows[0]) if name not in TIMES]
        return "\n".join(",".join(row[number] for number in kept) for row in rows).encode()
    return data


def differences(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Names of files that are missing, left over or of another content."""
    lost = [f"{name} is missing" for name in expected if name not in found]
    more = [f"{name} was left behind" for name in found if name not in expected]
    other = [f"{name} differs" for name in expected if name in found and found[name] != expected[name]]
    return lost + more + other
