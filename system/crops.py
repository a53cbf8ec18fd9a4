"""Random crops of recordings for training, each a function of its own random state."""

from collections.abc import Sequence

import numpy as np

from system import audio
from system.manifest import Clip


def read_crop(clip: Clip, seconds: float, rate: int, generator: np.random.Generator) -> np.ndarray:
    """A random stretch of a recording, resampled.

    Recordings shorter than the crop are repeated: the sound of a running machine goes on, silence would be an event.

    Args:
        clip: recording. seconds: length wanted. rate: Hz of the result. generator: draws the place.

    Returns:
        float32 (channels, round(seconds * rate)).
    """
    wanted = round(seconds * rate)
    native = min(clip.samples, int(np.ceil(seconds * clip.rate)) + 1)
    start = int(generator.integers(0, clip.samples - native + 1))
    wave, _ = audio.read(clip.path, start, native)
    wave = audio.resample(wave, clip.rate, rate)
    if wave.shape[1] < wanted:
        wave = np.tile(wave, (1, -(-wanted // wave.shape[1])))
    return wave[:, :wanted]


def near_and_far(wave: np.ndarray) -> np.ndarray:
    """(1 or more channels, samples) to (2, samples): a mono recording stands for both microphones."""
    return np.concatenate([wave, wave]) if len(wave) == 1 else wave[:2]


def group_by(clips: Sequence[Clip], *names: str) -> dict[tuple, list[int]]:
    """Indices of the clips for each combination of the named fields, in order of first appearance."""
    groups: dict[tuple, list[int]] = {}
    for index, clip in enumerate(clips):
        groups.setdefault(tuple(getattr(clip, name) for name in names), []).append(index)
    return groups
