"""Stages: what a recipe runs, skips and resumes; atomic files; the record of a run.

A stage is done when its marker exists, says the same format, settings and inputs, and every file that it wrote is still
there with the same content. The marker is written last, so that a killed stage is never taken for a finished one.

Inputs count by their content, and by their name below the experiment or their role: neither the place of the
experiment, of the program or of the weights, nor the program's version makes a finished run an unfinished one.
"""

import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system import __version__
from system.errors import WheeltapperError
from system.files import TEMPORARY, file_hash, file_hashes, open_atomic, read_json, write_json
from system.record import run_record

MARKERS = "stages"
# Of what stages leave: raised with every change of the program after which a stage leaves something else. Stages of
# another format run again.
FORMAT = 3
FORMER = 2  # whose stages left the same, but whose records have one hash for settings, inputs and version
PLACES = ("checkpoint",)  # settings that say where an input lies, which counts by its content
# Settings of a training loop that say how it is computed and watched, not what comes out.
LOOP_FREE = ("accumulate", "checkpointing", "workers", "log_every", "save_every")
COMPUTED_ON = ("device", "threads", "embed.batch_size")  # whole keys of which the same is true


@dataclass
class Stage:
    """One step of a recipe.

    Args:
        number, name: as run.sh counts and names it.
        exp: experiment folder; the stage writes below it.
        settings: the part of the configuration that this stage depends on (JSON-able); a change makes it run again.
        reads: files of earlier stages.
        given: input files that no stage writes, such as weights: what finds each, by its role. They count by their
            content alone, and may be gone once the stage is complete.
        watch: a cheap signature of what is too large to hash at each start (see ``tree_signature``), taken when the
            stage has finished; it is no longer complete when the signature changes.
        partly: input files of which only a part counts; that part's hash stands in ``settings``.
        owns: folders or files below ``exp`` that belong to this stage alone: emptied before it starts afresh.
        discards: files or folders that only serve to resume: removed once the stage is on record.
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
    given: dict[str, Callable[[], Path]] = field(default_factory=dict)

    @property
    def marker(self) -> Path:
        return self.exp / MARKERS / f"{self.number}_{self.name}.json"

    @property
    def started(self) -> Path:
        return self.exp / MARKERS / f".{self.number}_{self.name}.started"

    def depends_on(self) -> dict[str, Any]:
        """Format, settings and inputs by their content; raises WheeltapperError where an input is missing."""
        found = {role: find() for role, find in self.given.items()}
        for role, path in found.items():
            if not path.is_file():
                raise WheeltapperError(f"{path}: expected a file ({role}), found nothing; put it back there")
        return {
            "format": FORMAT,
            "settings": json.loads(json.dumps(self.settings)),
            "reads": dict(
                zip((_relative(path, self.exp) for path in self.reads), file_hashes(self.reads), strict=True)
            ),
            "given": {role: {"file": _place(path), "sha256": file_hash(path)} for role, path in found.items()},
        }

    def fingerprint(self) -> str:
        """Hash of what the stage depends on; raises WheeltapperError where an input is missing."""
        return _fingerprint(self.depends_on())

    def record(self) -> dict[str, Any]:
        """The content of the marker; empty where there is none or it is damaged."""
        try:
            return dict(read_json(self.marker))
        except (WheeltapperError, TypeError, ValueError):
            return {}

    def is_complete(self) -> bool:
        """Whether an earlier run of the same settings and inputs finished and its files are still there."""
        return not self.problem()

    def problem(self) -> str:
        """What keeps the stage from being complete, in the words of a message; empty where nothing does."""
        record = self.record()
        if not record:
            return "it not finished"
        form = record.get("format", FORMER)
        if form not in (FORMAT, FORMER):
            return f"results of format {form} of {_version(record)}; this program's is {FORMAT}"
        known = True
        try:
            if form == FORMER:
                record, known = self._renewed(record)
            changed = self._changed(record) or ("" if known else "inputs")
        except (AttributeError, KeyError, TypeError):
            return "a damaged record of it"
        if not changed and record.get("watched") != self.watch():
            changed = "recordings"
        return f"other settings, inputs or files than it left ({changed})" if changed else ""

    def made_by_another(self) -> str:
        """A note where the stage was completed by another version of the program; empty otherwise."""
        version = _version(self.record())
        return "" if version == __version__ else f"made by {version}, this is {__version__}; same format"

    def _changed(self, record: Mapping[str, Any]) -> str:
        """The first setting or file that differs from the record; empty where none does."""
        settings = json.loads(json.dumps(self.settings))
        if key := _difference(record["settings"], settings):
            return key
        reads = {_relative(path, self.exp): path for path in self.reads}
        for name in {**record["reads"], **reads}:
            if not _is_content(reads.get(name), record["reads"].get(name)):
                return name
        for role in {**record["given"], **self.given}:
            path = _found(self.given[role]) if role in self.given else None
            # Where it lay elsewhere before, its content cannot be known to be the same.
            gone = role in self.given and path is None and record["settings"] == settings
            if role not in record["given"] or not (gone or _is_content(path, record["given"][role]["sha256"])):
                return role
        writes = {name: self.exp / name for name in record["writes"]}
        for name, path in writes.items():
            if not path.is_file() or path.stat().st_size != record["writes"][name]:
                return name
        hashes = zip(writes, file_hashes(writes.values()), strict=True)
        return next((name for name, found in hashes if found != record["sha256"][name]), "")

    def _renewed(self, record: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """A record of the former format with the inputs as they are now; whether its one hash is of these."""
        found = {role: _found(find) for role, find in self.given.items()}
        given = {role: file_hash(path) if path else "" for role, path in found.items()}
        inside = [name for name in record["reads"] if not os.path.isabs(name)]
        outside = [name for name in record["reads"] if name not in inside]  # where the given files were
        reads = {name: file_hash(self.exp / name) if (self.exp / name).is_file() else "" for name in inside}
        state = {"version": _version(record), "format": FORMER, "settings": record["settings"]}
        known = "" in given.values() or any(
            record["fingerprint"] == _digest(state | {"reads": reads | dict(zip(outside, hashes, strict=True))})
            for hashes in itertools.product(set(given.values()), repeat=len(outside))
        )
        own = [_relative(path, self.exp) for path in self.reads]  # without the given files below the experiment
        renewed = {
            "reads": {name: reads.get(name, "") for name in own},
            "given": {role: {"sha256": digest} for role, digest in given.items()},
        }
        return {**record, **renewed}, known

    def run(self, work: Callable[[], Iterable[Path]], say: Callable[[str], None] = print) -> bool:
        """Runs ``work`` unless the stage is complete; returns whether it ran.

        ``work`` returns the files it wrote. A stage that was cut off with the same fingerprint finds its files as
        they were left and may resume from them; any other start begins with what the stage owns removed.
        """
        inputs = _listing([*self.partly, *self.reads, *filter(None, map(_found, self.given.values()))], self.exp)
        say(f"stage {self.number} {self.name}: reads {inputs or 'no earlier stage'}")
        if self.is_complete():
            self._discard()  # what a run left that was killed right after it had written the marker
            note = self.made_by_another()
            say(f"stage {self.number} {self.name}: complete, nothing to do{f' ({note})' * bool(note)}")
            return False
        state = self.depends_on()
        self._check_links()
        fingerprint = _fingerprint(state)
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
        names = [_relative(path, self.exp) for path in writes]
        write_json(
            self.marker,
            {
                **state,
                "writes": {name: path.stat().st_size for name, path in zip(names, writes, strict=True)},
                "sha256": dict(zip(names, file_hashes(writes), strict=True)),
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
            if path.exists():  # a disk that is read-only forbids to remove what is not there, too
                _remove(path)

    def _sweep(self) -> None:
        """Removes what killed runs left half-written (see ``open_atomic``) where this stage writes."""
        found = [*self.exp.glob(".*.tmp"), *self.marker.parent.glob(".*.tmp")]
        for name in self.owns:
            found += (self.exp / name).rglob(".*.tmp")
        for path in found:
            if TEMPORARY.fullmatch(path.name) and path.is_file():
                path.unlink()

    def _check_links(self) -> None:
        """Raises WheeltapperError where a folder or file of this stage is a link to nothing, as to a disk not there."""
        for path in (self.exp / name for name in self.owns):
            if path.is_symlink() and not path.exists():
                raise WheeltapperError(
                    f"{path}: expected a place for the results of stage {self.number} {self.name}, found a link to "
                    f"{path.readlink()}, where nothing is; make that or remove the link"
                )

    def _clear(self) -> None:
        for path in (self.exp / name for name in self.owns):
            if path.is_symlink() and path.is_dir():  # to another disk: the link stays
                for inner in path.iterdir():
                    _remove(inner)
            else:
                _remove(path)


def _fingerprint(state: dict[str, Any]) -> str:
    by_content = state | {"given": {role: given["sha256"] for role, given in state["given"].items()}}
    return _digest(by_content)


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _relative(path: Path, root: Path) -> str:
    """Name of a path below ``root``, through links too; the absolute path of any other."""
    for find in (os.path.abspath, os.path.realpath):
        if (own := Path(find(path))).is_relative_to(find(root)):
            return own.relative_to(find(root)).as_posix()
    return os.path.realpath(path)


def _place(path: Path) -> str:
    """Where an input lies: below the program's own folder, or in the machine."""
    return _relative(path, Path(__file__).parents[1])


def _found(find: Callable[[], Path]) -> Path | None:
    try:
        path = find()
    except WheeltapperError:
        return None
    return path if path.is_file() else None


def _is_content(path: Path | None, digest: str | None) -> bool:
    return path is not None and path.is_file() and file_hash(path) == digest


def _difference(before: Any, now: Any, key: str = "") -> str:
    """The first key of nested mappings whose values differ; empty where none does.

    ``PLACES`` do not count, nor ``LOOP_FREE`` and ``COMPUTED_ON``, which records of earlier versions hold.
    """
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return "" if before == now else key or "settings"
    for name in {**before, **now}:
        inner = f"{key}.{name}" if key else str(name)
        if name in LOOP_FREE or inner in COMPUTED_ON or (name in PLACES and before.get(name) and now.get(name)):
            continue
        both = name in before and name in now
        if found := _difference(before[name], now[name], inner) if both else inner:
            return found
    return ""


def _version(record: Mapping[str, Any]) -> str:
    return str(dict(record.get("versions") or {}).get("wheeltapper", "an unknown version"))


def _listing(paths: list[Path], root: Path) -> str:
    names = [_relative(path, root) for path in paths]
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
