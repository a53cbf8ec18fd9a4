"""Opens every recording of a corpus once and tells what is in it, or what is wrong with it."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from system import audio
from system.errors import WheeltapperError
from system.manifest import Clip

BLOCK = 1 << 22  # samples read at a time: about 4 minutes at 16 kHz


@dataclass(frozen=True)
class Sound:
    """What a recording holds: channels, rate in Hz, samples per channel, the channels that are all zero, its hash."""

    channels: int
    rate: int
    samples: int
    silent_channels: tuple[int, ...]
    digest: str

    @property
    def seconds(self) -> float:
        return self.samples / self.rate

    @property
    def silent(self) -> bool:
        return len(self.silent_channels) == self.channels


def inspect(path: str | os.PathLike) -> Sound:
    """Reads a whole recording.

    Raises WheeltapperError where it is missing, empty, damaged, or holds NaN or infinity.
    """
    info = audio.probe(path)
    heard: set[int] = set()
    for start in range(0, info.samples, BLOCK):
        wave, _ = audio.read(path, start, min(BLOCK, info.samples - start))
        heard.update(channel for channel in range(info.channels) if wave[channel].any())
    return Sound(
        channels=info.channels,
        rate=info.rate,
        samples=info.samples,
        silent_channels=tuple(channel for channel in range(info.channels) if channel not in heard),
        digest=audio.digest(path),
    )


def inspect_all(
    paths: Sequence[str], threads: int = 4, progress: Callable[[int, int], None] | None = None
) -> list[Sound | str]:
    """Inspects many recordings side by side.

    Args:
        paths: sound files.
        threads: how many to read at a time.
        progress: called with (done, total) after each.

    Returns:
        in the order of ``paths``, a Sound or the one-line reason why there is none.
    """
    results: list[Sound | str] = []
    executor = ThreadPoolExecutor(max_workers=max(1, threads))
    try:
        for result in executor.map(_try_inspect, paths):
            results.append(result)
            if progress:
                progress(len(results), len(paths))
    finally:
        # An interrupted run must not wait for thousands of files that are still queued.
        executor.shutdown(wait=True, cancel_futures=True)
    return results


def check_recordings(
    clips: Sequence[Clip], where: str | os.PathLike, progress: Callable[[int, int], None] | None = None
) -> list[Clip]:
    """Opens the recordings of a manifest and compares them with what it says of them.

    Args:
        where: the manifest, for messages. progress: called with (done, total) after each recording.

    Returns:
        the clips, with their digests where the manifest leaves them out.

    Raises WheeltapperError that names the first recording which is not as declared, and how many more there are.
    """
    problems, complete = [], []
    for clip, found in zip(clips, inspect_all([clip.path for clip in clips], progress=progress), strict=True):
        if isinstance(found, str):
            problems.append(found)
            continue
        complete.append(replace(clip, digest=found.digest))
        for name in ("channels", "rate", "samples", "digest"):
            said, heard = getattr(clip, name), getattr(found, name)
            if said and said != heard:
                problems.append(f"{clip.path}: expected {name} {said} as {where} says, found {heard}")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise WheeltapperError(f"{problems[0]}{more}")
    return complete


def _try_inspect(path: str) -> Sound | str:
    try:
        return inspect(path)
    except WheeltapperError as error:
        return str(error)
    except OSError as error:
        return f"{path}: could not be read ({error.strerror or error})"
