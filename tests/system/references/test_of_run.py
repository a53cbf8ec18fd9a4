"""The simple reference systems on a run's windows against plain NumPy, and in stage evaluate's metrics."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from system import audio
from system.config import DataConfig
from system.frontends.farfield import subtract_far
from system.frontends.logmel import log_mel
from system.manifest import Clip
from system.references.of_run import NAMES, score_run

RATE = 8000


def make(folder, machine="fan", seconds=(1.0,) * 8, tests=3, channels=2, rate=RATE, seed=0) -> list[Clip]:
    rng = np.random.default_rng(seed)
    clips = []
    for number, length in enumerate((*seconds, *(seconds[0],) * tests)):
        split = "train" if number < len(seconds) else "test"
        wave = 0.1 * rng.standard_normal((channels, round(length * rate)))
        wave[0] += (0.5 + 0.1 * number) * np.sin(np.arange(wave.shape[1]) * (0.3 + 0.01 * number))
        path = folder / f"{machine}_{number}.wav"
        audio.write(path, (0.5 * wave).astype(np.float32), rate)
        facts = {"channels": channels, "rate": rate, "samples": wave.shape[1]}
        domain = "target" if split == "train" and number in (0, 1, 2) else "source" if split == "train" else ""
        clips.append(Clip("mine", machine, "00", split, path.name, str(path), domain=domain, **facts))
    return clips


def features(clip: Clip, subtracted: bool) -> np.ndarray:
    wave, rate = audio.read(clip.path)
    x = log_mel(subtract_far(wave) if subtracted else wave[:1], rate)[0]
    return np.concatenate([x.mean(axis=0), x.std(axis=0)]).astype(np.float64)


@pytest.mark.parametrize("subtracted", [False, True])
def test_scores_are_those_of_numpy(tmp_path, subtracted):
    clips = make(tmp_path)
    scores, left_out = score_run(clips, DataConfig(rate=RATE))
    assert (list(scores), left_out) == (list(NAMES), {})
    rows = np.stack([features(clip, subtracted) for clip in clips])
    train = np.array([clip.split == "train" for clip in clips])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    ending = "_subtracted" * subtracted
    nearest = 1 - (unit[~train] @ unit[train].T).max(axis=1)
    np.testing.assert_allclose(list(scores[f"logmel_knn{ending}"]["fan", "00"].values()), nearest, rtol=1e-4)
    distances = []
    domains = np.array([clip.domain for clip in clips])
    for domain in ("source", "target"):
        own = rows[train & (domains == domain), :128]
        centred = rows[~train, :128] - own.mean(axis=0)
        precision = np.linalg.inv(LedoitWolf().fit(own).covariance_)
        distances.append(np.einsum("nd,de,ne->n", centred, precision, centred))
    found = list(scores[f"logmel_mahalanobis{ending}"]["fan", "00"].values())
    assert list(scores["logmel_knn"]["fan", "00"]) == [clip.file for clip in clips if clip.split == "test"]
    assert np.argsort(found).tolist() == np.argsort(np.min(distances, axis=0)).tolist()


def test_a_long_recording_counts_by_its_worst_windows_less_the_allowance(tmp_path):
    clips = make(tmp_path, channels=1, tests=1)
    rng = np.random.default_rng(9)
    long = 0.02 * rng.standard_normal(3 * RATE).astype(np.float32)
    long[2 * RATE :] *= 8.0
    audio.write(tmp_path / "long.wav", long[None], RATE)
    long = audio.read(tmp_path / "long.wav")[0][0]
    facts = {"channels": 1, "rate": RATE, "samples": len(long)}
    clips.append(Clip("mine", "fan", "00", "test", "long.wav", str(tmp_path / "long.wav"), **facts))
    scores, _ = score_run(clips, DataConfig(rate=RATE))
    assert list(scores) == ["logmel_knn", "logmel_mahalanobis"]  # nothing to subtract
    unit = np.stack([features(clip, False) for clip in clips if clip.split == "train"])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    single = []
    for start in range(0, 2 * RATE + 1, RATE // 2):
        x = log_mel(long[None, start : start + RATE], RATE)[0]
        row = np.concatenate([x.mean(axis=0), x.std(axis=0)]).astype(np.float64)
        single.append(1 - (unit @ (row / np.linalg.norm(row))).max())
    alone = np.sort(unit @ unit.T - 2 * np.eye(len(unit)), axis=1)[:, -1]
    level = np.quantile(1 - alone, 0.75)
    tail = np.mean([value - level for value in 1 - alone if value > level])
    # The first and the last window count as they are, the others no more than a neighbour.
    inner = [min(single[k], max(single[k - 1], single[k + 1])) for k in range(1, len(single) - 1)]
    expected = max(single[0], *inner, single[-1]) - tail * math.log(3)
    assert scores["logmel_knn"]["fan", "00"]["long.wav"] == pytest.approx(expected, rel=1e-3)


def test_sections_that_cannot_be_scored_are_left_out_with_the_reason(tmp_path):
    good, single = make(tmp_path, seed=1), make(tmp_path, "single", seconds=(1.0,))
    gone = make(tmp_path, "gone")
    (tmp_path / "gone_4.wav").unlink()
    untrained = [clip for clip in make(tmp_path, "untrained") if clip.split == "test"]
    scores, left_out = score_run([*gone, *single, *untrained, *good], DataConfig(rate=RATE))
    assert all(list(found) == [("fan", "00")] for found in scores.values())
    assert list(left_out) == ["gone section 00", "single section 00", "untrained section 00"]
    assert "gone_4.wav" in left_out["gone section 00"]
    assert "training clips" in left_out["untrained section 00"]


def test_recordings_are_resampled_to_the_runs_rate(tmp_path):
    slow = make(tmp_path, "slow", channels=1)
    fast = [replace(clip, machine="slow") for clip in make(tmp_path, "fast", channels=1, rate=16000)]
    mixed = [*slow, *(clip for clip in fast if clip.split == "test")]
    scores, left_out = score_run(mixed, DataConfig(rate=RATE))
    assert not left_out
    found = scores["logmel_knn"]["slow", "00"]
    wave = audio.resample(audio.read(mixed[-1].path)[0], 16000, RATE)
    x = log_mel(wave, RATE)[0]
    row = np.concatenate([x.mean(axis=0), x.std(axis=0)]).astype(np.float64)
    unit = np.stack([features(clip, False) for clip in slow if clip.split == "train"])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    assert found[mixed[-1].file] == pytest.approx(1 - (unit @ (row / np.linalg.norm(row))).max(), rel=1e-3)
    _, left_out = score_run(mixed, DataConfig(rate=0))
    assert left_out == {"slow section 00": "data.rate 0: expected recordings of one rate, found 8000 and 16000 Hz"}
