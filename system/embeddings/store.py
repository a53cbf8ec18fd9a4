"""A store of embeddings of whole data sets. Each recording is embedded once, even if the work is interrupted.

A set has a folder ``NAME-<hash of encoder and front end>``; other weights, another front end or other segments use
another folder. Each process appends one record per recording to a file of its own. A record contains the content hash
of the recording and a check sum, so that incomplete records of a killed process or a full disk are recognised. When all
recordings are embedded, the rows are written to one memory-mapped array, ``<hash of the list of clips>.npy``. The
``.json`` beside it is written last and lists its contents.

The clips that a process embeds depend on their order and the number of processes only, and each embedding on its clip
only, so the rows are the same for any number of processes.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import platform
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from system import locks
from system.errors import WheeltapperError
from system.files import open_atomic, read_json, write_json
from system.manifest import Clip
from system.parallel import map_in_order

FORMAT = 1
MAGIC = b"wheeltapper rows"
HEADER = struct.Struct("<16sII")  # magic, format, dimensions of a row
DIGEST = 16  # bytes
CHECK = struct.Struct("<I")
MAX_LISTED = 10  # clips listed in an error message
PATIENCE = 100  # failures after which a process stops
POLL = 1.0  # minimum seconds between checks of the other processes' progress

Embed = Callable[[Clip], np.ndarray]
Location = tuple[Path, int, int]  # of a row: file, position in it, dimensions


class EmbeddingStore:
    """The embeddings of one set of clips.

    Args:
        folder: of the store.
        name: of the set.
        facts: everything else that the rows depend on (encoder, weights, front end, ...), as plain JSON values.
        clips: clips of the set, in order; recordings are identified by ``digest``.

    Example:
        >>> store = EmbeddingStore("exp/embeddings", "cwru", {"encoder": "fisher-small"}, clips)
        >>> store.fill(embed, workers=2)
        >>> rows = store.finish()
    """

    def __init__(self, folder: str | os.PathLike, name: str, facts: Mapping[str, Any], clips: Sequence[Clip]):
        self.facts, self.clips = dict(facts), clips
        self.digests = [_digest(clip) for clip in clips]
        self.folder = Path(folder) / f"{name}-{_short_hash(json.dumps([FORMAT, self.facts], sort_keys=True).encode())}"
        listed = self.folder / _short_hash(b"".join(self.digests))
        self.array, self.about = listed.with_suffix(".npy"), listed.with_suffix(".json")

    def read(self) -> np.ndarray | None:
        """The memory-mapped rows (N, D) in the order of the clips; None if some are missing."""
        found = _finished(self.about)
        return found[1] if found else None

    def missing(self) -> int:
        """Number of recordings that are not embedded yet."""
        return 0 if self.about.is_file() and self.read() is not None else len(self._distinct()) - len(self._known())

    def fill(
        self,
        embed: Embed,
        workers: int = 1,
        share: tuple[int, int] = (0, 1),
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Embeds this process's share of the missing recordings and stores each one immediately.

        Args:
            embed: function of a clip that returns a vector (D,); called from threads.
            workers: number of threads.
            share: index of this process, from 0, and number of processes.
            progress: called with 1 after each clip.

        Raises:
            WheeltapperError: lists the clips that could not be embedded, after all others are done, or after too many
                failures. Processes in ``wait`` get the same message.
        """
        number, count = share
        note = self.folder / f"{number}-{_run()}.failed"
        note.unlink(missing_ok=True)
        known = self._known()
        mine = [clip for place, clip in enumerate(self._distinct().values()) if place % count == number]
        missing = [clip for clip in mine if _digest(clip) not in known]
        problems = []

        def attempt(clip: Clip) -> np.ndarray | str:
            try:
                return _checked(clip, embed(clip))
            except WheeltapperError as error:
                return str(error)

        with Appender(self.folder) as file, contextlib.closing(map_in_order(attempt, missing, workers)) as rows:
            for clip, row in zip(missing, rows, strict=False):
                if isinstance(row, str):
                    problems.append(row)
                    if len(problems) == PATIENCE:
                        break
                else:
                    file.append(_digest(clip), row)
                if progress:
                    progress(1)
        if problems:
            more = f"\n  and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
            text = "\n  ".join(problems[:MAX_LISTED]) + more
            with open_atomic(note) as file:
                file.write(text)
            raise WheeltapperError(text)

    def wait(self) -> None:
        """Waits until other processes have embedded the missing clips; WheeltapperError if one of them failed."""
        while True:
            begin = time.monotonic()
            if not self.missing():
                return
            for note in sorted(self.folder.glob(f"*-{_run()}.failed")):
                raise WheeltapperError(note.read_text(encoding="utf-8"))
            time.sleep(max(POLL, 10.0 * (time.monotonic() - begin)))

    def finish(self) -> np.ndarray:
        """Writes the rows of all clips into one array and returns it as ``read`` does.

        Files that contain only these rows are then removed.

        Raises:
            WheeltapperError: clips are missing, or rows have different dimensions.
        """
        if self.read() is None:
            self._write()
        wanted = set(self.digests)
        for path in self.folder.glob("*.failed"):
            path.unlink()
        for path in self.folder.glob("*.rows"):
            if all(digest in wanted for digest, _ in _records(path)):
                remove_unless_held(path)
        for about in self.folder.glob("*.json"):
            if about != self.about and wanted.issuperset((_finished(about) or ((), None))[0]):
                about.unlink()
                about.with_suffix(".npy").unlink(missing_ok=True)
        rows = self.read()
        assert rows is not None
        return rows

    def _distinct(self) -> dict[bytes, Clip]:
        """The first clip of each content hash."""
        found: dict[bytes, Clip] = {}
        for digest, clip in zip(self.digests, self.clips, strict=True):
            found.setdefault(digest, clip)
        return found

    def stored(self) -> set[str]:
        """Content hashes of all rows that are there, of these clips or others."""
        return {digest.hex() for digest in self._known(everything=True)}

    def appender(self) -> "Appender":
        """A file of this process for more rows."""
        return Appender(self.folder)

    def _known(self, everything: bool = False) -> dict[bytes, Location]:
        """Locations of the rows computed so far, by content hash: those of these clips, or all."""
        wanted = None if everything else set(self.digests)
        found: dict[bytes, Location] = {}
        for path in sorted(self.folder.glob("*.rows")):
            found |= {digest: row for digest, row in _records(path) if wanted is None or digest in wanted}
        for path in sorted(self.folder.glob("*.json")):
            finished = _finished(path)
            if finished is None:
                continue
            digests, rows = finished
            for number, digest in enumerate(digests):
                if wanted is None or digest in wanted:
                    position = rows.offset + number * rows.strides[0]
                    found[digest] = (path.with_suffix(".npy"), position, rows.shape[1])
        return found

    def _write(self) -> None:
        known = self._known()
        lost = [clip for digest, clip in self._distinct().items() if digest not in known]
        if lost:
            raise WheeltapperError(f"{self.folder}: expected an embedding of {lost[0].path}, found none")
        widths = sorted({known[digest][2] for digest in self.digests})
        if len(widths) > 1:
            raise WheeltapperError(_lengths(self.folder, *widths[:2]))
        with contextlib.ExitStack() as stack, open_atomic(self.array, "wb") as out:
            files = {path: stack.enter_context(open(path, "rb")) for path in {row[0] for row in known.values()}}
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(self.digests), widths[0])}
            np.lib.format.write_array_header_1_0(out, header)
            # Not memory-mapped: a full disk would kill a process that writes to a mapped file.
            for digest in self.digests:
                path, position, width = known[digest]
                files[path].seek(position)
                out.write(files[path].read(4 * width))
        about = {"facts": self.facts, "bytes": self.array.stat().st_size, "digests": [d.hex() for d in self.digests]}
        write_json(self.about, about)


