import json
from collections import Counter

import numpy as np
import pytest
import soundfile
from scipy import signal

from system import audio, manifest
from system.bin import main
from system.corpora.simulation import procedural, procedural_machines, procedural_sources
from system.corpora.simulation import procedural_parts as parts
from system.corpora.simulation.machines import spread
from system.corpora.simulation.procedural import RATES, SOURCES, ProceduralSettings, render, synthesize_procedural
from system.errors import WheeltapperError

SECONDS = 1.5
RATE = 16000


@pytest.fixture(scope="module")
def clips():
    return [render(0, number, SECONDS) for number in range(200)]


def rng(*names):
    return procedural.generator(7, *names)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def third_octaves(wave, rate):
    """Long-term spectrum in dB at 25 points from 50 Hz to 5 kHz."""
    f, density = signal.welch(wave, rate, nperseg=1024)
    points = np.geomspace(50, 5000, 25)
    return np.interp(points, f, 10 * np.log10(density / max(density.max(), 1e-20) + 1e-9))


def test_a_clip_depends_on_seed_and_number_only(tmp_path):
    synthesize_procedural(tmp_path / "few", ProceduralSettings(5, 1.0), seed=3, workers=1)
    synthesize_procedural(tmp_path / "more", ProceduralSettings(9, 1.0), seed=3, workers=3)
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    sound = {name: data for name, data in few.items() if name.endswith(".wav")}
    assert len(sound) == 5
    assert all(more[name] == data for name, data in sound.items())
    assert not np.array_equal(render(3, 0, 1.0)[0][:9000], render(4, 0, 1.0)[0][:9000])


def test_levels_and_lengths_are_as_promised(clips):
    for wave, rate, facts in clips:
        assert wave.dtype == np.float32
        assert wave.shape == (round(SECONDS * rate),)
        assert np.isfinite(wave).all()
        peak_db = 20 * np.log10(np.abs(wave).max())
        assert abs(peak_db - facts["peak_db"]) < 0.02
        assert -50.02 < peak_db < -2.98
    peaks = [facts["peak_db"] for _, _, facts in clips]
    assert min(peaks) < -40
    assert max(peaks) > -5


def test_rates_kinds_and_layers_have_their_shares(clips):
    rates = Counter(rate for _, rate, _ in clips)
    assert set(rates) == set(RATES)
    assert 0.39 < rates[16000] / len(clips) < 0.61  # three standard deviations
    assert {facts["kinds"][0] for _, _, facts in clips} == set(SOURCES)
    assert {len(facts["kinds"]) for _, _, facts in clips} == {1, 2, 3, 4}
    dry = np.mean([facts["reverb"] == 0 for _, _, facts in clips])
    assert 0.4 < dry < 0.7
    assert all(f["reverb"] == 0 for _, _, f in clips if f["kinds"][0] == "vibration")


def test_overdriven_clips_stay_at_their_peak_for_longer(clips):
    at_peak = {True: [], False: []}
    for wave, _, facts in clips:
        at_peak[facts["clipped"]].append((np.abs(wave) > 0.9999 * np.abs(wave).max()).sum())
    assert 2 <= len(at_peak[True]) <= 25
    assert np.median(at_peak[True]) > 10
    assert np.median(at_peak[False]) == 1


def test_clips_differ_in_pitch_time_and_tonality(clips):
    centroid, modulation, flatness = [], [], []
    for wave, rate, _ in clips:
        f, _, stft = signal.stft(wave, rate, nperseg=512)
        power = np.abs(stft) ** 2 + 1e-14
        mean = power.mean(axis=1)
        centroid.append((f * mean).sum() / mean.sum())
        modulation.append((10 * np.log10(power.sum(axis=0))).std())
        flatness.append(10 * np.mean(np.log10(mean / mean.mean())))
    low, high = np.percentile(centroid, (10, 90))
    assert np.log2(high / low) > 3.5  # octaves
    low, high = np.percentile(modulation, (10, 90))
    assert low < 2.5  # dB: as steady as a fan
    assert high > 12  # as uneven as a dog
    low, high = np.percentile(flatness, (10, 90))
    assert low < -25  # dB: lines
    assert high > -10  # noise


def test_no_two_clips_are_near_identical(clips):
    spectra = np.stack([third_octaves(wave, rate) for wave, rate, _ in clips])
    distance = np.sqrt(np.square(spectra[:, None] - spectra[None]).mean(axis=2))
    apart = distance[np.triu_indices(len(spectra), 1)]
    assert apart.min() > 1.5  # dB
    assert np.median(apart) > 12


def test_a_clip_is_more_like_itself_than_like_others(clips):
    steady = [(w, r) for w, r, facts in clips if facts["kinds"][0] in ("machine", "rotor", "vibration", "noises")]
    halves = [np.array_split(wave, 2) for wave, _ in steady]
    first = np.stack([third_octaves(a, r) for (a, _), (_, r) in zip(halves, steady, strict=True)])
    second = np.stack([third_octaves(b, r) for (_, b), (_, r) in zip(halves, steady, strict=True)])
    nearest = np.square(first[:, None] - second[None]).sum(axis=2).argmin(axis=1)
    assert len(steady) > 30
    assert (nearest == np.arange(len(steady))).mean() > 0.7


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_sounds_with_unit_power_at_every_rate(name):
    for rate in RATES:
        wave, facts = SOURCES[name][0](rng(name, rate), rate, rate)
        assert wave.shape == (rate,)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        assert np.abs(wave).max() > 0.1
        json.dumps(facts, allow_nan=False)


