"""Converts the raw files of a data set to sound files and a manifest; resumes after an interruption.

A first pass measures all files, a second pass writes. The output folder has ``audio/`` with the sound files,
``records/`` with a JSON file for each raw file (what was measured and written), ``prepare.json`` with the data set and
view, and ``manifest.csv``, which is written last. Nothing is written to the folder of the raw files.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from system import audio, manifest
from system.corpora.faults.base import FaultCorpus, Measured, PlannedFile, RawRecording, Samples, View, attributes
from system.corpora.inspection import InspectedSound, inspect_all
from system.errors import WheeltapperError
from system.files import lock, read_json, write_json
from system.manifest import Clip

MANIFEST, CLAIM, AUDIO, RECORDS = "manifest.csv", "prepare.json", "audio", "records"
BLOCK = 1 << 21  # samples of a channel read at a time
FORMAT = 1  # version of the records
SHOWN = 10

Progress = Callable[[int, int], None]


def prepare(
    corpus: FaultCorpus,
    folder: str | os.PathLike,
    out: str | os.PathLike,
    view: str = "",
    progress: Progress | None = None,
    threads: int = 4,
) -> list[Clip]:
    """Writes ``out/manifest.csv``, and sound files if the raw files cannot be used in place.

    Raw files with unchanged size and time whose sound files exist are skipped. Memory: one raw file, or a few blocks of
    it for HDF5 and sound files.

    Args:
        corpus: the data set.
        folder: folder with the unpacked archives of the publisher, at any depth.
        out: folder to write to, outside ``folder``.
        view: ``rmis`` or ``siren``; empty for the data set's first view.
        progress: called with (done, total); the total is the number of raw files, or twice that if they are converted.
        threads: number of sound files read at a time if nothing is converted.

    Returns:
        Clips in the order of the manifest, by path as in RMIS and SIREN.

    Raises:
        WheeltapperError: a raw file is missing, unknown, damaged, silent, not finite, too short, or has another
            sampling rate or shape.
    """
    folder, out = Path(folder), Path(out)
    view, plan = corpus.view(view)
    if out.exists() and not out.is_dir():
        raise WheeltapperError(f"{out}: expected a folder to write to, found a file")
    if out.resolve().is_relative_to(folder.resolve()):
        raise WheeltapperError(f"{out}: expected a folder outside the raw data in {folder}")
    recordings = plan.find_recordings(folder)
    _check_names(recordings)
    with lock(_claim(out, {"corpus": corpus.name, "view": view})):
        (out / MANIFEST).unlink(missing_ok=True)
        if plan.open is None:
            clips = _in_place(corpus, recordings, threads, progress)
        else:
            clips = _Conversion(corpus, plan, folder, out, recordings, progress).run()
        clips.sort(key=lambda clip: (clip.machine, clip.section, clip.split, clip.file.split("/")))
        manifest.write(out / MANIFEST, clips)
    return clips


def _claim(out: Path, purpose: dict[str, str]) -> Path:
    """Marks an empty or new folder for this data set and view, or accepts a folder of an earlier run for the same."""
    record = out / CLAIM
    if record.is_file():
        found = read_json(record)
        if found != purpose:
            raise WheeltapperError(f"{out}: expected an empty folder or one for {purpose}, found one for {found}")
    elif out.is_dir() and any(path.name != ".lock" for path in out.iterdir()):
        raise WheeltapperError(f"{out}: expected an empty folder or one with {CLAIM} of an earlier run, found others")
    else:
        write_json(record, purpose)
    return out


def _check_names(recordings: Sequence[RawRecording]) -> None:
    seen: dict[tuple[str, str, str, str], Path] = {}
    for recording in recordings:
        for output in recording.outputs:
            key = (recording.machine, recording.section, recording.split, output.name)
            other = seen.setdefault(key, recording.path)
            if other != recording.path:
                raise WheeltapperError(f"{recording.path}: expected each recording once, found also {other}")


def _clip(
    corpus: FaultCorpus, recording: RawRecording, output: PlannedFile, file: str, path: Path, **measured: Any
) -> Clip:
    return Clip(
        corpus=corpus.name,
        machine=recording.machine or corpus.name,
        section=recording.section,
        split=recording.split,
        file=file,
        path=str(path),
        label=recording.label,
        attributes=attributes(corpus, recording, output),
        group=output.group,
        **measured,
    )


def _in_place(
    corpus: FaultCorpus, recordings: list[RawRecording], threads: int, progress: Progress | None
) -> list[Clip]:
    """Clips of sound files that are used in place."""
    sounds = inspect_all([str(recording.path) for recording in recordings], threads, progress)
    problems, clips = [], []
    for recording, sound in zip(recordings, sounds, strict=True):
        output = recording.outputs[0]
        if not isinstance(sound, InspectedSound):
            problems.append(sound)
        elif corpus.rate not in (None, sound.rate):
            problems.append(f"{recording.path}: expected {corpus.rate} Hz, found {sound.rate} Hz")
        elif sound.silent:
            problems.append(f"{recording.path}: expected sound, found silence (all samples are zero)")
        else:
            held = {"channels": sound.channels, "rate": sound.rate, "samples": sound.samples, "digest": sound.digest}
            file = output.name + recording.path.suffix
            clips.append(_clip(corpus, recording, output, file, recording.path, **held))
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise WheeltapperError("\n  ".join(problems[:SHOWN]) + more)
    return clips


@dataclass(frozen=True)
class _Found:
    """Measurements of a raw file: sampling rate in Hz, samples per channel, largest magnitude."""

    rate: int
    samples: int
    peak: float


class _Conversion:
    """Conversion of the raw files of a data set."""

    def __init__(
        self,
        corpus: FaultCorpus,
        plan: View,
        folder: Path,
        out: Path,
        recordings: list[RawRecording],
        progress: Progress | None,
    ) -> None:
        assert plan.open is not None
        self.corpus, self.plan, self.open = corpus, plan, plan.open
        self.folder, self.out, self.recordings, self.progress = folder, out, recordings, progress
        self.done = 0

    def run(self) -> list[Clip]:
        found = [self.step(self.measured, recording) for recording in self.recordings]
        peak = max(one.peak for one in found)
        scale = peak if self.plan.unit and peak > 1.0 else 1.0
        made = [self.step(self.written, *pair, scale) for pair in zip(self.recordings, found, strict=True)]
        return [clip for clips in made for clip in clips]

    def step(self, work: Callable, *arguments: Any) -> Any:
        result = work(*arguments)
        self.done += 1
        if self.progress:
            self.progress(self.done, 2 * len(self.recordings))
        return result

    def record(self, recording: RawRecording) -> tuple[Path, dict]:
        """Path and content of a raw file's record; a new record if the raw file has changed."""
        place = self.out / RECORDS / f"{recording.path.relative_to(self.folder).as_posix()}.json"
        status = recording.path.stat()
        state = {
            "format": FORMAT,
            "raw": [status.st_size, status.st_mtime_ns],
            "columns": sorted({column for output in recording.outputs for column in output.columns}),
        }
        try:
            found = read_json(place) if place.is_file() else {}
        except WheeltapperError:
            found = {}
        same = isinstance(found, dict) and all(found.get(key) == value for key, value in state.items())
        return place, found if same else state

    def measured(self, recording: RawRecording) -> _Found:
        place, record = self.record(recording)
        if "found" not in record:
            with self.open(recording.path) as raw:
                found = _measure(self.corpus, self.plan, recording, raw)
            record["found"] = [found.rate, found.samples, found.peak]
            write_json(place, record)
        return _Found(*record["found"])

    def written(self, recording: RawRecording, found: _Found, scale: float) -> list[Clip]:
        """Clips of a raw file; writes its sound files unless they all exist."""
        place, record = self.record(recording)
        names = [output.name for output in recording.outputs]
        state = {"scale": scale, "unit": self.plan.unit, "seconds": self.plan.seconds, "names": names}
        starts, length = _cuts(found.samples, found.rate, self.plan.seconds)
        if record.get("made") != state or not self._are_there(record["files"]):
            if record.pop("made", None):
                write_json(place, record)  # files that are being overwritten must not count as complete
            with self.open(recording.path) as raw:
                record["files"] = [
                    self._write(raw, output, number, start, length, scale)
                    for output in recording.outputs
                    for number, start in enumerate(starts)
                ]
            write_json(place, record | {"made": state})
        outputs = [output for output in recording.outputs for _ in starts]
        return [
            _clip(
                self.corpus,
                recording,
                output,
                file,
                self.out / AUDIO / file,
                channels=len(output.columns),
                rate=found.rate,
                samples=length,
                digest=digest,
            )
            for output, (file, _, digest) in zip(outputs, record["files"], strict=True)
        ]

    def _are_there(self, files: list) -> bool:
        paths = [(self.out / AUDIO / file, size) for file, size, _ in files]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)

    def _write(
        self, raw: Measured, output: PlannedFile, number: int, start: int, length: int, scale: float
    ) -> tuple[str, int, str]:
        """Writes a cut; returns its file name, size in bytes and hash."""
        suffix = self.plan.suffix.format(number) if self.plan.seconds else ""
        file = f"{output.name}{suffix}.wav"
        path = self.out / AUDIO / file
        columns = [raw.channels[column][start : start + length] for column in output.columns]
        wave = np.stack([np.asarray(column, np.float64) for column in columns]) / scale
        if self.plan.unit:
            audio.write(path, wave, raw.rate)
        else:
            audio.write_float(path, wave, raw.rate)
        return file, path.stat().st_size, audio.digest(path)


