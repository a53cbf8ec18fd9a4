"""The health of a run's recordings as a CSV, one row a channel, and what is wrong with the training recordings."""

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from system import manifest
from system.corpora import health_check
from system.corpora.health import ChannelHealth, Health
from system.errors import WheeltapperError
from system.files import open_atomic
from system.manifest import Clip, Key

CLIP = ("machine", "section", "split", "file")
MEASURES = get_type_hints(ChannelHealth)
COLUMNS = (*CLIP, "channel", "seconds", *MEASURES)
SHOWN = 3  # names of recordings in a line


def write(path: str | os.PathLike, clips: Sequence[Clip], healths: Mapping[Key, Health]) -> None:
    """Writes the health of clips atomically; amplitudes with six digits."""
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for clip in clips:
            own = healths[clip.key]
            for number, channel in enumerate(own.channels, 1):
                measures = [_text(getattr(channel, name)) for name in MEASURES]
                writer.writerow([*clip.key, number, _text(own.seconds), *measures])


def read(path: str | os.PathLike) -> dict[Key, Health]:
    """The health of each clip by its key.

    Raises:
        WheeltapperError: the file is missing, or a line is not one that ``write`` writes.
    """
    found: dict[Key, Health] = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            if tuple(next(reader, [])) != COLUMNS:
                raise ValueError("other columns")
            for machine, section, split, name, _, seconds, *cells in reader:
                key = (machine, section, split, name)
                channels = found[key].channels if key in found else ()
                found[key] = Health(float(seconds), (*channels, _channel(cells)))
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a file of stage 0, found nothing") from error
    except (ValueError, csv.Error) as error:
        raise WheeltapperError(
            f"{path}: expected the health of recordings, found {error}; stage 0 writes it again where it is removed"
        ) from error
    return found


def training_notes(clips: Sequence[Clip], healths: Mapping[Key, Health]) -> list[str]:
    """One line for each machine that has training recordings with something wrong, absolutely or beside the others."""
    notes = []
    for (machine,), members in manifest.group_by(clips, "machine").items():
        every = (clips[index] for index in members)
        own = [clip for clip in every if clip.split == "train" and clip.key in healths]
        kinds: dict[str, list[str]] = {}
        for clip in own:
            for found in health_check.check(clip, healths[clip.key], health_check.Usual()):
                kinds.setdefault(found.kind, []).append(clip.file)
        if off := health_check.level_outliers(own, healths, health_check.LEVEL):
            kinds[f"level {health_check.LEVEL:g} dB or more off the median"] = [clip.file for clip in off]
        if kinds:
            notes.append(f"{machine}: training recordings: {listing(kinds, len(own))}")
    return notes


def check_living(clips: Sequence[Clip], healths: Mapping[Key, Health]) -> None:
    """Raises WheeltapperError where half of the training recordings of a machine and section have no living channel."""
    for (machine, section, split), members in manifest.group_by(clips, "machine", "section", "split").items():
        own = [clips[index] for index in members if clips[index].key in healths]
        dead = [clip.file for clip in own if all(channel.dead for channel in healths[clip.key].channels)]
        if split == "train" and own and 2 * len(dead) >= len(own):
            raise WheeltapperError(
                f"{machine} section {section}: expected training recordings of a running machine, found {len(dead)} of "
                f"{len(own)} without any signal ({_names(dead)}); take them out, or record again"
            )


def listing(kinds: Mapping[str, Sequence[str]], count: int) -> str:
    """What is wrong with some of ``count`` recordings: each kind with the names of the files."""
    return "; ".join(f"{kind} {len(files)} of {count} ({_names(files)})" for kind, files in kinds.items())


def _names(files: Sequence[str]) -> str:
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return ", ".join(files[:SHOWN]) + more


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{item:.1f}" for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _channel(cells: Sequence[str]) -> ChannelHealth:
    values: dict[str, Any] = {}
    for (name, kind), cell in zip(MEASURES.items(), cells, strict=True):
        values[name] = tuple(map(float, cell.split())) if name == "bands" else kind(cell)
    return ChannelHealth(**values)
