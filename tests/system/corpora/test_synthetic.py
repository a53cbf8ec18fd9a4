import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from scipy import signal

from system import manifest
from system.bin import main
from system.corpora.dcase import prepare_dcase
from system.corpora.simulation import machines, synthetic
from system.corpora.simulation.acoustics import generator
from system.corpora.simulation.synthetic import MODELS, RATE, SyntheticSettings, synthesize
from system.errors import WheeltapperError

TINY = SyntheticSettings.of_size("tiny")
LABELLED = re.compile(
    r"section_00_(source|target)_(train|test)_(normal|anomaly)_(\d{4})_(noAttribute|[a-z]+_\d.*)\.wav"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    synthesize(folder, TINY, seed=3)
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def truth(folder):
    with open(folder / "truth.csv", newline="") as file:
        return list(csv.DictReader(file))


def healthy(name, seed=0, domain="source", fault="", severity=0.0, seconds=4):
    """A rendered machine in the middle of its first condition, (samples,)."""
    model = MODELS[name]
    condition = {key: np.mean(limits) for key, limits in model.conditions[domain][0][1].items()}
    body, rng = generator(5, name, "body"), generator(seed, name, "clip")
    return model.render(body, rng, condition, fault, severity, seconds * RATE, RATE), condition


def line(wave, hertz, width=1.0):
    """Power at a frequency (Hz), relative to the median of the 20 Hz around it, in dB."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    f = np.fft.rfftfreq(len(wave), 1 / RATE)
    return 10 * np.log10(spectrum[np.abs(f - hertz) < width].max() / np.median(spectrum[np.abs(f - hertz) < 10]))


def test_layout_counts_and_names(tiny):
    clips = prepare_dcase(tiny)
    assert len(clips) == 5 * (6 + 3 + 4 * 2)
    development = manifest.is_development(clips)
    assert development == {name: not model.anonymous for name, model in MODELS.items()}
    for clip in clips:
        if development[clip.machine] or clip.split == "train":
            assert LABELLED.fullmatch(clip.file), clip.file
        else:
            assert re.fullmatch(r"section_00_000[0-7]\.wav", clip.file)
    train = {name: [c for c in clips if c.machine == name and c.split == "train"] for name in MODELS}
    for own in train.values():
        assert [sum(clip.domain == domain for clip in own) for domain in ("source", "target")] == [6, 3]
        assert {clip.label for clip in own} == {"normal"}
    assert {name for name in MODELS if any(clip.attributes for clip in train[name])} == {
        "SimFan",
        "SimGearbox",
        "SimPump",
    }
    assert len({(clip.machine, clip.seconds) for clip in clips}) == 5
    assert len({clip.seconds for clip in clips}) == 2


def test_default_size_is_the_documented_one():
    settings = SyntheticSettings()
    plans = [plan for name in MODELS for plan in synthetic._plans(name, settings, seed=0)]
    assert len(plans) == 5 * (60 + 10 + 4 * 15)
    assert len({(plan.machine, plan.split, plan.file) for plan in plans}) == len(plans)
    assert {model.seconds for model in MODELS.values()} == {6.0, 10.0}


def test_audio_is_16_bit_two_channels_and_sounds(tiny):
    for path in tiny.rglob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 2, "PCM_16")
        wave, _ = soundfile.read(path)
        level = 20 * np.log10(np.sqrt(np.mean(wave**2, axis=0)))
        assert (level > -50).all()
        assert (level < -10).all()
        assert np.abs(wave).max() < 0.96


def test_truth_covers_the_test_and_nothing_else(tiny):
    rows = truth(tiny)
    assert {(row["machine"], row["file"]) for row in rows} == {
        (path.parts[-3], path.name) for path in tiny.rglob("test/*.wav")
    }
    for row in rows:
        assert (row["fault"] in MODELS[row["machine"]].faults) == (row["label"] == "anomaly")
        match = LABELLED.fullmatch(row["file"])
        if match:
            assert (match[1], match[3]) == (row["domain"], row["label"])
    for name in MODELS:
        cells = [(row["domain"], row["label"]) for row in rows if row["machine"] == name]
        assert all(cells.count(cell) == 2 for cell in synthetic.CELLS)


def test_anonymous_order_is_shuffled_and_attributes_are_not_given_away(tiny):
    for name in ("SimPump", "SimSlider"):
        cells = [(row["domain"], row["label"]) for row in truth(tiny) if row["machine"] == name]
        assert cells != sorted(cells, key=synthetic.CELLS.index)
        text = (tiny / name / "attributes_00.csv").read_text()
        assert "/train/" in text
        assert "/test/" not in text
    assert "/test/" in (tiny / "SimFan" / "attributes_00.csv").read_text()


def test_same_seed_same_bytes_whatever_the_workers(tiny, tmp_path):
    synthesize(tmp_path / "again", replace(TINY, machines=("SimFan", "SimPump")), seed=3, workers=3)
    again, first = contents(tmp_path / "again"), contents(tiny)
    clips = [name for name in again if name.endswith(".wav")]
    assert len(clips) == 34
    assert all(again[name] == first[name] for name in clips)


def test_another_seed_is_another_set(tiny, tmp_path):
    synthesize(tmp_path / "other", replace(TINY, machines=("SimFan",)), seed=4)
    name = "SimFan/train/section_00_source_train_normal_0000_spd_1.wav"
    assert (tmp_path / "other" / name).read_bytes() != (tiny / name).read_bytes()


def test_a_clip_does_not_depend_on_how_many_others_there_are(tiny, tmp_path):
    synthesize(
        tmp_path / "less", replace(TINY, machines=("SimGearbox",), train_source=2, train_target=1, test=1), seed=3
    )
    few = {name: data for name, data in contents(tmp_path / "less").items() if name.endswith(".wav")}
    assert len(few) == 7
    many = contents(tiny)
    assert all(many[name] == data for name, data in few.items())


def test_second_run_does_nothing_and_changed_settings_replace(tmp_path):
    settings = replace(TINY, machines=("SimFan",), train_source=2, train_target=1, test=1)
    folder = tmp_path / "data"
    synthesize(folder, settings, seed=0)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    synthesize(folder, settings, seed=0)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    next(folder.rglob("test/*.wav")).unlink()
    synthesize(folder, settings, seed=0)
    assert len(list(folder.rglob("*.wav"))) == 7
    synthesize(folder, replace(settings, train_source=3), seed=0)
    assert len(list(folder.rglob("*.wav"))) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_interrupted_run_leaves_nothing_and_can_be_repeated(tmp_path):
    settings = replace(TINY, machines=("SimFan",), train_source=2, train_target=1, test=1)

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "data", settings, seed=0, progress=interrupt)
    assert not list(tmp_path.iterdir())
    # Files of a killed process must not get into the result.
    stale = tmp_path / ".data.partial" / "Old" / "train"
    stale.mkdir(parents=True)
    (stale / "x.wav").write_bytes(b"half")
    synthesize(tmp_path / "data", settings, seed=0)
    assert not (tmp_path / "data" / "Old").exists()
    assert len(list((tmp_path / "data").rglob("*.wav"))) == 7


def test_folder_of_another_is_refused(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    assert main(["synthesize", str(tmp_path / "mine"), "--size", "tiny"]) == 1
    assert "expected an empty folder" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"machines": ("SimPlane",)}, "machines"),
        ({"train_source": 0}, "train_source"),
        ({"shorten": 99}, "shorten"),
        ({"rt60": 5.0}, "rt60"),
        ({"test": -1}, "test"),
    ],
)
def test_senseless_settings_are_named(tmp_path, change, named):
    with pytest.raises(WheeltapperError, match=f"^{named}: expected"):
        synthesize(tmp_path / "data", replace(TINY, **change), seed=0)
    assert not list(tmp_path.iterdir())


def test_near_channel_is_the_machines(tiny):
    """The recorded SNR is that of the near channel; the machine is much weaker in the far one."""
    record = json.loads((tiny / "synthetic.json").read_text())
    for name, facts in record["clips"].items():
        low, high = MODELS[name.split("/")[0]].snr_db
        assert low <= facts["snr_db"] <= high
        assert (facts["severity"] >= 0.25) == bool(facts["fault"])
    scene = synthetic._scene(3, "SimFan", "source", 0.3)
    assert np.square(scene.machine[1]).sum() < 0.25 * np.square(scene.machine[0]).sum()
    other = synthetic._scene(3, "SimFan", "target", 0.3)
    assert not np.array_equal(scene.machine, other.machine)


@pytest.mark.parametrize("name", MODELS)
def test_a_healthy_machine_has_about_unit_power(name):
    powers = []
    for domain, conditions in MODELS[name].conditions.items():
        for _, limits in conditions:
            condition = {key: np.mean(bounds) for key, bounds in limits.items()}
            body, rng = generator(1, "body"), generator(1, domain)
            powers.append(np.mean(MODELS[name].render(body, rng, condition, "", 0.0, 4 * RATE, RATE) ** 2))
    assert min(powers) > 0.3
    assert max(powers) < 3.0


def test_harmonics_equal_their_definition():
    rng = np.random.default_rng(0)
    phase, amplitudes = np.cumsum(rng.uniform(0, 0.3, 20000)), rng.normal(size=12) + 1j * rng.normal(size=12)
    orders = np.arange(1, 13)[:, None]
    expected = (amplitudes[:, None] * np.exp(1j * orders * phase)).sum(axis=0).real
    np.testing.assert_allclose(machines.harmonics(phase, amplitudes), expected, atol=1e-3)


def test_crossings_are_where_the_phase_passes_the_marks():
    phase = 0.3 + 0.01 * np.arange(5000)
    places = machines.crossings(phase, 2 * np.pi)
    np.testing.assert_allclose(0.3 + 0.01 * places, 2 * np.pi * np.arange(1, 9)[: len(places)], atol=1e-6)
    assert len(places) == int(phase[-1] // (2 * np.pi))


def test_imbalance_raises_the_shaft_line_with_its_severity():
    levels = [line(*_shaft(severity)) for severity in (0.0, 0.4, 1.0)]
    assert levels[0] + 3 < levels[1] < levels[2]


def _shaft(severity):
    wave, condition = healthy("SimFan", fault="imbalance" if severity else "", severity=severity, seconds=8)
    return wave, condition["hertz"]


def test_clogging_takes_turbulence_away():
    high = signal.butter(4, 1500, "high", fs=RATE, output="sos")
    powers = [
        np.mean(signal.sosfilt(high, healthy("SimFan", fault="clogging", severity=s)[0]) ** 2) for s in (0, 0.5, 1)
    ]
    assert powers[0] > 1.2 * powers[1] > 1.2**2 * powers[2]


def test_gears_mesh_at_teeth_times_speed_and_wear_raises_the_second_harmonic():
    teeth = int(generator(5, "SimGearbox", "body").integers(17, 26))
    sound, condition = healthy("SimGearbox", seconds=8)
    mesh = teeth * condition["hertz"]
    assert line(sound, mesh, width=0.02 * mesh) > 15
    band = signal.butter(4, [1.9 * mesh, 2.1 * mesh], "band", fs=RATE, output="sos")
    worn, _ = healthy("SimGearbox", fault="wear", severity=1.0, seconds=8)
    assert np.mean(signal.sosfilt(band, worn) ** 2) > 2 * np.mean(signal.sosfilt(band, sound) ** 2)


def test_bearing_defect_repeats_at_the_ball_pass_frequency():
    phase = machines.shaft_phase(np.random.default_rng(0), 8 * RATE, RATE, 25.0, wander=0.0)
    wave = machines.bearing(generator(1), np.random.default_rng(0), phase, 3.6, RATE)
    envelope = np.abs(signal.hilbert(wave))
    spectrum = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(envelope))))
    f = np.fft.rfftfreq(len(envelope), 1 / RATE)
    passes = spectrum[np.abs(f - 90.0) < 1].max()
    assert passes > 5 * np.median(spectrum[(f > 60) & (f < 120)])
    assert passes == spectrum[(f > 60) & (f < 120)].max()


def test_leak_is_heard_while_the_valve_is_shut():
    def quiet(wave):
        frames = np.sort(np.mean(signal.sosfilt(band, wave)[: 4 * RATE].reshape(-1, 320) ** 2, axis=1))
        return frames[: len(frames) // 3].mean()

    band = signal.butter(4, [2000, 4000], "band", fs=RATE, output="sos")
    levels = [quiet(healthy("SimValve", fault="leak" if s else "", severity=s)[0]) for s in (0.0, 0.4, 1.0)]
    assert 4 * levels[0] < levels[1] < levels[2] / 2


def test_cavitation_is_bursts_of_high_frequency():
    high = signal.butter(4, 3000, "high", fs=RATE, output="sos")
    healthy_wave, sick = (healthy("SimPump", fault=f, severity=1.0)[0] for f in ("", "cavitation"))
    before, after = (np.mean(signal.sosfilt(high, wave) ** 2) for wave in (healthy_wave, sick))
    assert after > 3 * before


@pytest.mark.parametrize("fault", MODELS["SimSlider"].faults)
def test_slider_faults_change_the_sound(fault):
    wave, _ = healthy("SimSlider")
    sick, _ = healthy("SimSlider", fault=fault, severity=1.0)
    assert np.mean((sick - wave) ** 2) > 0.01


def test_unknown_size_and_ambience_are_refused():
    with pytest.raises(WheeltapperError, match="size: expected default or tiny"):
        SyntheticSettings.of_size("huge")
    with pytest.raises(ValueError, match="ambience"):
        machines.ambience("disco", np.random.default_rng(0), 100, RATE)


def test_verb_writes_the_tiny_set(tmp_path, capsys):
    assert main(["synthesize", str(tmp_path / "data"), "--size", "tiny", "--seed", "3", "--workers", "2"]) == 0
    assert f"{tmp_path / 'data'} is complete" in capsys.readouterr().err
    assert len(list((tmp_path / "data").rglob("*.wav"))) == 85
    assert (tmp_path / "data" / "truth.csv").is_file()
