"""Shards: many recordings in a few large files, so that a crop is part of a memory map and the index is an array.

A folder of shards contains

* ``00000.pcm`` and so on: int16 little-endian, one clip after another and, within a clip, one channel after another;
* ``index.npy``: one row of ``ROW`` for each clip, in the order of the manifest;
* ``shards.json``, written last: version, counts, size and SHA-256 of every file, fingerprint of the manifest.

The position of each clip follows from the manifest. An interrupted run therefore keeps its finished shards, each with a
record ``00000.json`` until all are finished, and the same clips give the same bytes.
"""

import contextlib
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from system import audio, manifest
from system.errors import WheeltapperError
from system.files import lock, open_atomic, read_json, write_json
from system.manifest import Clip
from system.training.loading import prepared

VERSION = 1
SHARD_BYTES = 256 << 20
INDEX, RECORD = "index.npy", "shards.json"
PCM = np.dtype("<i2")
# shard: number of the file; offset: first sample of channel 0, in samples from the start of the file; samples: per
# channel; rate: Hz; scale: factor of the integers, 0 for a silent clip.
ROW = np.dtype(
    [("shard", "<u4"), ("offset", "<i8"), ("samples", "<i8"), ("channels", "<u2"), ("rate", "<u4"), ("scale", "<f4")]
)
OPEN_MAPS = 128  # maximum number of shards mapped at a time; each is an open file
OWN = re.compile(r"\d{5,}\.(pcm|json)|index\.npy|shards\.json|\.lock")
LEFT = re.compile(r"\.(\d{5,}\.(pcm|json)|index\.npy|shards\.json)\.\d+\.tmp")  # temporary files of a killed process

Progress = Callable[[int, int], None]


def write_shards(
    clips: Sequence[Clip],
    folder: str | os.PathLike,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
    workers: int = 1,
) -> "ShardFolder":
    """Writes clips as a folder of shards, or resumes an interrupted call.

    16-bit recordings are stored unchanged; others are scaled so that the peak of the clip becomes 32767.

    Args:
        clips: training clips of any rates, channels and lengths. ``workers`` + 2 of them are in memory at a time.
        folder: new, or of an interrupted call with the same clips and ``shard_bytes``; a complete one is left
            unchanged.
        shard_bytes: maximum size of a shard; a longer clip has a shard of its own.
        progress: called with the number of clips done and in all.
        workers: threads that read recordings.

    Raises:
        WheeltapperError: the folder contains other files or shards of other clips, a clip is not for training, or a
            recording does not agree with its clip.
    """
    folder = Path(folder)
    if not clips or shard_bytes < 1:
        raise WheeltapperError(f"{folder}: expected clips and shards of 1 byte or more, found {len(clips)} clips")
    manifest.check_training(clips, folder)
    _check_folder(folder)
    with lock(folder):
        for path in [path for path in folder.iterdir() if LEFT.fullmatch(path.name)]:
            path.unlink()
        plan = {"version": VERSION, "fingerprint": manifest.fingerprint(clips), "shard_bytes": shard_bytes}
        if (folder / RECORD).is_file():
            _check_plan(folder / RECORD, read_json(folder / RECORD), plan)
        else:
            _write(clips, folder, plan, progress, workers)
        for path in folder.glob("[0-9]*.json"):
            path.unlink()
    return ShardFolder(folder)