def _measure(corpus: FaultCorpus, plan: View, recording: RawRecording, raw: Measured) -> _Found:
    path = recording.path
    if corpus.rate not in (None, raw.rate):
        raise WheeltapperError(f"{path}: expected {corpus.rate} Hz, found {raw.rate} Hz")
    wanted = dict.fromkeys(column for output in recording.outputs for column in output.columns)
    for column in wanted:
        if column not in raw.channels:
            raise WheeltapperError(f"{path}: expected channel {column}, found {', '.join(raw.channels) or 'none'}")
    lengths = {len(raw.channels[column]) for column in wanted}
    if len(lengths) > 1:
        raise WheeltapperError(f"{path}: expected channels of one length, found {sorted(lengths)} samples")
    samples = lengths.pop()
    starts, _ = _cuts(samples, raw.rate, plan.seconds)
    if not samples or not starts:
        least = (plan.seconds or 0) / 2
        raise WheeltapperError(f"{path}: expected more than {least:g} s, found {samples / raw.rate:.3f} s")
    return _Found(raw.rate, samples, max(_peak(path, column, raw.channels[column]) for column in wanted))


def _peak(path: Path, name: str, channel: Samples) -> float:
    """Largest magnitude of a channel; raises WheeltapperError if samples are not finite, or are all zero."""
    peak = 0.0
    for start in range(0, len(channel), BLOCK):
        block = np.asarray(channel[start : start + BLOCK], np.float64)
        bad = int(np.count_nonzero(~np.isfinite(block)))
        if bad:
            raise WheeltapperError(f"{path}: channel {name}: expected finite samples, found {bad} NaN or infinite")
        peak = max(peak, float(np.abs(block).max()))
    if not peak:
        raise WheeltapperError(f"{path}: channel {name}: expected a signal, found silence (all samples are zero)")
    return peak


def _cuts(samples: int, rate: int, seconds: float | None) -> tuple[list[int], int]:
    """Start samples of the cuts, and their length, as in RMIS.

    Cuts are consecutive. If more than half a cut remains, there is another cut that ends with the recording and
    overlaps the one before; for recordings shorter than a cut it is the whole recording.
    """
    if seconds is None:
        return [0], samples
    length = int(rate * seconds)
    starts = list(range(0, samples - length + 1, length))
    if 2 * (samples - length * len(starts)) > length:
        starts.append(max(0, samples - length))
    return starts, min(length, samples)
