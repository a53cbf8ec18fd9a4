import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from emulate_inputs import QUICK, RATE, make_inputs, rows_of, write_wave
from scipy import signal

from system import manifest
from system.bin import main
from system.corpora.dcase import prepare_dcase
from system.corpora.simulation.acoustics import long_term_spectrum
from system.corpora.simulation.emulate import emulate, load_machine


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def built(inputs, tmp_path_factory):
    root = tmp_path_factory.mktemp("emulated")
    emulate(*inputs, root / "data", QUICK, references=root / "oracle")
    return root


def record(folder):
    return json.loads((folder / "emulate.json").read_text())


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.wav")}


def read(path):
    return soundfile.read(path, always_2d=True)[0].T


def test_layout_counts_and_labels(built):
    clips = prepare_dcase(built / "data")
    assert manifest.is_development(clips) == {"saw": True, "drill": True}
    for machine in ("saw", "drill"):
        own = [clip for clip in clips if clip.machine == machine]
        train = [clip for clip in own if clip.split == "train"]
        assert {clip.label for clip in train} == {"normal"}
        assert [sum(clip.domain == domain for clip in train) for domain in ("source", "target")] == [10, 3]
        cells = [(clip.domain, clip.label) for clip in own if clip.split == "test"]
        assert {cell: cells.count(cell) for cell in cells} == {
            (domain, label): 6 for domain in ("source", "target") for label in ("normal", "anomaly")
        }
        assert {(clip.channels, clip.rate, clip.samples) for clip in own} == {(2, RATE, RATE)}
    assert {clip.attributes for clip in clips if clip.machine == "drill"} == {"", "spd_2_tool_b"}


def test_truth_and_record_agree_with_the_table(inputs, built):
    table = {row["file"]: row for row in rows_of(inputs[0])}
    made = record(built / "data")
    for row in rows_of(built / "data" / "truth.csv"):
        origin = table[made["clips"][f"{row['machine']}/test/{row['file']}"]["recording"]]
        assert [row[name] for name in ("machine", "label", "domain", "fault")] == [
            origin[name] for name in ("machine", "label", "domain", "fault")
        ]
        assert (row["section"], f"_{row['domain']}_test_{row['label']}_" in row["file"]) == ("00", True)
    used = [facts["recording"] for facts in made["clips"].values()]
    left = [entry["recording"] for entry in made["left_out"]]
    assert sorted(used + left) == sorted(table)
    assert all(entry["reason"] for entry in made["left_out"])


def test_groups_and_noise_stay_on_one_side(built):
    sides = {"train": (set(), set()), "test": (set(), set())}
    for name, facts in record(built / "data")["clips"].items():
        machine, side, _ = name.split("/")
        sides[side][0].add((machine, facts["group"]))
        sides[side][1].update(file for source in facts["noise"] for file in source)
        assert len(facts["noise"]) == QUICK.sources
    for train, test in zip(sides["train"], sides["test"], strict=True):
        assert train
        assert test
        assert not train & test


def test_snr_is_what_the_record_says_and_within_bounds(built):
    ratios = []
    for name, facts in record(built / "data")["clips"].items():
        near, clean = read(built / "oracle" / "near" / name)[0], read(built / "oracle" / "clean" / name)[0]
        np.testing.assert_array_equal(near, read(built / "data" / name)[0])
        found = 10 * np.log10(np.mean(clean**2) / np.mean((near - clean) ** 2))
        assert found == pytest.approx(facts["snr_db"], abs=0.2)
        ratios.append(facts["snr_db"])
    assert -20 <= min(ratios) < -17 < -15 < max(ratios) <= -12


def test_no_clip_is_clipped_and_most_have_one_gain(built):
    gains = [facts["gain_db"] for facts in record(built / "data")["clips"].values()]
    assert max(gains) - np.median(gains) < 0.01
    for path in (built / "data").rglob("*.wav"):
        assert 0.001 < np.abs(read(path)).max() <= 0.9 + 1e-4


def test_noise_is_equalised_to_the_machine(built):
    """The mean spectrum of the noise equals that of the machine, although the noise recordings have other spectra."""
    spectra = {"noise": [], "clean": []}
    for name in record(built / "data")["clips"]:
        if name.startswith("saw/train"):
            near, clean = read(built / "oracle" / "near" / name)[0], read(built / "oracle" / "clean" / name)[0]
            spectra["noise"].append(10 * np.log10(long_term_spectrum(near - clean, RATE)))
            spectra["clean"].append(10 * np.log10(long_term_spectrum(clean, RATE)))
    noise, clean = (np.mean(spectra[kind], axis=0)[8:500] for kind in ("noise", "clean"))
    assert np.std(clean) > 6
    assert np.std(noise - clean) < 4
    assert np.corrcoef(noise, clean)[0, 1] > 0.85