class ShardFolder:
    """A folder of shards as a corpus: one row of ``index`` per clip; samples are read on demand."""

    def __init__(self, folder: str | os.PathLike):
        """Opens a folder; raises WheeltapperError if a file is missing, damaged or not of the recorded size.

        The contents are checked by ``verify`` only.
        """
        self.folder = Path(folder)
        self.record = _read_record(self.folder / RECORD)
        self.sizes = [shard["bytes"] for shard in self.record["shards"]]
        for name, size in [(INDEX, self.record["index"]["bytes"]), *((_name(k), s) for k, s in enumerate(self.sizes))]:
            _check_size(self.folder / name, size)
        self.index = self._read_index()
        self.rates, self.samples, self.channels = (self.index[name] for name in ("rate", "samples", "channels"))
        self._map = lru_cache(maxsize=OPEN_MAPS)(self._open)

    def __len__(self) -> int:
        return len(self.index)

    def crop(self, index: int, channel: int, start: int, samples: int) -> np.ndarray:
        """See ``TrainingCorpus.crop``."""
        row = self.index[index]
        if not (0 <= channel < row["channels"] and 0 <= start <= start + samples <= row["samples"]):
            raise IndexError(f"{self.folder}: clip {index}: no {samples} samples from {start} in channel {channel}")
        first = int(row["offset"]) + channel * int(row["samples"]) + start
        return self._map(int(row["shard"]))[first : first + samples] * row["scale"]

    def verify(self, progress: Progress | None = None) -> None:
        """Compares the SHA-256 of every file with the record; raises WheeltapperError for the first that differs.

        Args:
            progress: called with the number of files done and in all.
        """
        hashes = [(INDEX, self.record["index"]["sha256"])]
        hashes += [(_name(number), shard["sha256"]) for number, shard in enumerate(self.record["shards"])]
        for done, (name, expected) in enumerate(hashes, 1):
            with open(self.folder / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                raise WheeltapperError(f"{self.folder / name}: damaged, expected SHA-256 {expected}, found {found}")
            if progress:
                progress(done, len(hashes))

    def _open(self, number: int) -> np.ndarray:
        path = self.folder / _name(number)
        _check_size(path, self.sizes[number])
        return np.memmap(path, PCM, "r").view(np.ndarray)

    def _read_index(self) -> np.ndarray:
        path = self.folder / INDEX
        try:
            index = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise WheeltapperError(f"{path}: expected an array, found damage ({error})") from error
        if index.dtype != ROW or index.shape != (self.record["clips"],):
            raise WheeltapperError(
                f"{path}: expected {self.record['clips']} rows of {ROW.names}, found {index.shape} of {index.dtype}"
            )
        limits = np.array(self.sizes)[np.minimum(index["shard"], len(self.sizes) - 1)] // PCM.itemsize
        wrong = (index["shard"] >= len(self.sizes)) | (index["channels"] < 1) | (index["rate"] < 1)
        wrong |= (index["offset"] < 0) | (index["samples"] < 1) | (index["samples"] > limits)
        wrong |= index["offset"] + index["samples"] * index["channels"] > limits
        if wrong.any():
            row = int(wrong.argmax())
            raise WheeltapperError(f"{path}: row {row}: expected a clip within its shard, found {index[row]}")
        return index.view(np.ndarray)


def _write(clips: Sequence[Clip], folder: Path, plan: dict[str, Any], progress: Progress | None, workers: int) -> None:
    index, bounds = _lay_out(clips, plan["shard_bytes"])
    shards, done = [], 0
    for number, (first, last) in enumerate(bounds):
        path = folder / _name(number)
        record = _finished(path, plan)
        if record is None:
            record = {**plan, **_write_shard(path, clips[first:last], workers, progress, done, len(clips))}
            write_json(path.with_suffix(".json"), record)
        index["scale"][first:last] = record["scales"]
        shards.append({name: record[name] for name in ("bytes", "sha256")} | {"clips": last - first})
        done = last
        if progress:
            progress(done, len(clips))
    buffer = io.BytesIO()
    np.save(buffer, index)
    with open_atomic(folder / INDEX, "wb") as file:
        file.write(buffer.getbuffer())
    record = {
        **plan,
        "corpora": sorted({clip.corpus for clip in clips}),
        "clips": len(clips),
        "hours": float((index["samples"] / index["rate"]).sum() / 3600),
        "clips_by_rate": {str(rate): count for rate, count in sorted(Counter(index["rate"].tolist()).items())},
        "index": {"bytes": buffer.tell(), "sha256": hashlib.sha256(buffer.getbuffer()).hexdigest()},
        "shards": shards,
    }
    write_json(folder / RECORD, record)


def _lay_out(clips: Sequence[Clip], shard_bytes: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Index without scales, and the range of clips (first, last + 1) of each shard."""
    index = np.zeros(len(clips), ROW)
    for name in ("samples", "channels", "rate"):
        index[name] = [getattr(clip, name) for clip in clips]
    starts, offset = [0], 0
    for number, size in enumerate((index["samples"] * index["channels"]).tolist()):
        if offset and (offset + size) * PCM.itemsize > shard_bytes:
            starts.append(number)
            offset = 0
        index[number]["shard"], index[number]["offset"] = len(starts) - 1, offset
        offset += size
    return index, list(zip(starts, [*starts[1:], len(clips)], strict=True))


def _write_shard(
    path: Path, clips: Sequence[Clip], workers: int, progress: Progress | None, done: int, total: int
) -> dict[str, Any]:
    """Writes one shard atomically; returns its size, its hash and the scales of its clips."""
    hasher, scales, size = hashlib.sha256(), [], 0
    with (
        open_atomic(path, "wb") as file,
        contextlib.closing(prepared(_read_pcm, ((clip,) for clip in clips), workers)) as waves,
    ):
        for number, (wave, scale) in enumerate(waves, done + 1):
            file.write(wave.data)
            hasher.update(wave.data)
            scales.append(scale)
            size += wave.nbytes
            if progress:
                progress(number, total)
    return {"bytes": size, "sha256": hasher.hexdigest(), "scales": scales}


def _read_pcm(clip: Clip) -> tuple[np.ndarray, float]:
    """A recording as int16 (channels, samples), and the factor of the integers."""
    if clip.digest and (digest := audio.digest(clip.path)) != clip.digest:
        raise WheeltapperError(f"{clip.path}: expected content of digest {clip.digest} (manifest), found {digest}")
    wave, rate = audio.read(clip.path)
    expected, found = (clip.rate, clip.channels, clip.samples), (rate, *wave.shape)
    if found != expected:
        raise WheeltapperError(f"{clip.path}: expected (rate, channels, samples) {expected} (manifest), found {found}")
    counts = wave * np.float32(32768.0)
    if counts.min() >= -32768.0 and counts.max() <= 32767.0 and np.array_equal(counts, np.rint(counts)):
        return counts.astype(PCM), (1.0 / 32768.0 if counts.any() else 0.0)
    scale = np.float32(np.abs(wave).max() / 32767.0)
    if scale < np.finfo(np.float32).tiny:
        return np.zeros(wave.shape, PCM), 0.0
    return np.rint(wave / scale).astype(PCM), float(scale)


def _finished(path: Path, plan: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a shard that an earlier call finished; None without one, or if the file has another size."""
    record_path = path.with_suffix(".json")
    if not record_path.is_file():
        return None
    record = read_json(record_path)
    _check_plan(record_path, record, plan)
    return record if path.is_file() and path.stat().st_size == record["bytes"] else None


def _check_plan(path: Path, record: dict[str, Any], plan: dict[str, Any]) -> None:
    for name, expected in plan.items():
        if record.get(name) != expected:
            raise WheeltapperError(
                f"{path}: expected shards of {name} {expected}, found {record.get(name)}: it has other clips or "
                "settings; choose another folder or remove this one"
            )


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise WheeltapperError(f"{folder}: expected a folder of shards or none, found a file")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    other = [name for name in names if not OWN.fullmatch(name) and not LEFT.fullmatch(name)]
    if other:
        raise WheeltapperError(f"{folder}: expected a folder of shards or an empty one, found {other[0]}")


def _check_size(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a file of {expected} bytes, found nothing") from error
    if found != expected:
        raise WheeltapperError(f"{path}: damaged, expected {expected} bytes, found {found}")


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected the record of finished shards (wheeltapper shard), found nothing")
    record = read_json(path)
    if not isinstance(record, dict) or record.get("version") != VERSION:
        found = record.get("version") if isinstance(record, dict) else type(record).__name__
        raise WheeltapperError(f"{path}: expected shards of version {VERSION}, found {found}")
    try:
        _ = record["fingerprint"], record["corpora"], record["hours"], int(record["clips"])
        _ = [(int(entry["bytes"]), entry["sha256"]) for entry in [record["index"], *record["shards"]]]
    except (KeyError, TypeError, ValueError) as error:
        raise WheeltapperError(f"{path}: expected the record of shards, found no {error}") from error
    return record


def _name(number: int) -> str:
    return f"{number:05d}.pcm"
