"""Stages: what a recipe runs, skips and resumes; atomic files; the record of a run.

A stage is done when its marker exists, says the same fingerprint (settings and inputs) and every file that it wrote
is still there with the same content. The marker is written last, so that a killed stage is never taken for a finished
one.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system import __version__
from system.errors import WheeltapperError
from system.files import TEMPORARY, file_hash, open_atomic, read_json, write_json
from system.record import run_record

MARKERS = "stages"
FORMAT = 2  # of the files that stages leave; those of another format are made again


@dataclass
class Stage:
    """One step of a recipe.

    Args:
        number, name: as run.sh counts and names it.
        exp: experiment folder; the stage writes below it.
        settings: the part of the configuration that this stage depends on (JSON-able); a change makes it run again.
        reads: input files. Their content is part of the fingerprint.
        watch: a cheap signature of what is too large to hash at each start (see ``tree_signature``), taken when the
            stage has finished; it is no longer complete when the signature changes.
        partly: input files of which only a part counts; that part's hash stands in ``settings``.
        owns: folders or files below ``exp`` that belong to this stage alone: emptied before it starts afresh.
        discards: files that only serve to resume: removed once the stage is on record.
    """

    number: int
    name: str
    exp: Path
    settings: dict[str, Any]
    reads: list[Path] = field(default_factory=list)
    watch: Callable[[], str] = str
    owns: list[str] = field(default_factory=list)
    partly: list[Path] = field(default_factory=list)
    discards: list[Path] = field(default_factory=list)

    @property
    def marker(self) -> Path:
        return self.exp / MARKERS / f"{self.number}_{self.name}.json"

    @property
    def started(self) -> Path:
        return self.exp / MARKERS / f".{self.number}_{self.name}.started"

    def fingerprint(self) -> str:
        """Hash of settings, inputs and program version; raises where an input is missing."""
        state = {
            "version": __version__,
            "format": FORMAT,
            "settings": self.settings,
            "reads": {_relative(path, self.exp): file_hash(path) for path in self.reads},
        }
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    def is_complete(self) -> bool:
        """Whether an earlier run of the same settings and inputs finished and its files are still there."""
        if not self.marker.is_file():
            return False
        try:
            record = dict(read_json(self.marker))
        except (WheeltapperError, TypeError, ValueError):
            return False  # a damaged marker says nothing: the stage runs again
        if record.get("fingerprint") != self.fingerprint() or record.get("watched") != self.watch():
            return False
        sizes, hashes = record.get("writes", {}), record.get("sha256", {})
        paths = {name: self.exp / name for name in sizes}
        if not all(path.is_file() and path.stat().st_size == sizes[name] for name, path in paths.items()):
            return False
        return all(name not in hashes or file_hash(path) == hashes[name] for name, path in paths.items())

    def run(self, work: Callable[[], Iterable[Path]], say: Callable[[str], None] = print) -> bool:
        """Runs ``work`` unless the stage is complete; returns whether it ran.

        ``work`` returns the files it wrote. A stage that was cut off with the same fingerprint finds its files as
        they were left and may resume from them; any other start begins with what the stage owns removed.
        """
        inputs = _listing([*self.partly, *self.reads], self.exp)
        say(f"stage {self.number} {self.name}: reads {inputs or 'no earlier stage'}")
        fingerprint = self.fingerprint()
        if self.is_complete():
            self._discard()  # what a run left that was killed right after it had written the marker
            say(f"stage {self.number} {self.name}: complete, nothing to do")
            return False
        resumes = self.started.is_file() and self.started.read_text() == fingerprint
        self.marker.unlink(missing_ok=True)
        if not resumes:
            self.started.unlink(missing_ok=True)  # first, so that a half-cleared stage is never taken up
            self._clear()
            with open_atomic(self.started) as file:
                file.write(fingerprint)
        else:
            say(f"stage {self.number} {self.name}: taking up what an interrupted run left")
        self._sweep()
        begin = time.monotonic()
        writes = [Path(path) for path in work()]
        seconds = time.monotonic() - begin
        write_json(
            self.marker,
            {
                "fingerprint": fingerprint,
                "settings": self.settings,
                "reads": [_relative(path, self.exp) for path in self.reads],
                "writes": {_relative(path, self.exp): path.stat().st_size for path in writes},
                "sha256": {_relative(path, self.exp): file_hash(path) for path in writes},
                "watched": self.watch(),
                "seconds": round(seconds, 1),
                **run_record(),
            },
        )
        self._discard()
        say(f"stage {self.number} {self.name}: wrote {_listing(writes, self.exp) or 'nothing'} in {seconds:.1f} s")
        return True

    def _discard(self) -> None:
        for path in (self.started, *self.discards):
            path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Removes what killed runs left half-written (see ``open_atomic``) where this stage writes."""
        found = [*self.exp.glob(".*.tmp"), *self.marker.parent.glob(".*.tmp")]
        for name in self.owns:
            found += (self.exp / name).rglob(".*.tmp")
        for path in found:
            if TEMPORARY.fullmatch(path.name) and path.is_file():
                path.unlink()

    def _clear(self) -> None:
        for name in self.owns:
            path = self.exp / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _relative(path: Path, root: Path) -> str:
    path, root = Path(path).resolve(), Path(root).resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _listing(paths: list[Path], root: Path) -> str:
    names = [_relative(path, root) for path in paths]
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
