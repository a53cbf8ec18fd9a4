"""A folder of embeddings of any recordings, which processes and jobs fill together, each with its share.

| file | what it holds |
|---|---|
| record.json | what made the rows, the same for all: encoder, weights, settings |
| embeddings.npy, index.csv | the result: rows float32 (N, D), and the file and content hash of each |
| failed.csv | recordings that could not be embedded, and why |
| rows/ | rows by content hash (``EmbeddingStore``) |
| seen/ | what each process found of its recordings: size, time of change, content hash or problem |

A recording is embedded once for each content, whatever its name. The process that ends last writes the result.
"""

import contextlib
import csv
import json
import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from system import audio, locks
from system.batching import choose_batch_size
from system.corpora.inspection import inspect_all
from system.embeddings.embed import embed_files
from system.embeddings.precision import choose_precision, set_precision
from system.embeddings.recordings import rate_problem, relative_name
from system.embeddings.store import Appender, EmbeddingStore, remove_unless_held
from system.encoders.base import Encoder
from system.encoders.checkpoints import weights_hash
from system.errors import WheeltapperError
from system.files import CODING, lock, open_atomic, printable, read_json, write_json
from system.manifest import Clip
from system.parallel import map_in_order
from system.record import run_record
from system.resampling import official_name

RECORD, ARRAY, INDEX, FAILED = "record.json", "embeddings.npy", "index.csv", "failed.csv"
ROWS, SEEN = "rows", "seen"
BLOCK = 16  # batches of each worker that are embedded between two looks at the disk
COLUMNS = ("path", "bytes", "changed", "digest", "problem")
PAUSE = 0.5  # seconds between two tries to hold the folder

State = tuple[str, int, int]  # path, bytes, time of change in ns


@dataclass(frozen=True)
class Settings:
    """How an embedding is made from a recording, see ``embed_files``."""

    mode: str = "official"
    pool: str = ""
    pool_power: float = 0.0
    layer: int = 0
    rate: int = 0
    device: str = "cpu"
    precision: str = "auto"
    batch_size: int = 0


class Outcome(NamedTuple):
    """Recordings that are embedded or cannot be, recordings in all, and shape (N, D) of the result, if it is there."""

    there: int
    total: int
    shape: tuple[int, ...] = ()


