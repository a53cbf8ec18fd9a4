"""The recipe in one file: its plain steps are those of the library, and it tells a fault from its absence."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from system import audio
from system.scoring.calibrate import robust_z
from system.scoring.knn import KnnScorer
from system.scoring.mahalanobis import MahalanobisScorer

FILE = Path(__file__).resolve().parent.parent / "recipes" / "one_machine" / "one_machine.py"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("one_machine", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """normal/ of a humming machine, good.wav, and bad.wav, in which it hums an octave higher too."""
    folder = tmp_path_factory.mktemp("machine")
    rng = np.random.default_rng(0)
    time = np.arange(8000) / 16000
    for name, octave in [*((f"normal/{i}.wav", 0.0) for i in range(12)), ("good.wav", 0.0), ("bad.wav", 0.3)]:
        hum = rng.uniform(0.2, 0.3) * np.sin(2 * np.pi * 150 * time) + octave * np.sin(2 * np.pi * 2300 * time)
        (folder / name).parent.mkdir(exist_ok=True)
        audio.write(folder / name, (hum + rng.normal(0, 0.05, len(time)))[None].astype(np.float32), 16000)
    return folder


def test_a_fault_is_told_from_its_absence(recipe, recordings, monkeypatch, capsys):
    files = [str(recordings / name) for name in ("good.wav", "bad.wav")]
    monkeypatch.setattr(sys, "argv", ["one_machine.py", str(recordings / "normal"), *files])
    assert recipe.main() == 0
    good, bad = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert (good[2], bad[2]) == ("normal", "ANOMALY")
    assert float(bad[1]) > float(good[1]) + 10


def test_too_few_recordings_are_refused_in_one_line(recipe, recordings, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["one_machine.py", str(recordings), str(recordings / "good.wav")])
    assert recipe.main() == 1
    assert capsys.readouterr().err == f"one_machine.py: {recordings}: expected at least 10 recordings, found 2\n"


@pytest.mark.parametrize(("plain", "scorer"), [("mahalanobis", MahalanobisScorer), ("nearest", KnnScorer)])
def test_the_plain_steps_are_the_librarys(recipe, plain, scorer):
    rng = np.random.default_rng(1)
    normal, other = rng.normal(size=(15, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(4, 6))
    settings = {"k": 1} if plain == "nearest" else {}
    fitted = scorer(bank="global", **settings).fit(normal, np.array(["source"] * 15))
    score = getattr(recipe, plain)
    np.testing.assert_allclose(fitted.score(other), [score(row, normal) for row in other], rtol=1e-6)
    reference = recipe.leave_one_out(score, normal)
    np.testing.assert_allclose(fitted.reference_scores(), reference, rtol=1e-6)
    assert robust_z(reference)(1.5) == pytest.approx(recipe.robust_z(reference)(1.5), rel=1e-9)


def test_the_spectrum_of_a_short_recording_is_finite(recipe):
    assert np.isfinite(recipe.spectrum(np.ones(10, np.float32))).all()
