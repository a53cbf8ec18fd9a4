import csv
import importlib.util
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import signal

from system import manifest
from system.bin import main
from system.corpora import noise as noise_module
from system.corpora.acoustics import long_term_spectrum
from system.corpora.dcase import prepare_dcase
from system.corpora.emulate import EmulateSettings, emulate, load_machine
from system.corpora.noise import NoisePool, crossfade, split_noise
from system.corpora.splits import Recording, read_table, split_machine
from system.errors import WheeltapperError

RATE = 8000
QUICK = EmulateSettings(seed=1, rate=RATE, rt60=0.1, train_target=3)
HEADER = ("file", "machine", "label", "domain", "group", "attributes", "fault")


def write_wave(path, wave, rate=RATE, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.asarray(wave).T, rate, subtype=subtype)


def machine_wave(rng, seconds, rate, pitch):
    t = np.arange(int(seconds * rate)) / rate
    hum = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k for k in range(1, 6))
    return 0.05 * hum + 0.01 * rng.standard_normal(len(t))


def write_table(path, rows, header=HEADER):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def make_inputs(root, machines=("saw", "drill")):
    """A table of two machines, 8 source and 5 target flights of normals in pairs, anomalies, and a folder of noise."""
    rng = np.random.default_rng(0)
    rows = []
    for number, machine in enumerate(machines):
        groups = [("source", "normal", k) for k in range(8)] + [("target", "normal", k) for k in range(5)]
        groups += [(domain, "anomaly", k) for domain in ("source", "target") for k in range(3)]
        for domain, label, k in groups:
            for cut in range(2):
                name = f"recordings/{machine}_{domain}_{label}_{k}_{cut}.wav"
                pitch = 150 + 60 * number + 20 * (domain == "target") + 35 * (label == "anomaly")
                write_wave(root / name, machine_wave(rng, 1.0, RATE, pitch))
                attributes = "spd_2_tool_b" if machine == "drill" and domain == "target" else ""
                fault = "blunt" if label == "anomaly" else ""
                rows.append((name, machine, label, domain, f"{domain}{label}{k}", attributes, fault))
    for k in range(9):
        rate = (RATE, 11025, 16000)[k % 3]
        colour = signal.lfilter([1], [1, -0.1 * k], rng.standard_normal(int((0.4 + 0.3 * k) * rate)))
        write_wave(root / "noise" / f"kind{k % 2}" / f"{k}.wav", 0.02 * colour, rate)
    return write_table(root / "table.csv", rows), root / "noise"


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


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


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
    """The mean spectrum of the noise is that of the machine, though the noise recordings' own are far from it."""
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
    """Noise at the near microphone that a least-squares filter per bin takes away with the far one, in dB."""
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


# ---- noise


def test_crossfade_keeps_power_and_ends():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 20000)).astype(np.float32)
    joined = crossfade(first, second, 8000)
    assert len(joined) == 32000
    np.testing.assert_array_equal(joined[:12000], first[:12000])
    np.testing.assert_array_equal(joined[-12000:], second[-12000:])
    assert np.mean(joined[12000:20000] ** 2) == pytest.approx(1, abs=0.06)


def test_noise_group_keeps_takes_together(inputs):
    for seed in range(5):
        train, test = split_noise(inputs[1], seed, sources=1, group=r"kind(\d)")
        assert (
            len({file.split("/")[0] for file in train.files}) == len({file.split("/")[0] for file in test.files}) == 1
        )
        assert len(train.files) + len(test.files) == 9


