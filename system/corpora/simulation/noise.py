"""Noise recordings of any length and rate as endless noise sources, different ones for training and test."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from system import audio
from system.corpora.simulation.acoustics import SILENCE, generator, power
from system.errors import WheeltapperError

CROSSFADE_SECONDS = 0.05
MIN_SECONDS = 0.2  # a shorter piece would be heard as a click, not as noise


@dataclass(frozen=True)
class NoisePool:
    """The noise recordings of one side. root: their folder; files: relative to it."""

    root: Path
    files: tuple[str, ...]

    def draw(
        self, rng: np.random.Generator, sources: int, samples: int, rate: int
    ) -> tuple[np.ndarray, list[list[str]]]:
        """Draws what each noise source plays: pieces of different recordings, one after another.

        A recording longer than needed is entered at a random place, a shorter one played whole and followed by another
        with an equal-power cross-fade. Each piece has unit power. No recording is heard twice in a clip unless the
        pool is used up; silent pieces are passed over.

        Returns:
            float32 (sources, samples), and for each source the files it plays.

        Raises WheeltapperError where the pool has no sound, or a file is unreadable.
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
                    f"{self.root}: expected noise, found nothing but silence or pieces under {MIN_SECONDS} s "
                    f"in {len(self.files)} files"
                )


def split_noise(folder: Path, seed: int, sources: int, group: str = "") -> tuple[NoisePool, NoisePool]:
    """Divides the noise recordings below a folder into a half for training and one for the test.

    Args:
        folder: wav, flac or ogg files at any depth.
        seed: of the division.
        sources: noise sources of a clip; each side needs as many recordings.
        group: regular expression; files whose relative names agree in what it matches (in its first group, if it has
            one) stay on one side. Empty: every file by itself.

    Raises WheeltapperError where there are too few recordings, or the expression is wrong or does not match a file.
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
            f"{folder}: expected at least {2 * sources} different noise recordings ({sources} sources, other ones in "
            f"training and test), found {len(groups)}"
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
    """Joins two waveforms (samples,) with an equal-power overlap of ``samples``, less where one is shorter."""
    samples = min(samples, len(first), len(second))
    angle = np.linspace(0, np.pi / 2, samples + 2, dtype=np.float32)[1:-1]
    middle = first[len(first) - samples :] * np.cos(angle) + second[:samples] * np.sin(angle)
    return np.concatenate([first[: len(first) - samples], middle, second[samples:]])


def _read_piece(path: Path, place: float, samples: int, rate: int) -> np.ndarray:
    """At most ``samples`` samples at ``rate`` of the first channel, from the fraction ``place`` of what is spare."""
    info = audio.probe(path)
    needed = min(info.samples, -(-samples * info.rate // rate))
    start = int(place * (info.samples - needed + 1))
    wave, _ = audio.read(path, start, needed)
    return audio.resample(wave[:1], info.rate, rate)[0, :samples]
