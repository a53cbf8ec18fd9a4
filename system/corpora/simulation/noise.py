"""Endless noise sources from noise recordings of any length and rate, with different recordings for train and test."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from system import audio
from system.corpora.simulation.acoustics import SILENCE, generator, power
from system.errors import WheeltapperError

CROSSFADE_SECONDS = 0.05
MIN_SECONDS = 0.2  # shorter pieces sound like clicks


@dataclass(frozen=True)
class NoisePool:
    """Noise recordings of one split: their folder, and paths relative to it."""

    root: Path
    files: tuple[str, ...]

    def draw(
        self, rng: np.random.Generator, sources: int, samples: int, rate: int
    ) -> tuple[np.ndarray, list[list[str]]]:
        """Draws the noise of each source from pieces of different recordings.

        Recordings longer than needed start at a random position; shorter ones are played whole, followed by another
        recording with an equal-power cross-fade. Each piece has unit power. A recording only occurs twice in a clip if
        the pool is exhausted. Silent pieces are skipped.

        Args:
            rng: random generator.
            sources: number of noise sources.
            samples: length.
            rate: sampling rate in Hz.

        Returns:
            Float32 (sources, samples), and for each source the files that it plays.

        Raises:
            WheeltapperError: the pool has no sound, or a file cannot be read.
        """
        supply = self._pieces(rng, samples, rate)
        fade = round(CROSSFADE_SECONDS * rate)
        waves = np.empty((sources, samples), dtype=np.float32)
        names: list[list[str]] = []
        for k in range(sources):
            wave, played = next(supply)
            names.append([played])
            while len(wave) < samples:
                piece, played = next(supply)
                wave = crossfade(wave, piece, fade)
                names[-1].append(played)
            waves[k] = wave[:samples]
        return waves, names

    def _pieces(self, rng: np.random.Generator, samples: int, rate: int) -> Iterator[tuple[np.ndarray, str]]:
        while True:
            found = False
            for k in rng.permutation(len(self.files)):
                piece = _read_piece(self.root / self.files[k], rng.random(), samples, rate)
                level = np.sqrt(power(piece))
                if level >= SILENCE and len(piece) >= MIN_SECONDS * rate:
                    found = True
                    yield piece / np.float32(level), self.files[k]
            if not found:
                raise WheeltapperError(
                    f"{self.root}: expected noise, found only silence or pieces under {MIN_SECONDS} s "
                    f"in {len(self.files)} files"
                )


def split_noise(folder: Path, seed: int, sources: int, group: str = "") -> tuple[NoisePool, NoisePool]:
    """Splits the noise recordings below a folder into halves for training and testing.

    Args:
        folder: folder with wav, flac or ogg files at any depth.
        seed: random seed.
        sources: number of noise sources in a clip; each half needs at least as many recordings.
        group: regular expression; files with the same match (of its first group, if there is one) in their relative
            path are in the same half. Empty to treat every file separately.

    Raises:
        WheeltapperError: too few recordings, or an expression that is invalid or does not match a file.
    """
    if not folder.is_dir():
        raise WheeltapperError(f"{folder}: expected a folder of noise recordings, found no folder")
    files = [path.relative_to(folder).as_posix() for path in audio.list_files(folder)]
    if not files:
        raise WheeltapperError(f"{folder}: expected noise recordings (wav, flac or ogg), found none")
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault(_group(file, group), []).append(file)
    if len(groups) < 2 * sources:
        raise WheeltapperError(
            f"{folder}: expected at least {2 * sources} different noise recordings ({sources} sources, different "
            f"ones for training and test), found {len(groups)}"
        )
    order = generator(seed, "noise").permutation(len(groups))
    shuffled = [list(groups.values())[k] for k in order]
    half = len(shuffled) // 2
    sides = (shuffled[:half], shuffled[half:])
    train, test = (tuple(sorted(file for members in side for file in members)) for side in sides)
    return NoisePool(folder, train), NoisePool(folder, test)


def _group(file: str, expression: str) -> str:
    if not expression:
        return file
    try:
        match = re.search(expression, file)
    except re.error as error:
        raise WheeltapperError(f"noise_group: expected a regular expression, found {expression!r} ({error})") from error
    if not match:
        raise WheeltapperError(f"noise_group: expected {expression!r} to match every noise file, found {file}")
    return match[1] if match.re.groups else match[0]


def crossfade(first: np.ndarray, second: np.ndarray, samples: int) -> np.ndarray:
    """Joins two waveforms (samples,) with an equal-power overlap of ``samples``, or less if one is shorter."""
    samples = min(samples, len(first), len(second))
    angle = np.linspace(0, np.pi / 2, samples + 2, dtype=np.float32)[1:-1]
    middle = first[len(first) - samples :] * np.cos(angle) + second[:samples] * np.sin(angle)
    return np.concatenate([first[: len(first) - samples], middle, second[samples:]])


def _read_piece(path: Path, place: float, samples: int, rate: int) -> np.ndarray:
    """Reads at most ``samples`` samples at ``rate`` of the first channel.

    ``place`` in [0, 1) is the start position, relative to the range of possible starts.
    """
    info = audio.probe(path)
    needed = min(info.samples, -(-samples * info.rate // rate))
    start = int(place * (info.samples - needed + 1))
    wave, _ = audio.read(path, start, needed)
    return audio.resample(wave[:1], info.rate, rate)[0, :samples]