def test_long_noise_is_entered_anywhere_and_short_noise_is_strung_together(tmp_path):
    ramp = np.linspace(0.1, 0.9, 10 * RATE)
    write_wave(tmp_path / "long.wav", ramp, subtype="FLOAT")
    pool = NoisePool(tmp_path, ("long.wav",))
    rng = np.random.default_rng(0)
    starts = [pool.draw(rng, 1, RATE, RATE)[0][0] for _ in range(8)]
    slopes = [wave[-1] / wave[0] for wave in starts]  # tells the place: the ramp grows by a fixed step
    assert len({round(float(slope), 2) for slope in slopes}) > 4
    for k in range(3):
        write_wave(tmp_path / f"{k}.wav", 0.1 * rng.standard_normal(RATE // 2))
    waves, names = NoisePool(tmp_path, ("0.wav", "1.wav", "2.wav")).draw(rng, 2, 2 * RATE, RATE)
    assert waves.shape == (2, 2 * RATE)
    assert all(len(played) >= 4 for played in names)
    assert np.abs(np.square(waves.reshape(2, 8, -1)).mean(axis=2) - 1).max() < 0.3


def test_silent_noise_is_passed_over_and_all_silent_refused(tmp_path):
    write_wave(tmp_path / "silent.wav", np.zeros(RATE))
    write_wave(tmp_path / "loud.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE))
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert NoisePool(tmp_path, ("silent.wav", "loud.wav")).draw(rng, 1, RATE // 2, RATE)[1] == [["loud.wav"]]
    with pytest.raises(WheeltapperError, match=r"expected noise, found nothing but silence"):
        NoisePool(tmp_path, ("silent.wav",)).draw(rng, 1, RATE // 2, RATE)


# ---- splits

groups = st.lists(
    st.tuples(
        st.sampled_from("abcdefghij"),
        st.sampled_from(["normal", "normal", "anomaly"]),
        st.sampled_from(["source", "target"]),
    ),
    max_size=40,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(groups, st.integers(0, 5), st.integers(0, 6), st.one_of(st.none(), st.integers(1, 5)))
def test_split_properties(rows, seed, train_target, test):
    rows = [*rows, ("clean1", "normal", "source"), ("clean2", "normal", "source")]
    recordings = [
        Recording(str(k), Path(str(k)), "m", label, domain, group) for k, (group, label, domain) in enumerate(rows)
    ]
    split = split_machine(recordings, seed, 990, train_target, test)
    assert split.train
    assert {it.label for it in split.train} == {"normal"}
    assert not {it.group for it in split.train} & {it.group for it in split.test}
    everything = [*split.train, *split.test, *(it for it, _ in split.left_out)]
    assert sorted(it.file for it in everything) == sorted(it.file for it in recordings)
    assert sum(it.domain == "target" for it in split.train) <= train_target
    cells = [(it.domain, it.label) for it in split.test]
    sizes = {cell: cells.count(cell) for cell in set(cells)}
    if test is None:
        assert len(set(sizes.values())) <= 1, "balanced"
    else:
        assert all(size <= test for size in sizes.values())
    assert split == split_machine(recordings[::-1], seed, 990, train_target, test), "order of rows must not matter"


def test_normals_of_a_group_with_an_anomaly_never_train():
    rows = [("spoilt", "normal"), ("spoilt", "anomaly"), ("a", "normal"), ("b", "normal"), ("c", "normal")]
    recordings = [Recording(str(k), Path(str(k)), "m", label, "source", group) for k, (group, label) in enumerate(rows)]
    for seed in range(10):
        split = split_machine(recordings, seed, 990, 10, None)
        assert "spoilt" not in {it.group for it in split.train}


# ---- bad input


def expect(message, table, noise, out, settings=QUICK):
    with pytest.raises(WheeltapperError, match=message) as caught:
        emulate(table, noise, out, settings)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}*"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("file", "gone.wav", r"line 2: file: expected a recording, found no file 'gone\.wav'"),
        ("label", "broken", r"line 2: label: expected normal or anomaly, found 'broken'"),
        ("domain", "", r"line 2: domain: expected source or target, found ''"),
        ("machine", "big saw", r"line 2: machine: expected letters, digits and hyphens, found 'big saw'"),
        ("attributes", "spd", r"line 2: attributes: expected key_value pairs, found 'spd'"),
        ("attributes", "spd__2_x", r"line 2: attributes: expected key_value pairs"),
    ],
)
def test_bad_table_cells_are_named(inputs, tmp_path, column, value, message):
    rows = [[row[name] for name in HEADER] for row in rows_of(inputs[0])]
    for row in rows:
        row[0] = str(inputs[0].parent / row[0])
    rows[0][HEADER.index(column)] = value
    expect(message, write_table(tmp_path / "table.csv", rows), inputs[1], tmp_path / "data")


def test_bad_tables_are_named(inputs, tmp_path):
    rows = [[str(inputs[0].parent / row["file"]), row["machine"], row["label"]] for row in rows_of(inputs[0])]
    table = write_table(tmp_path / "table.csv", rows, header=HEADER[:3])
    expect(r"line 1: expected the columns .* \(missing: domain, group\)", table, inputs[1], tmp_path / "data")
    expect(r"expected a table of recordings, found nothing", tmp_path / "no.csv", inputs[1], tmp_path / "data")
    expect(r"at least one recording, found none", write_table(tmp_path / "e.csv", []), inputs[1], tmp_path / "data")
    rows = [[row[name] for name in HEADER] for row in rows_of(inputs[0])]
    for row in rows:
        row[0] = str(inputs[0].parent / row[0])
    twice = write_table(tmp_path / "twice.csv", [*rows, rows[3]])
    expect(r"stands there twice for saw", twice, inputs[1], tmp_path / "data")
    normal = write_table(tmp_path / "normal.csv", [row for row in rows if row[2] == "normal"])
    expect(r"saw: expected at least one anomaly", normal, inputs[1], tmp_path / "data")
    one = write_table(tmp_path / "one.csv", [[*row[:4], "g" + row[2], *row[5:]] for row in rows])
    expect(r"saw: expected at least 2 groups of normal source", one, inputs[1], tmp_path / "data")


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.zeros(RATE), "expected a machine's sound in the first channel, found silence"),
        (np.full(RATE, np.nan), "expected finite samples, found 8000 that are NaN"),
        (0.1 * np.ones(100), "expected 0.5 s of sound or more, found 0.013 s"),
    ],
)
def test_bad_recordings_are_named(inputs, tmp_path, wave, message):
    write_wave(tmp_path / "bad.wav", wave, subtype="FLOAT")
    rows = [[row[name] for name in HEADER] for row in rows_of(inputs[0])]
    for row in rows:
        row[0] = str(inputs[0].parent / row[0])
    rows[0][0] = "bad.wav"
    table = write_table(tmp_path / "table.csv", rows)
    expect(rf"bad\.wav: {re.escape(message)}", table, inputs[1], tmp_path / "data")