def test_a_steady_tone_has_its_line():
    found = 0
    for number in range(60):
        wave, facts = procedural_sources.tones(rng("tone", number), 2 * RATE, RATE)
        if facts["pattern"] != "steady" or facts["voices"] > 1:
            continue
        found += 1
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
        f = np.fft.rfftfreq(len(wave), 1 / RATE)
        order = np.round(f / facts["hertz"])
        near = (np.abs(f - order * facts["hertz"]) < 2) & (order >= 1)
        between = np.abs(f / facts["hertz"] - order) > 0.4
        assert spectrum[near].max() > 30 * spectrum[between].max(), facts
    assert found > 5


def test_mains_hum_stands_at_its_multiples():
    strengths = []
    for number in range(20):
        wave, facts = procedural_machines.electric(rng("hum", number), 2 * RATE, RATE)
        f, density = signal.periodogram(wave, RATE, "hann")
        other = 110 - facts["mains"]
        lines = [density[np.abs(f - k * facts["mains"]) < 1].max() for k in (1, 2, 3, 4)]
        wrong = [density[np.abs(f - k * other) < 1].max() for k in (1, 2, 3, 4)]
        strengths.append(10 * np.log10(np.sum(lines) / np.sum(wrong)))
    assert np.median(strengths) > 15


def envelope_period(wave, rate, longest):
    """Lag in seconds of the highest peak of the envelope's autocorrelation beyond its first fall below a third."""
    rough = signal.resample_poly(np.abs(wave).astype(float) ** 0.5, 1000, rate)
    rough -= rough.mean()
    lags = signal.correlate(rough, rough, method="fft")[len(rough) - 1 :][: int(longest * 1000)]
    after = int(np.argmax(lags < lags[0] / 3))
    return (after + int(np.argmax(lags[after:]))) / 1000


def test_regular_strikes_repeat_at_their_period():
    right = []
    for number in range(150):
        wave, facts = procedural_sources.knocks(rng("knock", number), 4 * RATE, RATE)
        if facts["pattern"] == "regular" and facts["bodies"] == 1 and 1 < facts["per_second"] < 8:
            period = 1 / facts["per_second"]
            right.append(abs(envelope_period(wave, RATE, 1.5 * period) / period - 1) < 0.05)
    assert len(right) > 10
    assert np.mean(right) > 0.9


def test_bearing_impacts_modulate_at_the_defect_rate():
    strengths = []
    for number in range(30):
        wave, facts = procedural_machines.vibration(rng("bearing", number), 5 * 12000, 12000)
        if facts["defect"] > 8:
            high = signal.sosfilt(signal.butter(4, 600, "high", fs=12000, output="sos"), wave)
            spectrum = np.abs(np.fft.rfft(np.abs(signal.hilbert(high)) * np.hanning(len(high)))) ** 2
            f = np.fft.rfftfreq(len(high), 1 / 12000)
            line = spectrum[np.abs(f / facts["defect"] - 1) < 0.03].max()
            strengths.append(line / np.median(spectrum[(f > 5) & (f < 800)]))
    assert len(strengths) > 12
    assert 10 * np.log10(np.median(strengths)) > 15


@pytest.mark.parametrize("kind", parts.ENVELOPES)
def test_envelopes_are_gains(kind):
    for number in range(20):
        values = parts.envelope(rng(kind, number), 2.0, kind)
        assert values.shape == (2001,)
        assert np.isfinite(values).all()
        assert values.min() >= -1e-9


@pytest.mark.parametrize("pattern", parts.PATTERNS)
def test_moments_lie_within_the_clip(pattern):
    for number in range(20):
        times, gains, drawn = parts.moments(rng(pattern, number), 3.0, 4.0, pattern)
        assert drawn == pattern
        assert len(times) == len(gains) >= 1
        assert ((times >= 0) & (times < 3)).all()
        assert (gains > 0).all()


def test_resonators_ring_as_damped_sines():
    hit = np.zeros(4000)
    hit[0] = 1
    wave = parts.resonate(hit, np.array([[1000.0, 0.02, 1.0], [3100.0, 0.005, 0.5]]), RATE)
    n = np.arange(4000)
    expected = sum(
        gain
        * np.sqrt(4 * (1 - np.exp(-1 / (s * RATE))))
        * np.exp(-(n - 1) / (s * RATE))
        * np.sin(2 * np.pi * h * n / RATE)
        for h, s, gain in ((1000.0, 0.02, 1.0), (3100.0, 0.005, 0.5))
    )
    np.testing.assert_allclose(wave, expected, atol=1e-5)


