"""Removes near-identical stationary recordings before training.

The FISHER paper (appendix A.4) reports that little industrial sound remains after de-duplication, because it is so
stationary, but not the method; this one is ours. A clip is described by its level in bands of ``BAND`` Hz, averaged in
dB over blocks of ``BLOCK`` s, and by the deviation of the blocks from that mean. Only stationary clips are removed: for
them the long-term spectrum is a sufficient description.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft

from system import audio, manifest
from system.errors import WheeltapperError
from system.files import read_json, write_json
from system.manifest import Clip
from system.progress import progress_bar
from system.training.loading import prepared

BAND = 100  # Hz
BLOCK = 0.5  # s; long enough that stationary noise varies little between blocks: 0.8 dB in such a band
LEAST_BLOCKS = 4  # minimum number of blocks to call a sound stationary
RANGE_DB = 60.0  # levels are limited to this range below the loudest band; below it there is coding noise
FLOOR = 1e-12  # power
THRESHOLD_DB = 1.0  # maximum difference of duplicates, root mean square over the bands
STATIONARY_DB = 2.0  # maximum variation of stationary clips, root mean square over blocks and bands
ROWS = 1024  # clips compared at a time

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Duplicates:
    """The clips to remove.

    Attributes:
        like: for each clip the index of the kept clip that it resembles, -1 for kept clips.
        distance: their difference in dB, NaN for kept clips.
        variation: variation over time in dB, infinite for short clips.
    """

    like: np.ndarray
    distance: np.ndarray
    variation: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """Indices of the kept clips."""
        return np.flatnonzero(self.like < 0)


def describe_sound(wave: np.ndarray, rate: int) -> tuple[np.ndarray, float]:
    """Long-term spectrum of a recording and its variation over time.

    Args:
        wave: float32 (channels, samples).
        rate: sampling rate in Hz.

    Returns:
        Levels in dB, float32 (bands,), of bands of 100 Hz from 0 to half the rate, from the mean power of the channels;
        and the root mean square deviation of blocks of 0.5 s from them in dB, infinite for fewer than four blocks.
    """
    size = min(round(BLOCK * rate), wave.shape[1])
    count = wave.shape[1] // size
    blocks = wave[:, : count * size].reshape(len(wave), count, size)
    spectrum = scipy.fft.rfft((blocks - blocks.mean(-1, keepdims=True)) * np.hanning(size).astype(np.float32))
    power = (spectrum.real**2 + spectrum.imag**2).mean(0) / size**2
    # A band starts at its lowest bin; a clip of one sample has one bin.
    starts = np.ceil(np.arange(0.0, rate / 2, BAND) * size / rate).astype(int)
    bands = np.add.reduceat(power, np.minimum(starts, power.shape[1] - 1), axis=1)
    floor = max(FLOOR, bands.mean(0).max() * 10.0 ** (-RANGE_DB / 10.0))
    levels = 10.0 * np.log10(np.maximum(bands, floor))
    mean = levels.mean(0)
    variation = float(np.sqrt(np.square(levels - mean).mean())) if count >= LEAST_BLOCKS else np.inf
    return mean, variation


def find_duplicates(
    clips: Sequence[Clip],
    threshold: float = THRESHOLD_DB,
    stationary: float = STATIONARY_DB,
    workers: int = 1,
    progress: Progress | None = None,
) -> Duplicates:
    """Reads all clips and finds those that resemble an earlier one.

    A clip is removed if it and an earlier kept clip of the same rate both vary by at most ``stationary`` dB over time,
    and their long-term levels differ by at most ``threshold`` dB (root mean square over the bands). Recordings shorter
    than 2 s are kept.

    Args:
        clips: recordings; of similar clips the first is kept.
        threshold: in dB.
        stationary: in dB.
        workers: threads that read recordings.
        progress: called with the number of clips done and in all.
    """
    described = []
    with contextlib.closing(prepared(_describe_clip, ((clip,) for clip in clips), workers)) as found:
        for entry in found:
            described.append(entry)
            if progress:
                progress(len(described), len(clips))
    variation = np.array([entry[1] for entry in described])
    rates = np.array([clip.rate for clip in clips])
    like, distance = np.full(len(clips), -1), np.full(len(clips), np.nan)
    for rate in np.unique(rates):
        own = np.flatnonzero((rates == rate) & (variation <= stationary))
        if len(own):
            nearest, apart = nearest_before(np.array([described[number][0] for number in own]), threshold)
            left = nearest >= 0
            like[own[left]], distance[own[left]] = own[nearest[left]], apart[left]
    return Duplicates(like, distance, variation)


def nearest_before(levels: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Drops each row that lies within a threshold of an earlier kept row.

    The cost is proportional to the number of rows times the number of kept rows (matrix products of blocks of rows).

    Args:
        levels: (N, bands).
        threshold: of the root mean square difference over the bands.

    Returns:
        Index of the nearest earlier kept row, int (N,), -1 for kept rows; and the difference, NaN for kept rows.
    """
    rows = (levels - levels.mean(0)).astype(np.float64) / np.sqrt(levels.shape[1])
    squares = np.square(rows).sum(1)
    like, distance = np.full(len(rows), -1), np.full(len(rows), np.nan)
    kept = np.zeros(0, int)
    for start in range(0, len(rows), ROWS):
        block = np.arange(start, min(start + ROWS, len(rows)))
        nearest, least = _nearest(rows, squares, block, kept)
        within = _differences(rows, squares, block, block)
        stays: list[int] = []  # indices within the block
        for place in range(len(block)):
            if stays and (near := stays[within[place, stays].argmin()], within[place, near])[1] < least[place]:
                nearest[place], least[place] = block[near], within[place, near]
            if least[place] <= threshold:
                like[block[place]], distance[block[place]] = nearest[place], least[place]
            else:
                stays.append(place)
        kept = np.concatenate([kept, block[stays]])
    return like, distance


