"""A finished run with all that belongs to it, for the tests of runs that are moved."""

import contextlib
import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from system.bin import main
from system.files import read_json, write_json

RATE, SEED = 8000, 5
NETWORK = {"crop_seconds": 0.5, "loop": {"steps": 1, "batch_size": 2, "warmup_steps": 1}, "embedding_dim": 8}


def settings(weights: Path) -> dict:
    own = {"family": "fisher", "size": "nano", "checkpoint": str(weights)}
    return {
        "data": {"rate": RATE, "folder": str(weights.parent)},
        "encoder": {"family": "fisher", "size": "nano", "checkpoint": "default"},
        "pretrain": {"loop": {"steps": 0}},
        "branches": {
            "net": NETWORK | {"scorer": {"name": "knn"}},
            "own": NETWORK | {"encoder": own, "scorer": {"name": "mahalanobis"}},
            "low": {"spectrum": {"merge": 32}, "scorer": {"name": "mahalanobis"}},
        },
        "systems": [{"view": "two_channel", "weights": {"net": 1, "own": 1, "low": 1}}],
        "evaluate": {"bootstrap": 0},
    }


class Place:
    """A run with all that belongs to it, each in a folder of its own.

    Args:
        folder: to which all was copied.
        scores: of ``news``, by file name, before anything was moved.
    """

    def __init__(self, folder: Path, scores: dict[str, str]):
        self.folder, self.expected = folder, scores
        self.exp, self.recordings, self.weights = folder / "exp", folder / "data", folder / "own.safetensors"
        self.news = folder / "new"

    def scores(self, *options: str | Path, exp: str | Path = "") -> dict[str, str]:
        out = self.folder / "scores.csv"
        command = ["score", "--exp", str(exp or self.exp), str(self.news), "--csv", str(out), *map(str, options)]
        assert main(command) == 0
        return read_scores(out)

    def configure(self, **changes: object) -> None:
        path = self.exp / "config.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    def own_checkpoint(self, path: Path) -> None:
        conf = yaml.safe_load((self.exp / "config.yaml").read_text())
        conf["branches"]["own"]["encoder"]["checkpoint"] = str(path)
        self.configure(branches=conf["branches"])


def read_scores(path: Path) -> dict[str, str]:
    with open(path, newline="", encoding="utf-8") as file:
        return {Path(row["file"]).name: row["score"] for row in csv.DictReader(file)}


@contextlib.contextmanager
def hidden(*paths: Path) -> Iterator[None]:
    """Paths that are not there while the block runs."""
    for path in paths:
        path.rename(path.with_name(f"{path.name} away"))
    try:
        yield
    finally:
        for path in paths:
            path.with_name(f"{path.name} away").rename(path)


def make_former(exp: Path, weights: dict[str, Path]) -> None:
    """Rewrites the records as the program before this format wrote them."""
    for path in (exp / "stages").glob("*.json"):
        record = read_json(path)
        given = {f"/former/{weights[role]}": own["sha256"] for role, own in record.pop("given").items()}
        state = {
            "version": record["versions"]["wheeltapper"],
            "format": record.pop("format") - 1,
            "settings": record["settings"],
            "reads": record["reads"] | given,
        }
        text = json.dumps(state, sort_keys=True)
        record |= {"reads": list(state["reads"]), "fingerprint": hashlib.sha256(text.encode()).hexdigest()}
        write_json(path, record)


WEIGHTS = {"encoder": Path("default.safetensors"), "branches.own.encoder": Path("own.safetensors")}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
