"""Small recordings in DCASE layout for the tests of the corpora."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from system.corpora.dcase import prepare_dcase
from system.errors import WheeltapperError

RATE = 16000
TRAIN = "train/section_00_source_train_normal_0001_vel_1.wav"
TEST = "test/section_00_target_test_anomaly_0001_vel_1.wav"


def noise(seconds=0.2, channels=1, seed=0, rate=RATE):
    return (np.random.default_rng(seed).standard_normal((round(seconds * rate), channels)) * 0.1).astype(np.float32)


def put(path: Path, seconds=0.2, channels=1, rate=RATE, wave=None, subtype="PCM_16"):
    """Writes one recording, different for every name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if wave is None:
        wave = noise(seconds, channels, sum(map(ord, str(path))), rate)
    soundfile.write(path, wave, rate, subtype=subtype)
    return path


def put_machine(root: Path, machine="fan", anonymous=False, source=3, target=2, test=2, channels=1, tail="_vel_1"):
    """A machine of section 00 in the layout of 2022 on; returns its folder."""
    folder = root / machine
    for domain, count in (("source", source), ("target", target)):
        for index in range(count):
            put(folder / "train" / f"section_00_{domain}_train_normal_{index:04}{tail}.wav", channels=channels)
    for index in range(test):
        if anonymous:
            put(folder / "test" / f"section_00_{index:04}.wav", channels=channels)
        else:
            for domain in ("source", "target"):
                for label in ("normal", "anomaly"):
                    name = f"section_00_{domain}_test_{label}_{index:04}{tail}.wav"
                    put(folder / "test" / name, channels=channels)
    return folder


def problems(folder):
    with pytest.raises(WheeltapperError) as caught:
        prepare_dcase(folder)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{folder}: " if len(lines) > 1 else str(folder))
    return lines[1:] or lines


def only_problem(folder):
    found = problems(folder)
    assert len(found) == 1, found
    return found[0]
