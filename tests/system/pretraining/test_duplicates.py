import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from system import manifest
from system.bin import main
from system.manifest import Clip
from system.pretraining import duplicates
from system.pretraining.duplicates import describe_sound, find_duplicates, nearest_before


def noise(seed: int, colour: float, seconds: float = 4.0, rate: int = 8000) -> np.ndarray:
    """Stationary noise with a spectral slope of ``colour``."""
    return 0.02 * lfilter([1.0], [1.0, colour], np.random.default_rng(seed).normal(0, 1, round(seconds * rate)))


@pytest.fixture
def written(tmp_path):
    """Writes a waveform as a training clip."""

    def write(file: str, wave: np.ndarray, rate: int = 8000) -> Clip:
        soundfile.write(tmp_path / file, wave, rate, subtype="FLOAT")
        channels = 1 if wave.ndim == 1 else wave.shape[1]
        return Clip("c", "m", "00", "train", file, str(tmp_path / file), "", "", "", "", channels, rate, len(wave))

    return write


def plain(levels: np.ndarray, threshold: float) -> tuple[list[int], list[float]]:
    """Greedy de-duplication, one pair at a time."""
    kept, like, distance = [], [], []
    for row in range(len(levels)):
        apart = [float(np.sqrt(np.mean((levels[row] - levels[other]) ** 2))) for other in kept]
        if apart and min(apart) <= threshold:
            like.append(kept[int(np.argmin(apart))])
            distance.append(min(apart))
        else:
            kept.append(row)
            like.append(-1)
            distance.append(np.nan)
    return like, distance


@pytest.mark.parametrize("rows", [3, 16, 1000])
def test_blocks_of_any_size_give_what_plain_loops_give(monkeypatch, rows):
    monkeypatch.setattr(duplicates, "ROWS", rows)
    rng = np.random.default_rng(0)
    levels = (rng.normal(-60, 3, (12, 1, 20)) + rng.normal(0, 0.6, (12, 12, 20))).reshape(-1, 20)
    levels = rng.permutation(levels).astype(np.float32)
    like, distance = nearest_before(levels, 0.9)
    expected, apart = plain(levels.astype(np.float64), 0.9)
    assert 20 < (like >= 0).sum() < 130  # some of each
    assert like.tolist() == expected
    np.testing.assert_allclose(distance, apart, atol=1e-6)


def test_a_level_means_the_same_at_every_rate():
    rng = np.random.default_rng(0)
    slow, fast = rng.normal(0, 0.01, (1, 80_000)), rng.normal(0, 0.01 * np.sqrt(2), (1, 160_000))  # the same per Hz
    (first, first_variation), (second, second_variation) = describe_sound(slow, 8000), describe_sound(fast, 16000)
    assert (len(first), len(second)) == (40, 80)
    np.testing.assert_allclose(first[1:], second[1:40], atol=1.0)
    assert abs(first.mean() - second.mean()) < 0.1
    # A periodogram's bins are exponential: 50 of them in a band, a Hann window leaving 2 / 3 as many independent.
    assert first_variation == pytest.approx(4.343 / np.sqrt(50 / 1.5), rel=0.2)
    assert second_variation == pytest.approx(first_variation, rel=0.2)


def test_a_tone_stands_in_its_band_and_beeps_vary():
    time = np.arange(40_000) / 10_000
    tone = np.sin(2 * np.pi * 1250 * time)[None]
    levels, variation = describe_sound(tone, 10_000)
    assert levels.argmax() == 12
    np.testing.assert_allclose(np.delete(levels, 12), levels.max() - duplicates.RANGE_DB)
    assert variation < 0.1
    beeps = tone * (time % 1 < 0.5)
    assert describe_sound(beeps, 10_000)[1] > 3
    assert describe_sound(tone[:, :15_000], 10_000)[1] == np.inf
    for samples in (1, 2, 7):
        assert describe_sound(tone[:, :samples], 10_000)[1] == np.inf


