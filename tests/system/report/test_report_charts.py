"""Charts of the report: curves, histograms, axes, spectrograms, excerpts."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from PIL import Image

from system import audio
from system.evaluation import roc
from system.manifest import Clip
from system.report import charts, curves, sound, svg

RATE = 8000


def test_roc_curve_encloses_the_auc():
    rng = np.random.default_rng(3)
    scores, anomalous = np.round(rng.normal(size=200), 1), rng.random(200) < 0.4
    alarms, hits = charts.roc_points(scores, anomalous)
    assert np.trapezoid(hits, alarms) == pytest.approx(roc.auc(scores, anomalous), abs=1e-12)
    assert (alarms[0], hits[0], alarms[-1], hits[-1]) == (0, 0, 1, 1)


def test_histogram_counts_every_clip_and_keeps_its_shape_beside_outliers():
    values = np.append(np.random.default_rng(4).normal(size=300), [1000.0, -500.0])
    edges, cut_low, cut_high = svg.histogram_edges(values)
    counts = svg.histogram(values, edges)
    assert (cut_low, cut_high) == (True, True)
    assert counts.sum() == 302
    assert (counts > 0).sum() > 8
    assert svg.histogram(np.full(5, 2.0), svg.histogram_edges(np.full(5, 2.0))[0]).sum() == 5


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 7, [-2, 0, 2, 4, 6]), (5, 5, [5])]
)
def test_ticks_are_round(low, high, expected):
    assert svg.ticks(low, high) == expected


def test_spectrogram_shows_a_tone_at_its_place():
    rate, hertz = 16000, 2000.0
    wave = np.sin(2 * np.pi * hertz * np.arange(3 * rate) / rate).astype(np.float32)
    picture = sound.spectrogram(wave, rate)
    expected = int(sound.mel(hertz) / sound.mel(rate / 2) * sound.ROWS)
    assert set(np.abs(picture.argmax(0) - expected)) <= {0, 1}
    assert picture.shape[1] <= sound.COLUMNS
    with Image.open(io.BytesIO(sound.png(picture, -80, 0))) as image:
        assert image.size == picture.shape[::-1]
        brightest = np.asarray(image.convert("L")).argmax(0)
    assert set(np.abs(len(picture) - 1 - brightest - expected)) <= {0, 1, 2}


def test_excerpts_are_the_middle_of_the_recording(tmp_path):
    wave = (0.25 * np.sin(np.arange(5 * RATE) / 7)).astype(np.float32)[None]
    audio.write(tmp_path / "a.wav", wave, RATE)
    (heard,) = sound.listen(
        Clip("mine", "m", "00", "test", "a.wav", str(tmp_path / "a.wav"), "", "", "", "", 1, RATE, 5 * RATE)
    )
    (player,) = sound.excerpts([heard])
    coded = re.search(r"base64,([^\"]+)", player)[1]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(coded)))
    assert (rate, len(samples)) == (RATE, 3 * RATE)
    np.testing.assert_allclose(samples, wave[0, RATE : 4 * RATE] * 0.7 / 0.25, atol=2e-3)


def test_a_published_ranking_has_the_best_on_top_and_ours_marked():
    chart = charts.ranking_chart("2026", [("low", 55.0, False), ("ours", 61.5, True), ("high", 63.25, False)])
    labels = re.findall(r'<text class="([^"]*)" x="124" y="([0-9.]+)">([^<]*)', chart)
    assert [name for _, _, name in sorted(labels, key=lambda row: float(row[1]))] == ["high", "ours", "low"]
    assert [name for css, _, name in labels if "onband" in css] == ["ours"]
    assert "63.25" in chart


def test_both_microphones_are_heard(tmp_path):
    wave = (0.25 * np.sin(np.outer([1.0, 2.0], np.arange(2 * RATE) / 7))).astype(np.float32)
    audio.write(tmp_path / "a.wav", wave, RATE)
    clip = Clip("mine", "m", "00", "test", "a.wav", str(tmp_path / "a.wav"), "", "", "", "", 2, RATE, 2 * RATE)
    heard = sound.listen(clip)
    assert [one.channel for one in heard] == ["near", "far"]
    for one, samples in zip(heard, wave, strict=True):
        np.testing.assert_allclose(one.wave, samples, atol=1e-4)
    assert sound.excerpt_start(heard[0], 1.0) == RATE // 2
    assert sound.excerpt_start(heard[0], 5.0) == 0


@pytest.mark.parametrize("count", [3, 1439])
def test_the_course_of_a_long_recording_has_threshold_and_worst_window(count):
    starts, scores = 5.0 * np.arange(count), np.sin(np.arange(count))
    scores[1] = 9.0
    chart = str(curves.course_chart("Fan", starts, 10.0, scores, 2.0, 5.0))
    margin = 0.05 * (9 - scores.min())
    low, high = scores.min() - margin, 9 + margin
    end = starts[-1] + 10

    def x(seconds: float) -> float:
        return 44 + 304 * seconds / end

    (area,) = re.findall(r'class="area anomaly" d="M([^z]*)z', chart)
    sides = [float(point.split()[0]) for point in area.split("L")]
    np.testing.assert_allclose(sorted(set(sides)), [x(5), x(15)], atol=0.06)
    (line,) = re.findall(r'class="line both" d="M([^"]*)"', chart)
    points = np.array([[float(number) for number in point.split()] for point in line.split("L")])
    assert len(points) <= 402
    top = points[points[:, 1].argmin()]
    assert top[0] == pytest.approx(x(10), abs=0.06)  # the middle of the worst window, however many are left out
    (rule,) = re.findall(r'class="rule alarm" d="M44 ([0-9.]+)h304"', chart)
    assert float(rule) == pytest.approx(16 + 90 * (high - 2) / (high - low), abs=0.3)
    assert "the worst from 5.0 s" in chart


def test_of_a_long_recording_the_worst_window_is_shown(tmp_path):
    wave = np.linspace(-0.5, 0.5, 20 * RATE, dtype=np.float32)[None]
    audio.write(tmp_path / "a.wav", wave, RATE)
    clip = Clip("mine", "m", "00", "test", "a.wav", str(tmp_path / "a.wav"), "", "", "", "", 1, RATE, 20 * RATE)
    (heard,) = sound.listen(replace(clip, start=12 * RATE, window=4 * RATE))
    np.testing.assert_allclose(heard.wave, wave[0, 12 * RATE : 16 * RATE], atol=1e-4)
    picture = str(sound.picture(heard, -80, 0, "x", 1.0))
    assert re.findall(r'class="tick mid"[^>]*>([^<]*)', picture) == ["12", "13", "14", "15", "16"]
    assert re.search(r'class="line both" d="M158.0 \d+H234.0"', picture)  # the second in the middle
