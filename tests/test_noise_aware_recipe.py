"""The noise-aware system at toy size: from recordings to package, with what it hears worked out in plain NumPy."""

import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from submission.validate import validate
from system import config, manifest
from system.bin import main
from system.embeddings.files import read_rows
from system.experiment import Experiment
from system.files import read_json
from system.frontends.logmel import mel_filterbank

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "dcase2026"
CONF = """
base: {base}
branches:
  low: {{inputs: [residual], subtraction: {{n_fft: 512, stretch: 0.5}}, spectrum: {{statistic: quantile, merge: 2}},
        scorer: {{name: mahalanobis, settings: {{bank: global}}}}}}
  shared: {{shares: low, scorer: {{name: knn, settings: {{k: 1, bank: global}}}}}}
  tokens: {{shares: main, readout: rdp, scorer: {{name: beam, settings: {{varmin: 2}}}}}}
  given: {{inputs: [residual, far], subtraction: {{n_fft: 512, stretch: 0.5}}, spectrum: {{merge: 8}},
          scorer: {{name: conditional_mahalanobis}}}}
  pair: {{inputs: [near, residual], subtraction: {{n_fft: 512}}, depth: 1, crop_seconds: 1.0,
         loop: {{steps: 2, batch_size: 4, warmup_steps: 1}}, pseudo_attributes: {{clusters: 2}}}}
systems:
  - {{name: All, abbreviation: all, weights: {{low: 1, main: 1, shared: 1, tokens: 1, given: 1, pair: 1}}}}
  - {{name: Spectra, abbreviation: spectra, view: near_only, weights: {{low: 1, given: 1}}}}
"""


@pytest.fixture(scope="module")
def run(recordings, tmp_path_factory) -> Experiment:
    place = tmp_path_factory.mktemp("noise_aware")
    conf, exp = place / "c.yaml", place / "exp"
    conf.write_text(CONF.format(base=RECIPE / "conf" / "noise_aware_toy.yaml"))
    assert main(["run", "--exp", str(exp), "--conf", str(conf), "--data", str(recordings)]) == 0
    return Experiment(exp, config.load(conf))


def residual(wave: np.ndarray, n_fft: int, stretch: int) -> np.ndarray:
    """Local least squares frame by frame, (2, samples) to (samples,)."""
    hop, samples = n_fft // 2, wave.shape[1]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    fill = -samples % hop
    padded = np.pad(np.pad(wave.astype(float), ((0, 0), (0, fill)), "reflect"), ((0, 0), (hop, hop)), "reflect")
    count = (padded.shape[1] - n_fft) // hop + 1
    frames = np.stack([padded[:, t * hop : t * hop + n_fft] * window for t in range(count)], axis=1)
    near, far = np.fft.rfft(frames, axis=2)
    half, left = round(stretch / hop / 2), np.empty_like(near)
    for t in range(count):
        around = slice(max(0, t - half), t + half + 1)
        gain = (near[around] * far[around].conj()).sum(0) / (np.abs(far[around]) ** 2).sum(0)
        left[t] = near[t] - gain * far[t]
    total, weight = np.zeros(padded.shape[1]), np.zeros(padded.shape[1])
    for t, frame in enumerate(np.fft.irfft(left, n_fft, axis=1)):
        total[t * hop : t * hop + n_fft] += frame * window
        weight[t * hop : t * hop + n_fft] += window**2
    return (total / np.maximum(weight, 1e-12))[hop : hop + samples]