def test_near_identical_stationary_clips_are_left_out(written):
    beep = (np.arange(32_000) % 8000 < 4000) * noise(9, -0.5)
    clips = [
        written("0.wav", noise(0, -0.9)),
        written("1.wav", noise(1, -0.9)),  # like 0
        written("2.wav", noise(2, 0.5)),
        written("3.wav", beep),
        written("4.wav", beep),  # like 3, but not stationary
        written("5.wav", 2 * noise(5, -0.9)),  # 6 dB above 0
        written("6.wav", noise(0, -0.9), 16000),  # another rate
        written("7.wav", noise(7, 0.5)),  # like 2
        written("8.wav", noise(8, -0.9, 1.9)),  # too short to tell
        written("9.wav", np.zeros(32_000)),
        written("10.wav", np.zeros(32_000)),  # like 9
        written("11.wav", np.stack([noise(11, -0.9), noise(12, -0.9)], 1)),  # like 0, in two channels
        written("12.wav", 2 * noise(13, -0.9)),  # like 5
    ]
    seen = []
    found = find_duplicates(clips, workers=2, progress=lambda *values: seen.append(values))
    assert found.like.tolist() == [-1, 0, -1, -1, -1, -1, -1, 2, -1, -1, 9, 0, 5]
    assert found.kept.tolist() == [0, 2, 3, 4, 5, 6, 8, 9]
    assert (found.distance[found.like >= 0] < 1).all()
    assert np.isnan(found.distance[found.kept]).all()
    assert seen[-1] == (13, 13)
    alone = find_duplicates(clips)
    np.testing.assert_array_equal(alone.distance, found.distance)
    assert find_duplicates(clips, threshold=7.0).like[5] == 0
    assert find_duplicates(clips, stationary=40.0).like[4] == 3
    assert find_duplicates(clips[::-1]).like[11] == 1  # the first of similar clips is kept, in any order


def test_verb(written, tmp_path, capsys):
    clips = [written(f"{n}.wav", noise(n, colour)) for n, colour in enumerate((-0.9, 0.5, -0.9))]
    manifest.write(tmp_path / "m.csv", clips)
    out = tmp_path / "out" / "distinct.csv"
    command = ["deduplicate", str(tmp_path / "m.csv"), "--out", str(out)]
    assert main(command) == 0
    assert "2 of 3 clips kept; of 3 stationary ones 1 are like another" in capsys.readouterr().out
    assert [clip.file for clip in manifest.read(out)] == ["0.wav", "1.wav"]
    report = json.loads((tmp_path / "out" / "distinct.json").read_text())
    (dropped,) = report["dropped"]
    assert (dropped["clip"], dropped["like"]) == ("m/00/train/2.wav", "m/00/train/0.wav")
    assert 0 < dropped["distance_db"] < 1
    before = out.stat().st_mtime_ns
    assert main(command) == 0
    assert "complete, nothing to do; 2 of 3" in capsys.readouterr().out
    assert out.stat().st_mtime_ns == before
    assert main([*command, "--threshold", "0.01"]) == 0
    assert "3 of 3 clips kept" in capsys.readouterr().out
    assert len(manifest.read(out)) == 3


def test_verb_refuses(written, tmp_path, capsys):
    clip = written("0.wav", noise(0, 0.0))
    manifest.write(tmp_path / "m.csv", [clip, replace(clip, file="1.wav", split="test", label="normal")])
    for options, message in (
        (["--out", str(tmp_path / "m.csv")], "--out: expected another file than the manifest"),
        (["--out", str(tmp_path / "n.csv"), "--threshold", "0"], "--threshold, --stationary: expected more than 0 dB"),
        (["--out", str(tmp_path / "n.csv")], "0.wav: expected a normal training clip, found normal test"),
    ):
        assert main(["deduplicate", str(tmp_path / "m.csv"), *options]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "n.csv").exists()