class Appender:
    """A growing file of records, created with the first one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{platform.node()}-{os.getpid()}-{time.time_ns():x}.rows"
        self.file: FileIO | None = None
        self.width = 0

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *_) -> None:
        if self.file:
            self.file.close()

    def append(self, digest: bytes, row: np.ndarray) -> None:
        if not self.file:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "xb", buffering=0)  # noqa: SIM115 - closed by __exit__
            locks.hold(self.file)  # so that no other process removes it
            self.width = len(row)
            self._write(HEADER.pack(MAGIC, FORMAT, self.width))
        if len(row) != self.width:
            raise WheeltapperError(_lengths(self.path.parent, self.width, len(row)))
        record = digest + row.astype("<f4").tobytes()
        self._write(record + CHECK.pack(zlib.crc32(record)))

    def _write(self, data: bytes) -> None:
        assert self.file
        try:
            if self.file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def remove_unless_held(path: Path) -> None:
    """Removes a file, but not one that a process at work has locked, because it may write more to it."""
    with contextlib.suppress(FileNotFoundError), open(path, "r+b") as file:
        if locks.hold(file) is False:
            return
    path.unlink(missing_ok=True)


def _lengths(folder: Path, expected: int, found: int) -> str:
    return (
        f"{folder}: expected embeddings of {expected} dimensions, found {found}; the number of sub-bands depends on "
        "the sampling rate"
    )


def _records(path: Path) -> Iterator[tuple[bytes, Location]]:
    """Content hash and location of each complete record of a file; damaged and unfinished records are skipped."""
    # Another process may have moved the rows into an array and removed the file.
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        head = file.read(HEADER.size)
        if len(head) < HEADER.size:
            return
        magic, version, width = HEADER.unpack(head)
        if magic != MAGIC or version != FORMAT:
            return
        size = DIGEST + 4 * width
        for position in itertools.count(HEADER.size, size + CHECK.size):
            record = file.read(size + CHECK.size)
            if len(record) < size + CHECK.size:
                return
            if CHECK.unpack(record[size:])[0] == zlib.crc32(record[:size]):
                yield record[:DIGEST], (path, position + DIGEST, width)


def _finished(about: Path) -> tuple[list[bytes], np.memmap] | None:
    """Content hashes and rows of a finished array; None if it is missing or damaged."""
    path = about.with_suffix(".npy")
    try:
        known = read_json(about)
        digests = [bytes.fromhex(digest) for digest in known["digests"]]
        if path.stat().st_size != known["bytes"]:
            return None
        rows = np.load(path, mmap_mode="r")
    except (WheeltapperError, OSError, ValueError, EOFError, KeyError, TypeError):
        return None
    return (digests, rows) if rows.ndim == 2 and rows.dtype == np.float32 and len(rows) == len(digests) else None


def _checked(clip: Clip, row: np.ndarray) -> np.ndarray:
    row = np.asarray(row, np.float32)
    if row.ndim != 1 or not row.size or not np.isfinite(row).all():
        found = f"shape {row.shape}" if row.ndim != 1 or not row.size else "NaN or infinity"
        raise WheeltapperError(f"{clip.path}: expected a finite embedding, found {found}")
    if not row.any():
        raise WheeltapperError(f"{clip.path}: expected an embedding, found only zeros")
    return row


def _digest(clip: Clip) -> bytes:
    try:
        digest = bytes.fromhex(clip.digest)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST:
        raise WheeltapperError(
            f"{clip.path}: expected the content hash that wheeltapper prepare writes, found {clip.digest or 'none'}"
        )
    return digest


def _run() -> str:
    """The identifier shared by the processes that torchrun started together."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "alone")


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
