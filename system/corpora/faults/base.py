"""What a module about one data set fills in: where it is from, what recordings it has, how their samples are read."""

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

RECORDING = "recording"  # key of an attribute
RMIS, SIREN, OWN = "rmis", "siren", "own"  # OWN: in neither benchmark


class Samples(Protocol):
    """One channel, of which parts are read when they are asked for: ``samples[start:stop]`` is (stop - start,)."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> np.ndarray: ...


@dataclass(frozen=True)
class Measured:
    """An open raw file: its rate in Hz, and its channels by name."""

    rate: int
    channels: Mapping[str, Samples]


Opener = Callable[[Path], AbstractContextManager[Measured]]


@dataclass(frozen=True)
class Output:
    """A sound file to be made from a raw file (several, where the view cuts): one raw channel, or some side by side.

    ``name`` is its path without extension and number of the cut, ``group`` what a split must not separate, ``channel``
    what it is called.
    """

    name: str
    group: str
    columns: tuple[str, ...]
    channel: str


@dataclass(frozen=True)
class Recording:
    """A raw file, its class (underscores become hyphens in a manifest), what is made of it; ``facts`` are attributes.

    ``machine`` and ``label`` are empty but in corpora of anomaly detection.
    """

    path: Path
    kind: str
    outputs: tuple[Output, ...]
    split: str = "train"
    facts: tuple[tuple[str, str], ...] = ()
    machine: str = ""
    section: str = NO_FOLD
    label: str = ""


@dataclass(frozen=True)
class View:
    """What a benchmark makes of a data set.

    Args:
        classes: in the order in which the benchmark numbers them (RMIS: of a tie the first wins), as ``class_of`` reads
            them from a manifest.
        find: the recordings below a raw folder, from their names alone.
        open: reads a raw file; None where the recordings are sound files that stay where they are.
        seconds: length of the cuts; None where a recording stays whole.
        suffix: what a cut's name has after that of its recording.
        unit: 16-bit PCM, all divided by the largest magnitude in any of the channels where that exceeds 1 (RMIS); or
            float32 as measured.
    """

    classes: tuple[str, ...]
    find: Callable[[Path], list[Recording]]
    open: Opener | None = None
    seconds: float | None = None
    suffix: str = "_ch0_{}"
    unit: bool = True


@dataclass(frozen=True)
class Download:
    """A file to fetch; MD5 and size in bytes are None where they are not published or not known here."""

    url: str
    name: str
    md5: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Corpus:
    """A data set.

    Args:
        rate: in Hz, which every file must have; None where files differ.
        source: page of the publisher. licence: None where none is stated, or it is not known here.
        downloads: files whose addresses are known.
        zenodo: record whose list of files, with their MD5, is asked of Zenodo.
        advice: what has to be done by hand.
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
        """Name and content of a view, the first one for an empty name; WheeltapperError for one that is not there."""
        name = name or next(iter(self.views))
        if name not in self.views:
            raise WheeltapperError(f"{self.name}: view: expected one of {', '.join(self.views)}, found {name!r}")
        return name, self.views[name]


def attributes(corpus: Corpus, recording: Recording, output: Output) -> str:
    """``class_<class>_modality_<modality>_channel_<channel>`` and further facts, as a manifest holds them.

    ``recording`` is what several channels that are recordings of their own have in common.
    """
    pairs = [(CLASS, recording.kind), ("modality", corpus.modality), ("channel", output.channel), *recording.facts]
    if len({other.group for other in recording.outputs}) > 1:
        pairs.append((RECORDING, recording.outputs[0].group))
    return "_".join(f"{key}_{hyphens(value)}" for key, value in pairs)


def hyphens(text: str) -> str:
    """Underscores part keys from values in attributes."""
    return text.replace("_", "-")


def list_files(folder: Path, *extensions: str) -> list[Path]:
    """Files below a folder by path, hidden ones left out; WheeltapperError where there are none.

    Args:
        extensions: in lower case with their dots; those of the files may be in any case.
    """
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "nothing"
        raise WheeltapperError(f"{folder}: expected the folder of a data set, found {kind}")
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in extensions
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise WheeltapperError(f"{folder}: expected {', '.join(extensions)} files, found none")
    return found


def parts_from(path: Path, folder: Path, names: Collection[str]) -> list[str]:
    """The parts of a path from the first folder that has one of some names, wherever the archive was unpacked to.

    Raises WheeltapperError where there is none.
    """
    parts = [*folder.resolve().parts[-1:], *path.relative_to(folder).parts]
    for start, part in enumerate(parts[:-1]):
        if part in names:
            return list(parts[start:])
    raise WheeltapperError(f"{path}: expected a file below a folder {', '.join(names)}, found {'/'.join(parts[1:])}")


def flat_name(parts: list[str]) -> str:
    """A path as the one file name that RMIS makes of it, without its extension."""
    return "_".join(parts).rpartition(".")[0].replace(" ", "_")


class SoundChannel:
    """A channel of a sound file, read in parts."""

    def __init__(self, path: Path, samples: int, channel: int) -> None:
        self.path, self.samples, self.channel = path, samples, channel

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.samples)
        return audio.read(self.path, start, stop - start)[0][self.channel]


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[Measured]:
    """A wav or flac file; its channels are called 1, 2, ..."""
    info = audio.probe(path)
    yield Measured(info.rate, {str(c + 1): SoundChannel(path, info.samples, c) for c in range(info.channels)})