class Collection:
    """A folder of embeddings.

    Args:
        folder: of the embeddings; made if it is not there.
        encoder: with its weights.
        checkpoint: name of the weights, for the record.
        paths: all recordings of the result, sorted.
        root: folder to which their names in the result are relative.
        settings: of the embeddings.

    Raises:
        WheeltapperError: the folder holds embeddings of another encoder or of other settings.

    Example:
        >>> collection = Collection(Path("exp/sounds"), encoder, "default", paths, Path("recordings"), Settings())
        >>> problems = collection.fill(share=(0, 4), workers=2)
        >>> there, total, shape = collection.finish()
    """

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        checkpoint: str,
        paths: Sequence[Path],
        root: Path,
        settings: Settings,
    ):
        self.folder, self.encoder, self.paths, self.root, self.settings = folder, encoder, paths, root, settings
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):  # jobs on other processors, where auto is another precision, follow the first one
            known = _known_facts(folder / RECORD)
            self.facts = self._facts(known)
            if known:
                _check_same(folder, known, self.facts)
            else:
                write_json(folder / RECORD, {"facts": self.facts, "checkpoint": checkpoint, **run_record()})
        set_precision(encoder, self.facts["precision"])
        self.store = EmbeddingStore(folder / ROWS, "recordings", self.facts, [])

    def _facts(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What the rows depend on; of recordings of any rate also the rate that most of them have."""
        own, encoder = self.settings, self.encoder
        usual = 0
        if not (own.rate or encoder.rate):
            usual = known.get("usual_rate") or _usual_rate(self.paths)
        wanted = own.precision
        if wanted == "auto":
            wanted = known.get("precision", wanted)
        facts = {
            "encoder": encoder.family,
            "config": asdict(encoder.config),
            "weights": weights_hash(encoder),
            "filterbank": encoder.filterbank,
            "simam": encoder.simam,
            **{name: getattr(own, name) for name in ("mode", "pool", "pool_power", "layer", "rate")},
            "usual_rate": usual,
            "resampler": official_name(encoder.rate),
            "precision": choose_precision(wanted, own.device, encoder),
        }
        return dict(json.loads(json.dumps(facts)))  # as they are read again

    def fill(
        self,
        share: tuple[int, int] = (0, 1),
        workers: int = 1,
        begin: Callable[[int], None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Embeds what is missing of a share of the recordings.

        Args:
            share: number of the share, from 0, and of all.
            workers: recordings read and computed at once.
            begin: called with the number of recordings that are missing.
            progress: called with the number of recordings done since the last call.

        Returns:
            what is wrong with recordings that cannot be embedded; they are tried again in each run.
        """
        seen, stored = self._seen(), self.store.stored()
        mine = self.paths[share[0] :: share[1]]
        todo = [path for path in mine if seen.get(_state(path), ("", ""))[0] not in stored]
        if begin:
            begin(len(todo))
        problems = []
        size = BLOCK * workers * choose_batch_size(self.settings.batch_size, self.settings.device)
        with self._log() as told, self.store.appender() as rows:
            for start in range(0, len(todo), size):
                block = todo[start : start + size]
                problems += self._embed(block, stored, workers, told, rows)
                if progress:
                    progress(len(block))
        return problems

    def _embed(self, paths: Sequence[Path], stored: set[str], workers: int, told: IO[str], rows: Appender) -> list[str]:
        """Embeds recordings into the store and notes what was found of each; returns the problems."""
        wanted, usual = self.settings.rate or self.encoder.rate, self.facts["usual_rate"]
        states = [_state(path) for path in paths]
        sounds = inspect_all([str(path) for path in paths], workers)
        problems = {
            path: problem
            for path, sound in zip(paths, sounds, strict=True)
            if (problem := sound if isinstance(sound, str) else rate_problem(path, sound.rate, wanted, usual))
        }
        digests = {path: sound.digest for path, sound in zip(paths, sounds, strict=True) if not isinstance(sound, str)}
        digests = {path: digest for path, digest in digests.items() if path not in problems}
        fresh = {digest: path for path, digest in digests.items() if digest not in stored}
        failed = self._add(fresh, dict(zip(paths, states, strict=True)), workers, rows)
        stored |= fresh.keys() - failed.keys()
        problems |= {path: failed[digest] for path, digest in digests.items() if digest in failed}
        writer = csv.writer(told, lineterminator="\n")
        for path, state in zip(paths, states, strict=True):
            writer.writerow((*state, "" if path in problems else digests[path], problems.get(path, "")))
        told.flush()
        return list(problems.values())

    def _add(
        self, fresh: Mapping[str, Path], states: Mapping[Path, State], workers: int, file: Appender
    ) -> dict[str, str]:
        """Embeds recordings by content hash; returns the problem of each that failed. ``states``: before the hash."""
        if not fresh:
            return {}
        failed: dict[str, str] = {}
        try:
            rows = self._rows(list(fresh.values()), workers)
        except WheeltapperError as error:
            if len(fresh) == 1:
                return {next(iter(fresh)): str(error)}
            for digest, path in fresh.items():  # each by itself, so that one does not stop the others
                failed |= self._add({digest: path}, states, 1, file)
            return failed
        for (digest, path), row in zip(fresh.items(), rows, strict=True):
            if _state(path) == states[path]:
                file.append(bytes.fromhex(digest), row)
            else:  # the row may be that of another content
                failed[digest] = f"{path}: expected a recording, found one that changed while it was read"
        return failed

    def _rows(self, paths: list[Path], workers: int) -> np.ndarray:
        own = self.settings
        return embed_files(
            self.encoder, paths, own.mode, own.rate, workers, None, own.pool, own.pool_power, own.layer, own.device,
            own.batch_size,
        )  # fmt: skip

    def finish(self) -> Outcome:
        """Writes the result if no recording is missing and one of them is embedded."""
        with _alone(self.folder):
            seen, stored = self._seen(), self.store.stored()
            found = {path: seen.get(_state(path), ("", "")) for path in self.paths}
            embedded = {path: digest for path, (digest, _) in found.items() if digest in stored}
            failed = {path: text for path, (_, text) in found.items() if path not in embedded and text}
            there = len(embedded) + len(failed)
            if there < len(self.paths) or not embedded:
                return Outcome(there, len(self.paths))
            clips = [_clip(path, digest) for path, digest in embedded.items()]
            whole = EmbeddingStore(self.folder / ROWS, "recordings", self.facts, clips)
            shape = whole.finish().shape
            _link(whole.array, self.folder / ARRAY)
            self._write(INDEX, ("file", "digest"), embedded)
            self._write(FAILED, ("file", "problem"), failed)
            self._forget(seen)
        return Outcome(there, len(self.paths), shape)

    def _write(self, name: str, header: tuple[str, str], rows: Mapping[Path, str]) -> None:
        path = self.folder / name
        if not rows:
            path.unlink(missing_ok=True)
            return
        with open_atomic(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for recording, text in rows.items():
                writer.writerow((printable(relative_name(recording, self.root)), printable(text)))

    def _seen(self) -> dict[State, tuple[str, str]]:
        """Content hash or problem of recordings by their state; an embedding counts more than a problem."""
        found: dict[State, tuple[str, str]] = {}
        for path in sorted((self.folder / SEEN).glob("*.csv")):
            # Another process may have put several of these files together.
            with contextlib.suppress(FileNotFoundError), open(path, newline="", **_TEXT) as file:
                for row in csv.reader(file):
                    if len(row) == len(COLUMNS) and row[1].isdecimal() and row[2].lstrip("-").isdecimal():
                        state = (row[0], int(row[1]), int(row[2]))
                        if row[3] or state not in found:
                            found[state] = (row[3], row[4])
        return found

    @contextlib.contextmanager
    def _log(self) -> Iterator[IO[str]]:
        """A file of this process for what it finds."""
        path = self.folder / SEEN / f"{platform.node()}-{os.getpid()}-{time.time_ns():x}.csv"
        path.parent.mkdir(exist_ok=True)
        with open(path, "x", newline="", **_TEXT) as file:
            locks.hold(file)  # so that no other process removes it
            yield file

    def _forget(self, seen: Mapping[State, tuple[str, str]]) -> None:
        """Puts what all processes found into one file."""
        others = [path for path in (self.folder / SEEN).glob("*.csv") if path.name != "all.csv"]
        with open_atomic(self.folder / SEEN / "all.csv", "wb") as out:
            text = (",".join(map(_quoted, (*state, *values))) + "\n" for state, values in seen.items())
            out.writelines(line.encode(*CODING) for line in text)
        for path in others:
            remove_unless_held(path)


_TEXT: dict[str, Any] = {"encoding": CODING[0], "errors": CODING[1]}


def _quoted(value: object) -> str:
    return '"' + str(value).replace('"', '""') + '"'


def _state(path: Path) -> State:
    """Path, size and time of change of a recording, by which it is known again; zeros where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return (os.path.abspath(path), 0, 0)
    return (os.path.abspath(path), status.st_size, status.st_mtime_ns)


def _usual_rate(paths: Sequence[Path]) -> int:
    """The rate in Hz that most recordings have by their headers; 0 where none can be read."""

    def rate(path: Path) -> int:
        try:
            return audio.probe(path).rate
        except (WheeltapperError, OSError):
            return 0

    rates = Counter(filter(None, map_in_order(rate, paths, 8)))
    return min(rates, key=lambda each: (-rates[each], each), default=0)


def _known_facts(path: Path) -> dict[str, Any]:
    """The facts in a store's record; empty where there is none yet."""
    if not path.is_file():
        return {}
    found = read_json(path)
    facts = found.get("facts") if isinstance(found, dict) else None
    if not isinstance(facts, dict):
        raise WheeltapperError(f"{path}: expected the record of a store, found another file; choose another --store")
    return facts


def _check_same(folder: Path, known: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    for name in {**known, **facts}:
        there, found = known.get(name), facts.get(name)
        if there != found:
            raise WheeltapperError(
                f"{folder}: expected the settings of the embeddings that are there, found {name} {found or 'none'} "
                f"instead of {there or 'none'}; choose another folder for --store"
            )


def _clip(path: Path, digest: str) -> Clip:
    return Clip("", "", "", "", path.name, str(path), digest=digest)


def _link(array: Path, target: Path) -> None:
    """Gives a file a second name; where the file system has none, a copy."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(array, temporary)
    except OSError:
        shutil.copyfile(array, temporary)
    os.replace(temporary, target)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a folder, waiting for other processes that hold it."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock(folder))
                break
            except WheeltapperError:
                time.sleep(PAUSE)
        yield