def test_a_tabulated_stack_is_the_sum_of_its_harmonics():
    phase = 2 * np.pi * np.cumsum(np.linspace(90, 130, RATE)) / RATE
    levels = np.arange(1, 41) ** -0.5
    wave = parts.stack(rng("stack"), phase, 130.0, RATE, levels)
    same = rng("stack")
    amplitudes = spread(same, levels, same.uniform(0, 8))
    expected = (amplitudes[:, None] * np.exp(1j * np.arange(1, 41)[:, None] * phase)).real.sum(axis=0)
    assert np.sqrt(np.mean((wave - expected) ** 2) / np.mean(expected**2)) < 1e-4
    assert not parts.stack(rng("stack"), phase, 7600.0, RATE, levels).any()


def test_tracks_are_drawn_out_by_straight_lines():
    values = rng("line").standard_normal(37)
    expected = np.interp(np.linspace(0, 36, 1000), np.arange(37), values)
    np.testing.assert_allclose(parts.draw_out(values, 1000), expected, atol=1e-6)


def test_bodies_stay_below_the_band_edge():
    for number in range(50):
        modes = parts.body(rng("body", number), 12000, (3, 12), (80, 5000), (0.001, 2.0))
        assert len(modes) >= 1
        assert (modes[:, 0] < 6000).all()
        assert (modes[:, 1:] > 0).all()


def test_manifest_names_every_clip_as_it_is(tmp_path):
    synthesize_procedural(tmp_path / "data", ProceduralSettings(12, 1.0), seed=1)
    found = manifest.read(tmp_path / "data" / "manifest.csv")
    assert len(found) == 12
    assert [clip.path for clip in found] == [str((tmp_path / "data").resolve() / clip.file) for clip in found]
    record = json.loads((tmp_path / "data" / "procedural.json").read_text())
    for clip in found:
        info = soundfile.info(clip.path)
        assert (info.samplerate, info.frames, info.channels) == (clip.rate, clip.samples, 1)
        assert info.subtype == "PCM_16"
        assert clip.digest == audio.digest(clip.path)
        assert (clip.split, clip.label, clip.machine) == ("train", "normal", record["clips"][clip.file]["kinds"][0])
    assert record["identity"] == {
        "program": "procedural",
        "version": procedural.VERSION,
        "seed": 1,
        "settings": {"clips": 12, "seconds": 1.0},
    }
    assert not [path for path in tmp_path.iterdir() if path.name != "data"]


def test_a_complete_folder_is_left_alone_and_a_damaged_one_made_again(tmp_path):
    folder, settings = tmp_path / "data", ProceduralSettings(3, 1.0)
    synthesize_procedural(folder, settings, seed=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}
    synthesize_procedural(folder, settings, seed=1)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}
    for lost in (next(iter(before)), folder / "manifest.csv"):
        lost.unlink()
        synthesize_procedural(folder, settings, seed=1)
        assert lost.is_file()


def test_an_interrupted_run_leaves_what_was_there(tmp_path):
    folder = tmp_path / "data"
    synthesize_procedural(folder, ProceduralSettings(2, 1.0), seed=1)
    before = contents(folder)

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize_procedural(folder, ProceduralSettings(4, 1.0), seed=1, progress=interrupt)
    assert contents(folder) == before
    with pytest.raises(KeyboardInterrupt):
        synthesize_procedural(tmp_path / "new", ProceduralSettings(4, 1.0), seed=1, progress=interrupt)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": 0}, "clips: expected 1 to 1000000, found 0"),
        ({"seconds": 0.2}, "seconds: expected 1 to 60, found 0.2"),
        ({"seconds": float("nan")}, "seconds: expected 1 to 60, found nan"),
    ],
)
def test_settings_without_sense_are_refused(tmp_path, change, message):
    with pytest.raises(WheeltapperError, match=message):
        synthesize_procedural(tmp_path / "data", ProceduralSettings(**change), seed=0)
    assert not (tmp_path / "data").exists()


def test_the_verb_writes_the_corpus_and_refuses_what_does_not_belong(tmp_path, capsys):
    out = str(tmp_path / "data")
    assert main(["synthesize", out, "--kind", "procedural", "--clips", "2", "--seconds", "1", "--seed", "5"]) == 0
    wave, _ = audio.read(next((tmp_path / "data").rglob("clip_000001.wav")))
    expected, _, _ = render(5, 1, 1.0)
    np.testing.assert_allclose(wave[0], expected, atol=6e-5)
    capsys.readouterr()
    for arguments, message in (
        (["--clips", "2"], "--clips: expected --kind procedural with it, found --kind machines"),
        (["--kind", "procedural", "--size", "tiny"], "--size: expected --kind machines with it"),
        (["--kind", "procedural", "--clips", "-1"], "clips: expected 1 to 1000000, found -1"),
    ):
        assert main(["synthesize", str(tmp_path / "other"), *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "holiday.txt").write_text("mine")
    assert main(["synthesize", str(mine), "--kind", "procedural", "--clips", "1"]) == 1
    assert (mine / "holiday.txt").read_text() == "mine"
