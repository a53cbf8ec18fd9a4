"""Checks that the Python environment is as set-up left it. tools/setup.sh calls it at every start, so it must be fast.

    python environment.py VENV [--dev]      exits with 0 if it is, with 3 if set-up has something to do

Only the standard library is imported, because any package may be damaged.
"""

import base64
import csv
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_WHOLE = 3  # exit status


class Environment:
    """A virtual environment and the record of what set-up installed there.

    The record holds a hash of what the environment depends on and, of each distribution that the project needs, a hash
    of its RECORD: the list of its files with their sizes and hashes, which every installer writes.
    """

    def __init__(self, folder: Path, developer: bool):
        folder = Path(os.path.realpath(folder))  # one environment, whatever links lead to it
        self.folder = folder
        self.developer = developer
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.stamp = folder / ".wheeltapper-setup"
        self.started = folder / ".wheeltapper-setup-started"
        self.locks: tuple[int, ...] = ()  # descriptors that a process at work here must hold
        self.is_own = folder == ROOT / ".venv"

    def state(self) -> str:
        """Hash of what the environment depends on: pins, Python, and the folders, since an editable install points at
        the checkout and scripts name their interpreter."""
        hasher = hashlib.sha256(f"{ROOT}\n{self.folder}\n{sys.version_info[:2]}\n".encode())
        for name in ("pyproject.toml", "tools/constraints.txt"):
            hasher.update((ROOT / name).read_bytes())
        return hasher.hexdigest()

    def read_stamp(self) -> dict:
        """What ``write_stamp`` recorded; empty where there is nothing that can be read."""
        try:
            stamp = dict(json.loads(self.stamp.read_text(encoding="utf-8")))
            records = dict(stamp["records"])
        except (OSError, ValueError, TypeError, KeyError):
            return {}
        return stamp if records and all(isinstance(value, str) for value in records.values()) else {}

    def write_stamp(self, distributions: Iterable[Path]) -> None:
        """Records that set-up is complete.

        Args:
            distributions: metadata folders of what the project needs; those outside the environment are left out.
        """
        records = {
            place.relative_to(self.folder).as_posix(): _sha256(place / "RECORD").hexdigest()
            for place in distributions
            if place.is_relative_to(self.folder)
        }
        content = {"state": self.state(), "developer": self.developer, "records": records}
        temporary = self.stamp.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        os.replace(temporary, self.stamp)

    def problems(self) -> list[str]:
        """What a set-up has to do here, in words; empty where nothing is."""
        stamp = self.read_stamp()
        if not stamp:
            return ["not set up"]
        if stamp.get("state") != self.state():
            return ["set up for other versions, another Python or another folder"]
        if not (self.folder / "pyvenv.cfg").is_file():
            return ["pyvenv.cfg is gone"]
        records = {self.folder / name: digest for name, digest in stamp.get("records", {}).items()}
        damage = self.damaged(records, records)
        if not damage and self.developer and not stamp.get("developer"):
            return ["set up without the developer's tools"]
        return [f"{distribution_name(place)}: {reason}" for place, reason in damage.items()]

    def damaged(self, places: Iterable[Path], hashes: Mapping[Path, str] | None = None) -> dict[Path, str]:
        """The distributions whose files are not as their own RECORD has them, and why.

        Args:
            places: metadata folders.
            hashes: expected SHA-256 of the RECORD of each.
        """
        since = self.stamp.stat().st_mtime if self.stamp.is_file() else 0.0
        found = {}
        for place in places:
            try:
                record = (place / "RECORD").read_bytes()
            except OSError:
                found[place] = f"{place.name}/RECORD is gone"
                continue
            if hashes and hashlib.sha256(record).hexdigest() != hashes[place]:
                found[place] = f"{place.name}/RECORD was changed"
            elif reason := _damage(place.parent, record.decode("utf-8", "replace"), since):
                found[place] = reason
        return found


def distribution_name(place: Path) -> str:
    """Normal name of the distribution that a metadata folder (NAME-VERSION.dist-info) belongs to."""
    return place.name.removesuffix(".dist-info").rpartition("-")[0].lower().replace("_", "-").replace(".", "-")


def _sha256(path: Path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256")


def _damage(site: Path, record: str, since: float) -> str:
    """Why the files of a RECORD are not as installed; empty where they are. Sizes are compared, contents only of files
    that are newer than ``since``, in seconds."""
    root = str(site)
    rows = csv.reader(record.splitlines()) if '"' in record else (line.split(",") for line in record.splitlines())
    for row in rows:
        if len(row) != 3 or not row[2].isdigit():  # bytecode, and RECORD itself
            continue
        try:
            status = os.stat(f"{root}/{row[0]}")
        except OSError:
            return f"{row[0]} is gone"
        if row[0].startswith("../../../bin/") and not status.st_mode & 0o100:
            return f"{row[0]} is no program any more"
        if status.st_size != int(row[2]):
            return f"{row[0]} has {status.st_size} bytes, not {row[2]}"
        if status.st_mtime > since and row[1].startswith("sha256="):
            digest = base64.urlsafe_b64encode(_sha256(site / row[0]).digest()).rstrip(b"=").decode()
            if digest != row[1].removeprefix("sha256="):
                return f"{row[0]} was changed"
    return ""


if __name__ == "__main__":
    sys.exit(NOT_WHOLE if Environment(Path(sys.argv[1]), "--dev" in sys.argv[2:]).problems() else 0)