def reduction_db(folder, oracle):
    """Reduction in dB of the noise at the near microphone by a least-squares filter per bin from the far one."""
    gains = []
    for name in list(record(folder)["clips"])[:12]:
        wave, clean = read(folder / name), read(oracle / "clean" / name)[0]
        noise = np.stack([wave[0] - clean, wave[1]])
        near, far = signal.stft(noise, RATE, nperseg=512)[2]
        h = (near * far.conj()).sum(axis=1) / (np.abs(far) ** 2).sum(axis=1)
        left = near - h[:, None] * far
        gains.append(10 * np.log10((np.abs(near) ** 2).sum() / (np.abs(left) ** 2).sum()))
    return np.mean(gains)


def test_far_channel_tells_of_the_noise_but_not_all(inputs, built, tmp_path):
    easy = replace(QUICK, sources=1, rt60=0.05, incoherent_db=-60.0)
    emulate(*inputs, tmp_path / "easy", easy, references=tmp_path / "oracle")
    hard, simple = reduction_db(built / "data", built / "oracle"), reduction_db(tmp_path / "easy", tmp_path / "oracle")
    assert 1 < hard < 8
    assert simple > hard + 3


def test_far_channel_hears_the_machine_weakly(built):
    for facts in record(built / "data")["machines"].values():
        assert facts["far_attenuation_db"] > 6
        assert 4 < facts["far_delay_ms"] < 10


def test_same_bytes_again_with_threads_and_others_with_another_seed(inputs, built, tmp_path):
    emulate(*inputs, tmp_path / "again", QUICK, workers=3)
    assert contents(tmp_path / "again") == contents(built / "data")
    emulate(*inputs, tmp_path / "other", replace(QUICK, seed=2))
    assert set(contents(tmp_path / "other").values()).isdisjoint(contents(built / "data").values())


def test_a_clip_does_not_depend_on_the_number_of_others(inputs, built, tmp_path):
    # Five instead of six in each cell: the same three groups test, the same recordings train.
    emulate(*inputs, tmp_path / "few", replace(QUICK, test=5))
    by_origin = {}
    for folder in (built / "data", tmp_path / "few"):
        by_origin[folder.name] = {
            (name.split("/")[0], name.split("/")[1], facts["recording"]): (folder / name).read_bytes()
            for name, facts in record(folder)["clips"].items()
            if "/test/" in name
        }
    shared = set(by_origin["few"]) & set(by_origin["data"])
    assert len(by_origin["few"]) == 40
    assert len(shared) >= 36
    assert all(by_origin["few"][key] == by_origin["data"][key] for key in shared)


def test_second_run_does_nothing(inputs, built):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    emulate(*inputs, built / "data", QUICK, references=built / "oracle")
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before


def test_interrupted_run_leaves_nothing(inputs, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        emulate(*inputs, tmp_path / "data", QUICK, references=tmp_path / "oracle", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_anonymous_machine_says_nothing(inputs, tmp_path):
    emulate(*inputs, tmp_path / "data", replace(QUICK, anonymous=("drill",)))
    names = sorted(path.name for path in (tmp_path / "data" / "drill" / "test").iterdir())
    assert names == [f"section_00_{k:04d}.wav" for k in range(24)]
    assert "/test/" not in (tmp_path / "data" / "drill" / "attributes_00.csv").read_text()
    rows = [row for row in rows_of(tmp_path / "data" / "truth.csv") if row["machine"] == "drill"]
    cells = [(row["domain"], row["label"]) for row in sorted(rows, key=lambda row: row["file"])]
    assert len(set(cells)) == 4
    assert sum(a != b for a, b in pairwise(cells)) > 8, "cells must not lie in blocks"
    assert manifest.is_development(prepare_dcase(tmp_path / "data")) == {"drill": False, "saw": True}


def test_first_channel_is_taken_and_resampled(tmp_path):
    t = np.arange(44100) / 44100
    loud = np.random.default_rng(0).standard_normal(44100) * 0.3
    write_wave(tmp_path / "a.wav", np.stack([0.1 * np.sin(2 * np.pi * 440 * t), loud]), 44100)
    wave = load_machine(tmp_path / "a.wav", RATE)
    assert wave.shape == (RATE,)
    assert np.mean(wave**2) == pytest.approx(1, rel=0.02)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(RATE)))
    assert spectrum.argmax() == 440
    assert spectrum[500:].max() < 1e-3 * spectrum.max()


def test_verb_builds_and_reports_mistakes(inputs, tmp_path, capsys):
    command = ["emulate", *map(str, inputs), str(tmp_path / "data"), "--seed", "5", "--snr", "-6", "-3"]
    options = ["--rate", "8000", "--rt60", "0.1", "--test", "2", "--train-target", "2", "--anonymous", "saw"]
    assert main([*command, *options]) == 0
    assert "is complete" in capsys.readouterr().err
    made = record(tmp_path / "data")
    assert made["identity"]["settings"]["anonymous"] == ["saw"]
    assert all(-6 <= facts["snr_db"] <= -3 for facts in made["clips"].values())
    assert main([*command[:2], str(tmp_path / "none"), *command[3:]]) == 1
    assert "expected a folder of noise" in capsys.readouterr().err