def test_bad_noise_is_named(inputs, tmp_path):
    table, noise = inputs
    expect(r"expected a folder of noise recordings, found no folder", table, tmp_path / "no", tmp_path / "data")
    (tmp_path / "empty").mkdir()
    expect(r"expected noise recordings \(wav, flac or ogg\), found none", table, tmp_path / "empty", tmp_path / "data")
    few = replace(QUICK, sources=5)
    expect(r"at least 10 different noise recordings .* found 9", table, noise, tmp_path / "data", few)
    expect(
        r"noise_group: expected a regular expression", table, noise, tmp_path / "data", replace(QUICK, noise_group="(")
    )
    expect(r"noise_group: expected 'x' to match", table, noise, tmp_path / "data", replace(QUICK, noise_group="x"))
    for k in range(6):
        (tmp_path / "empty" / f"{k}.wav").write_bytes(b"RIFF")
    expect(r"\d\.wav: expected a readable", table, tmp_path / "empty", tmp_path / "data")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr_low": 0.0, "snr_high": -5.0}, "snr_high: expected 0 to 60, found -5"),
        ({"snr_low": float("nan")}, "snr_low: expected"),
        ({"rt60": 9.0}, "rt60: expected"),
        ({"sources": 0}, "sources: expected"),
        ({"test": 0}, "test: expected"),
        ({"far_metres": (3.0, 2.0)}, "far_metres: expected"),
        ({"anonymous": ("lathe",)}, "anonymous: expected some of saw, drill, found 'lathe'"),
    ],
)
def test_bad_settings_are_named(inputs, tmp_path, change, message):
    expect(f"^{message}", *inputs, tmp_path / "data", replace(QUICK, **change))


def test_folders_inside_one_another_and_foreign_ones_are_refused(inputs, tmp_path):
    with pytest.raises(WheeltapperError, match="one inside the other"):
        emulate(*inputs, inputs[1] / "data", QUICK)
    with pytest.raises(WheeltapperError, match="one inside the other"):
        emulate(*inputs, tmp_path / "data", QUICK, references=tmp_path / "data" / "clean")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(WheeltapperError, match=r"expected an empty folder or one with emulate\.json"):
        emulate(*inputs, tmp_path / "mine", QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_table_with_its_own_folder_and_absolute_paths_and_no_groups(tmp_path):
    write_wave(tmp_path / "x.wav", np.ones(10))
    rows = [("x.wav", "saw", "normal", "source", ""), (str(tmp_path / "x.wav"), "axe", "anomaly", "target", "g")]
    first, second = read_table(write_table(tmp_path / "t.csv", rows, header=HEADER[:5]))
    assert first.path == second.path
    assert (first.group, second.group) == ("file x.wav", "g")
    assert (first.attributes, first.fault) == ("", "")


# ---- command line and recipe


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


def load_recipe():
    path = Path(__file__).resolve().parents[3] / "recipes" / "propeller" / "local" / "make_table.py"
    spec = importlib.util.spec_from_file_location("make_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_propeller_table(tmp_path):
    module = load_recipe()
    columns = ["file", "label", "n_broken", "propellers", "direction", "mission", "recording"]
    rows = [
        ["normal/a.flac", "normal", 0, "0000", "cw", "square", 4],
        ["normal/b.flac", "normal", 0, "0000", "cw", "square", 4],
        ["anomaly/c.flac", "anomaly", 2, "0110", "ccw", "f8", 1],
        ["anomaly/d.flac", "anomaly", 3, "0111", "ccw", "f8", 1],
    ]
    for row in rows:
        write_wave(tmp_path / row[0], np.ones(10))
    made = module.table_rows(write_table(tmp_path / "manifest.csv", rows, header=columns))
    module.write_rows(tmp_path / "table.csv", module.COLUMNS, made)
    first, second, third = read_table(tmp_path / "table.csv")
    assert (first.machine, first.label, first.domain, first.fault) == ("cw", "normal", "source", "")
    assert (third.machine, third.label, third.domain, third.fault) == ("ccw", "anomaly", "target", "broken2")
    assert first.group == second.group != third.group
    with pytest.raises(WheeltapperError, match="missing mission"):
        module.table_rows(write_table(tmp_path / "m.csv", [], header=columns[:5]))
    rows[0][5] = "hover"
    strange = write_table(tmp_path / "m.csv", rows, header=columns)
    with pytest.raises(WheeltapperError, match="expected square or f8, found 'hover'"):
        module.table_rows(strange)


def test_noise_pieces_shorter_than_a_click_are_not_used(tmp_path):
    write_wave(tmp_path / "click.wav", 0.5 * np.ones(int(0.5 * noise_module.MIN_SECONDS * RATE)))
    with pytest.raises(WheeltapperError, match="pieces under"):
        NoisePool(tmp_path, ("click.wav",)).draw(np.random.default_rng(0), 1, RATE, RATE)
