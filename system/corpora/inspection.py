"""Reads every recording of a corpus once, and reports its properties or what is wrong with it."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from system import audio
from system.corpora.fingerprints import FingerprintMeter, Fingerprints
from system.corpora.health import Health, HealthMeter
from system.errors import WheeltapperError
from system.manifest import Clip, Key

log = logging.getLogger(__name__)

SHOWN = 10  # problems in a message
NOTED = 3  # remarks in a warning
BLOCK = 1 << 22  # samples read at a time: about 4 minutes at 16 kHz


@dataclass(frozen=True)
class InspectedSound:
    """Properties of a recording."""

    channels: int
    rate: int  # Hz
    samples: int  # per channel
    health: Health
    digest: str  # hash of the content
    note: str = ""  # what is doubtful about its length, see audio.AudioInfo

    @property
    def seconds(self) -> float:
        return self.samples / self.rate

    @property
    def silent_channels(self) -> tuple[int, ...]:
        """Channels, from 0, whose samples are all zero."""
        return tuple(number for number, channel in enumerate(self.health.channels) if channel.dead == "zero")

    @property
    def silent(self) -> bool:
        return len(self.silent_channels) == self.channels

    @property
    def constant(self) -> bool:
        """Whether no channel ever changes."""
        return all(channel.dead in ("zero", "constant") for channel in self.health.channels)


def inspect(path: str | os.PathLike, fingerprints: Fingerprints | None = None) -> InspectedSound:
    """Reads a whole recording, opened and decoded once, and returns its properties.

    Args:
        path: sound file.
        fingerprints: receives its fingerprint.

    Raises:
        WheeltapperError: the file is missing, empty or damaged, or contains NaN or infinity.
    """
    with audio.SoundReader(path) as sound:
        info = sound.info
        meters: list[HealthMeter | FingerprintMeter] = [health := HealthMeter(info.channels, info.rate)]
        if fingerprints is not None:
            meters.append(course := FingerprintMeter(info))
        for start in range(0, info.samples, BLOCK):
            wave = sound.read(start, min(BLOCK, info.samples - start))
            for meter in meters:
                meter.add(wave)
        if fingerprints is not None:
            fingerprints.add(str(path), course.result())
        return InspectedSound(
            channels=info.channels,
            rate=info.rate,
            samples=info.samples,
            health=health.result(),
            digest=sound.digest(),
            note=info.note,
        )


def inspect_all(
    paths: Sequence[str],
    threads: int = 4,
    progress: Callable[[int, int], None] | None = None,
    fingerprints: Fingerprints | None = None,
) -> list[InspectedSound | str]:
    """Inspects many recordings in parallel.

    Args:
        paths: sound files.
        threads: number of files read at a time.
        progress: called with (done, total) after each file.
        fingerprints: receives the fingerprint of each.

    Returns:
        For each path, its properties, or a one-line message that says what is wrong. A warning through ``logging``
        counts and names those whose headers are doubtful.
    """
    results: list[InspectedSound | str] = []
    executor = ThreadPoolExecutor(max_workers=max(1, threads))
    try:
        for result in executor.map(partial(_try_inspect, fingerprints=fingerprints), paths):
            results.append(result)
            if progress:
                progress(len(results), len(paths))
    finally:
        # An interrupted run must not wait for thousands of queued files.
        executor.shutdown(wait=True, cancel_futures=True)
    _warn_of_notes(paths, results)
    return results


def _warn_of_notes(paths: Sequence[str], results: Sequence[InspectedSound | str]) -> None:
    noted = [
        (path, sound.note)
        for path, sound in zip(paths, results, strict=True)
        if isinstance(sound, InspectedSound) and sound.note
    ]
    if noted:
        more = ", ..." if len(noted) > NOTED else ""
        listed = ", ".join(f"{path}: {note}" for path, note in noted[:NOTED])
        log.warning("%d recording%s kept, with a remark: %s%s", len(noted), "s" * (len(noted) > 1), listed, more)


def check_there(clips: Sequence[Clip], where: str | os.PathLike, places: Sequence[str]) -> None:
    """Raises WheeltapperError where listed recordings are missing; for the arguments see ``check_recordings``."""
    problems = [
        f"{clip.path}: expected a sound file, found nothing ({place})"
        for clip, place in zip(clips, places, strict=True)
        if not os.path.exists(clip.path)
    ]
    if problems:
        raise WheeltapperError(_listing(clips, where, problems))


def check_recordings(
    clips: Sequence[Clip],
    where: str | os.PathLike,
    progress: Callable[[int, int], None] | None = None,
    healths: dict[Key, Health] | None = None,
    places: Sequence[str] = (),
    threads: int = 4,
    fingerprints: Fingerprints | None = None,
) -> list[Clip]:
    """Opens listed recordings, and compares them with the properties that the list gives.

    Args:
        clips: what the list says; 0 and empty properties are not compared.
        where: path of the list, for messages.
        progress: called with (done, total) after each recording.
        healths: receives the health of each recording.
        places: for each clip where the list has it, such as ``line 2``.
        threads: number of files read at a time.
        fingerprints: receives the fingerprint of each recording.

    Returns:
        The clips with all properties.

    Raises:
        WheeltapperError: the first ten recordings that are missing, cannot be read or differ, and their number.
    """
    problems, complete = [], []
    sounds = inspect_all([clip.path for clip in clips], threads, progress, fingerprints)
    for clip, found, place in zip(clips, sounds, places or [""] * len(clips), strict=True):
        listed = f" ({place})" if place else ""
        if isinstance(found, str):
            problems.append(f"{found}{listed}")
            continue
        if found.silent:
            log.warning("%s: silent (all samples are zero), kept", clip.path)
        if healths is not None:
            healths[clip.key] = found.health
        measured = {name: getattr(found, name) for name in ("channels", "rate", "samples", "digest")}
        problems += [
            f"{clip.path}: expected {name} {getattr(clip, name)} as in {where}{listed}, found {value}; make the list "
            "again if the recording was changed on purpose"
            for name, value in measured.items()
            if getattr(clip, name) and getattr(clip, name) != value
        ]
        complete.append(replace(clip, **measured))
    if problems:
        raise WheeltapperError(_listing(clips, where, problems))
    return complete


def _listing(clips: Sequence[Clip], where: str | os.PathLike, problems: Sequence[str]) -> str:
    missing = sum(not os.path.exists(clip.path) for clip in clips)
    advice = ""
    if missing and os.path.isfile(where):
        advice = f"; {missing} of {len(clips)} are not there: paths are relative to the folder of {where}, or to --root"
    if len(problems) == 1:
        return f"{where}: {problems[0]}{advice}"
    more = f" (the first {SHOWN} are shown)" if len(problems) > SHOWN else ""
    head = f"{where}: {len(problems)} of {len(clips)} recordings cannot be used{advice}{more}"
    return "\n  ".join([head, *problems[:SHOWN]])


def _try_inspect(path: str, fingerprints: Fingerprints | None) -> InspectedSound | str:
    try:
        return inspect(path, fingerprints)
    except WheeltapperError as error:
        return str(error)
    except OSError as error:
        return f"{path}: could not be read ({error.strerror or error})"