def decibels(wave: np.ndarray, rate: int) -> np.ndarray:
    """The official log-mel spectrogram, (samples,) to (frames, 128)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    padded = np.pad(wave, 512)
    frames = np.stack([padded[i : i + 1024] * window for i in range(0, len(padded) - 1023, 512)])
    mel = np.abs(np.fft.rfft(frames)) ** 2 @ mel_filterbank(rate).numpy().T.astype(float)
    return 10 * np.log10(np.maximum(mel, np.finfo(float).eps))


def test_a_row_is_the_low_quantile_of_the_local_residual(run):
    rows = read_rows(run.index("low"), run.embeddings("low", "two_channel"))
    clip = next(clip for clip in manifest.read(run.manifest) if clip.split == "test")
    wave, rate = soundfile.read(clip.path, always_2d=True)
    expected = np.quantile(decibels(residual(wave.T, 512, rate // 2), rate), 0.1, axis=0).reshape(64, 2).mean(1)
    np.testing.assert_allclose(rows[clip.key], expected, atol=0.02)


def test_shapes_of_rows(run):
    def shape(branch: str, view: str = "two_channel") -> tuple[int, ...]:
        return np.load(run.embeddings(branch, view)).shape[1:]

    assert [shape(name) for name in ("low", "shared", "given", "pair")] == [(64,), (64,), (2, 16), (256,)]
    assert shape("tokens") == (12, 128)
    given = np.load(run.embeddings("given", "near_only"))
    np.testing.assert_array_equal(given[:, 0], given[:, 1])
    np.testing.assert_array_equal(given[:, 0], np.load(run.embeddings("given", "two_channel"))[:, 0])


def test_the_card_of_a_spectrum_lists_its_settings(run):
    card, settings = read_json(run.card("low")), asdict(run.config.branches["low"])
    assert {name: card[name] for name in ("spectrum", "inputs", "subtraction")} == {
        name: settings[name] for name in ("spectrum", "inputs", "subtraction")
    }


def test_the_package_says_what_was_done(run):
    assert [found for found in validate(run.zip) if found.level == "error"] == []
    label = run.labels[0]
    with zipfile.ZipFile(run.zip) as archive:
        meta = yaml.safe_load(archive.read(f"task2/{label}/{label}.meta.yaml"))
    front_end = meta["system"]["description"]["front_end"]
    assert "complex least-squares subtraction of the far microphone (window 512, gains over 0.5 s)" in front_end
    assert meta["system"]["complexity"]["total_parameters"] > 64 * 67 // 2


def test_reference_systems_are_measured_as_their_command_measures_them(run, tmp_path):
    assert main(["reference", "--manifest", str(run.manifest), "--system", "logmel_knn", "--out", str(tmp_path)]) == 0
    found, given = read_json(run.metrics)["references"], read_json(tmp_path / "references.json")["systems"]
    names = ["logmel_knn", "logmel_knn_subtracted", "logmel_mahalanobis", "logmel_mahalanobis_subtracted"]
    assert (list(found["systems"]), found["left_out"]) == (names, {})
    assert found["systems"]["logmel_knn"]["per_machine"] == given["logmel_knn"]["per_machine"]
    assert found["systems"]["logmel_knn"]["official_score"] == given["logmel_knn"]["official_score"]


def test_pseudo_attributes_are_on_record(run):
    rows = (run.adapted("pair") / "pseudo_attributes.csv").read_text().splitlines()
    clips = [clip for clip in manifest.read(run.manifest) if clip.split == "train"]
    bare = [clip for clip in clips if not any(c.attributes for c in clips if c.machine == clip.machine)]
    assert len(rows) == 1 + len(bare)


def test_every_rule_holds_with_clips_embedded_again(run, capsys):
    assert main(["comply", str(run.folder), "--recompute", "2"]) == 0
    rules = {rule["name"]: rule for rule in read_json(run.compliance)["rules"]}
    assert rules["embeddings"]["checked"].startswith("2 test clips")
    assert not any("no embeddings" in note for note in rules["embeddings"]["notes"])


def test_without_a_far_microphone_it_hears_the_near_one(recordings, tmp_path, capsys):
    """Mono recordings run through, and their rows are those of a system that knows the near microphone alone."""
    folder = tmp_path / "mono"
    shutil.copytree(recordings, folder)
    for path in folder.rglob("*.wav"):
        wave, rate = soundfile.read(path, always_2d=True)
        soundfile.write(path, wave[:, 0], rate, subtype="PCM_16")
    conf = tmp_path / "c.yaml"
    conf.write_text(f"base: {RECIPE / 'conf' / 'noise_aware_spectrum.yaml'}\nbranches: {{near: {{inputs: [near], "
                    "spectrum: {statistic: quantile, merge: 2}}}\nsystems:\n- {name: both, weights: {low: 0.25, "
                    "quarter: 0.25, magnitude_low: 0.25, magnitude_quarter: 0.25}}\n"
                    "- {name: local, weights: {low: 0.5, quarter: 0.5}}\n- {name: low, weights: {low: 1}}")  # fmt: skip
    exp = tmp_path / "exp"
    assert main(["run", "--exp", str(exp), "--conf", str(conf), "--data", str(folder), "--stop-stage", "5"]) == 0
    told = "task2_1 and Wheeltapper_Demo_task2_2 coincide: they give every clip the same score, since the recordings"
    assert told in capsys.readouterr().out
    mono = Experiment(exp, config.load(conf))
    low, near = (np.load(mono.embeddings(name, "two_channel")) for name in ("low", "near"))
    np.testing.assert_array_equal(low, near)
