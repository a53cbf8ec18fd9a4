"""Fingerprints against plain transforms of whole recordings, and how often stage 0 opens a recording."""

import sys
from collections import Counter

import numpy as np
import pytest
import soundfile

from system.bin import main
from system.corpora import fingerprints
from system.corpora.fingerprints import Fingerprints
from system.corpora.inspection import inspect

opened: Counter = Counter()
watched: list[str] = []


def _watch(event: str, arguments: tuple) -> None:
    if watched and event == "open" and str(arguments[0]).startswith(watched[0]):
        opened[str(arguments[0])] += 1


sys.addaudithook(_watch)  # which stays; it counts while ``watched`` names a folder


def levels(wave: np.ndarray, rate: int) -> np.ndarray:
    """Levels of the whole recording, frame by frame in double precision."""
    hop = round(0.032 * rate)
    window = np.hanning(4 * hop + 1)[:-1]
    found = []
    for start in range(0, len(wave) - 4 * hop + 1, hop):
        power = np.abs(np.fft.rfft(wave[start : start + 4 * hop] * window)[:-1]) ** 2 / (4 * hop)
        band = np.minimum(np.arange(2 * hop) / (4 * hop) * rate // 1000, 7).astype(int)
        found.append(10 * np.log10(np.maximum(np.bincount(band, power, minlength=8), 1e-9)))
    return np.array(found).reshape(-1, 8)


@pytest.mark.parametrize("seconds", [0.05, 1.0, 31.3])
@pytest.mark.parametrize("block", [1 << 22, 1 << 16])
def test_course_of_levels(tmp_path, monkeypatch, seconds, block):
    wave = 0.1 * np.random.default_rng(0).normal(size=round(seconds * 8000))
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
    monkeypatch.setattr("system.corpora.inspection.BLOCK", block)
    kept = Fingerprints()
    inspect(tmp_path / "a.wav", kept)
    course = kept.get(str(tmp_path / "a.wav")).course
    np.testing.assert_allclose(course, levels(wave.astype(np.float32), 8000), atol=1e-3)
    np.testing.assert_array_equal(course, fingerprints.measure(tmp_path / "a.wav").course)


def test_products_of_phases_know_a_shifted_sound_from_another(tmp_path):
    waves = 0.1 * np.random.default_rng(0).normal(size=(2, 40000))
    products = []
    for number, wave in enumerate((waves[0], -0.3 * np.roll(waves[0], 700), waves[1])):
        soundfile.write(tmp_path / f"{number}.wav", wave, 16000)
        pairs = fingerprints.measure(tmp_path / f"{number}.wav").products.astype(float)
        products.append(pairs[:, 0] + 1j * pairs[:, 1])
    one, shifted, other = products
    assert abs(np.vdot(one, shifted)) > 0.5 * fingerprints.PHASES
    assert abs(np.vdot(one, other)) < 0.1 * fingerprints.PHASES


def test_fingerprints_beyond_memory_are_kept_too(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "KEPT", 10_000)
    kept, expected = Fingerprints(), {}
    for number in range(4):
        path = str(tmp_path / f"{number}.wav")
        soundfile.write(path, 0.1 * np.random.default_rng(number).normal(size=9000 * (number + 1)), 16000)
        inspect(path, kept)
        expected[path] = fingerprints.measure(path)
    for path, own in expected.items():
        for name in ("middle", "products", "course"):
            np.testing.assert_array_equal(getattr(kept.get(path), name), getattr(own, name))


def test_stage_0_opens_a_recording_twice_at_most(tmp_path):
    """A machine whose takes are alike, with copies: each recording is opened to be inspected, and to be compared."""
    time, folder = np.arange(40000) / 16000, tmp_path / "data" / "Fan" / "train"
    folder.mkdir(parents=True)
    for number in range(6):
        noise = np.random.default_rng(number % 5).normal(size=len(time))
        wave = 0.3 * np.exp(-40 * (time % 0.5)) * np.sin(5655 * time) + 0.02 * noise
        wave = wave * (0.5 if number == 5 else 1)
        soundfile.write(folder / f"section_00_source_train_normal_{number:04d}_noAttribute.wav", wave, 16000)
    arguments = ["prepare", "--exp", str(tmp_path / "exp"), "--conf", "toy", "--data", str(tmp_path / "data")]
    watched.append(str(folder))
    opened.clear()
    try:
        assert main(arguments) == 0
    finally:
        watched.clear()
    assert len((tmp_path / "exp" / "copies.csv").read_text().splitlines()) == 2
    assert len(opened) == 6
    assert max(opened.values()) == 2