def _nearest(
    rows: np.ndarray, squares: np.ndarray, block: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each row of a block, the nearest kept row and its distance, infinite if there are none."""
    nearest, least = np.full(len(block), -1), np.full(len(block), np.inf)
    for start in range(0, len(kept), ROWS):
        some = kept[start : start + ROWS]
        differences = _differences(rows, squares, block, some)
        place = differences.argmin(1)
        found = differences[np.arange(len(block)), place]
        nearer = found < least
        nearest[nearer], least[nearer] = some[place[nearer]], found[nearer]
    return nearest, least


def _differences(rows: np.ndarray, squares: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squares[a, None] + squares[b] - 2.0 * (rows[a] @ rows[b].T), 0.0))


def _describe_clip(clip: Clip) -> tuple[np.ndarray, float]:
    return describe_sound(*audio.read(clip.path))


def deduplicate(
    source: Path, out: Path, threshold: float = THRESHOLD_DB, stationary: float = STATIONARY_DB, workers: int = 1
) -> tuple[dict[str, Any], bool]:
    """Writes a manifest without near-identical stationary recordings, and beside it a JSON of what was left out.

    Args:
        source: manifest of training clips.
        out: manifest to write.
        threshold: greatest difference in dB of two recordings that count as the same.
        stationary: greatest variation over time in dB of a recording that may be left out.
        workers: threads that read recordings.

    Returns:
        The content of the JSON; whether an earlier call with the same clips and thresholds had left it there.

    Raises:
        WheeltapperError: ``out`` is the source, or the source holds other clips than normal training clips.
    """
    if out.resolve() == source.resolve():
        raise WheeltapperError(f"--out: expected another file than the manifest, found {out}")
    clips, report = manifest.read(source), out.with_suffix(".json")
    manifest.check_training(clips, source)
    settings = {"fingerprint": manifest.fingerprint(clips), "threshold_db": threshold, "stationary_db": stationary}
    if report.is_file() and out.is_file():
        found = read_json(report)
        if settings.items() <= found.items():
            return found, True
    report.unlink(missing_ok=True)  # first: it vouches for the manifest
    with progress_bar(len(clips), "reading") as bar:
        duplicates = find_duplicates(clips, threshold, stationary, workers, bar.to)
    manifest.write(out, [clips[number] for number in duplicates.kept])
    dropped = [
        {
            "clip": "/".join(clips[number].key),
            "like": "/".join(clips[duplicates.like[number]].key),
            "distance_db": round(float(duplicates.distance[number]), 3),
        }
        for number in np.flatnonzero(duplicates.like >= 0)
    ]
    record = settings | {
        "clips": len(clips),
        "stationary": int((duplicates.variation <= stationary).sum()),
        "kept": len(duplicates.kept),
        "dropped": dropped,
    }
    write_json(report, record)
    return record, False
