"""Description of a data set of machine faults: its source, its recordings, and how to read their samples."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from system import audio
from system.corpora.table import CLASS, NO_FOLD
from system.errors import WheeltapperError
from system.files import walk

RECORDING = "recording"  # key of the attribute that names the recording of a clip
RMIS, SIREN, OWN = "rmis", "siren", "own"  # views; OWN: data sets that are in neither benchmark


class Samples(Protocol):
    """One channel that is read on demand: ``samples[start:stop]`` has shape (stop - start,)."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> np.ndarray: ...


@dataclass(frozen=True)
class Measured:
    """An open raw file: sampling rate in Hz, and name to channel."""

    rate: int
    channels: Mapping[str, Samples]


Opener = Callable[[Path], AbstractContextManager[Measured]]


@dataclass(frozen=True)
class PlannedFile:
    """A sound file to write from a raw file, or several if the view cuts recordings."""

    name: str  # path without extension and number of the cut
    group: str  # group that a split must not separate
    columns: tuple[str, ...]  # raw channels, which become the channels of the file
    channel: str  # name of the channel in the manifest


@dataclass(frozen=True)
class RawRecording:
    """A raw file with its class and the sound files to write from it."""

    path: Path
    kind: str  # class; underscores become hyphens in a manifest
    outputs: tuple[PlannedFile, ...]
    split: str = "train"
    facts: tuple[tuple[str, str], ...] = ()  # further attributes, key and value
    machine: str = ""  # only for anomaly detection
    section: str = NO_FOLD
    label: str = ""  # only for anomaly detection


@dataclass(frozen=True)
class View:
    """How a benchmark uses a data set.

    Args:
        classes: names of the classes as in a manifest, in the benchmark's order (in RMIS, the first wins a tie).
        find_recordings: lists the recordings in a raw folder by their names.
        open: reads a raw file; None if the recordings are sound files that are used in place.
        seconds: length of the cuts; None to keep recordings whole.
        suffix: suffix of a cut's name, with a placeholder for its number.
        unit: if true, write 16-bit PCM, and if the largest magnitude in any channel exceeds 1, divide everything by it
            (RMIS); otherwise write float32 as measured.
    """

    classes: tuple[str, ...]
    find_recordings: Callable[[Path], list[RawRecording]]
    open: Opener | None = None
    seconds: float | None = None
    suffix: str = "_ch0_{}"
    unit: bool = True


@dataclass(frozen=True)
class Download:
    """A file to download; MD5 and size in bytes are None if unknown."""

    url: str
    name: str
    md5: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class FaultCorpus:
    """A data set of machine faults.

    Args:
        name: name in commands.
        title: the publisher's name.
        modality: ``sound``, ``vibration``, ``current`` or ``voltage``.
        rate: sampling rate in Hz that every file must have; None if files differ.
        source: page of the publisher.
        licence: None if none is stated or known.
        views: benchmark to view.
        downloads: files with known addresses.
        zenodo: Zenodo record, whose files and MD5 are requested from Zenodo.
        advice: steps that the user must do by hand.
    """

    name: str
    title: str
    modality: str
    rate: int | None
    source: str
    licence: str | None
    views: Mapping[str, View]
    downloads: tuple[Download, ...] = ()
    zenodo: int | None = None
    advice: str = ""

    def view(self, name: str = "") -> tuple[str, View]:
        """Name and content of a view; the first one if the name is empty. Raises WheeltapperError if unknown."""
        name = name or next(iter(self.views))
        if name not in self.views:
            raise WheeltapperError(f"{self.name}: view: expected one of {', '.join(self.views)}, found {name!r}")
        return name, self.views[name]


def attributes(corpus: FaultCorpus, recording: RawRecording, output: PlannedFile) -> str:
    """Attributes of a clip: ``class_<class>_modality_<modality>_channel_<channel>`` and further facts.

    If each channel of a file is a recording of its own, the attribute ``recording`` names the common file.
    """
    pairs = [(CLASS, recording.kind), ("modality", corpus.modality), ("channel", output.channel), *recording.facts]
    if len({other.group for other in recording.outputs}) > 1:
        pairs.append((RECORDING, recording.outputs[0].group))
    return "_".join(f"{key}_{hyphens(value)}" for key, value in pairs)


def hyphens(text: str) -> str:
    """Replaces underscores, which separate keys and values in attributes, by hyphens."""
    return text.replace("_", "-")


def list_files(folder: Path, *extensions: str) -> list[Path]:
    """Lists files below a folder, sorted, without hidden ones.

    Args:
        folder: the folder.
        *extensions: extensions in lower case with their dots; those of the files may be in any case.

    Raises:
        WheeltapperError: no folder, or no such file.
    """
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "nothing"
        raise WheeltapperError(f"{folder}: expected the folder of a data set, found {kind}")
    below = sorted(Path(root) / name for root, _, names in walk(folder) for name in names)
    found = [
        path
        for path in below
        if path.suffix.lower() in extensions
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise WheeltapperError(f"{folder}: expected {', '.join(extensions)} files, found none")
    return found


def parts_from(path: Path, folder: Path, names: Collection[str]) -> list[str]:
    """Parts of a path from the first folder with one of the names, wherever the archive was unpacked.

    Raises:
        WheeltapperError: no such folder in the path.
    """
    parts = [*folder.resolve().parts[-1:], *path.relative_to(folder).parts]
    for start, part in enumerate(parts[:-1]):
        if part in names:
            return list(parts[start:])
    raise WheeltapperError(f"{path}: expected a file below a folder {', '.join(names)}, found {'/'.join(parts[1:])}")


def flat_name(parts: list[str]) -> str:
    """Joins the parts of a path to one file name without extension, as in RMIS."""
    return "_".join(parts).rpartition(".")[0].replace(" ", "_")


class SoundChannel:
    """A channel of a sound file, read on demand."""

    def __init__(self, path: Path, samples: int, channel: int) -> None:
        self.path, self.samples, self.channel = path, samples, channel

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.samples)
        return audio.read(self.path, start, stop - start)[0][self.channel]


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[Measured]:
    """Opens a wav or flac file; its channels are named 1, 2, ..."""
    info = audio.probe(path)
    yield Measured(info.rate, {str(c + 1): SoundChannel(path, info.samples, c) for c in range(info.channels)})
