"""Health of a recording: each defect made by hand on a living signal, with the signal itself as the counter-case."""

import numpy as np
import pytest

from system.corpora.health import Health, HealthMeter, measure

RATE = 16000


def living(seconds: float = 4.0, channels: int = 1, seed: int = 0, level: float = 0.05) -> np.ndarray:
    """A machine: hum, harmonics and noise, (channels, samples)."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * time + k) / k for k in (1, 2, 3, 7))
    return level * (0.5 * hum + generator.normal(size=(channels, len(time))))


def pcm(wave: np.ndarray, bits: int = 16) -> np.ndarray:
    """The waveform as a PCM file would give it back, saturated."""
    full = 2 ** (bits - 1)
    return (np.clip(np.round(wave * full), -full, full - 1) / full).astype(np.float32)


def only(health: Health):
    assert len(health.channels) == 1
    return health.channels[0]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_a_living_signal_has_no_defect(bits, level):
    found = only(measure(pcm(living(level=level), bits), RATE))
    assert (found.clipped, found.dropouts, found.lost, found.dead, found.same_as) == (0, 0, 0, "", 0)


def test_level_peak_offset_against_their_definitions():
    wave = pcm(living(3.3, 2, level=0.1) + np.array([[0.2], [-0.01]]))
    found = measure(wave, RATE)
    assert found.seconds == 3.3
    for values, own in zip(wave.astype(float), found.channels, strict=True):
        assert own.level == pytest.approx(20 * np.log10(values.std()), abs=1e-4)
        assert own.offset == pytest.approx(values.mean(), abs=1e-7)
        assert own.peak == pytest.approx(np.abs(values).max())


def test_a_small_signal_on_a_large_offset_keeps_its_level():
    wave = (0.9 + 1e-5 * np.random.default_rng(0).normal(size=(1, 300_000))).astype(np.float32)
    assert only(measure(wave, RATE)).level == pytest.approx(20 * np.log10(wave.astype(float).std()), abs=1e-3)


def test_bands_hold_the_power_of_their_tones():
    time = np.arange(4 * RATE) / RATE
    wave = 0.1 * np.sin(2 * np.pi * 1250 * time) + 0.01 * np.sin(2 * np.pi * 6250 * time)
    bands = only(measure(wave[None].astype(np.float32), RATE)).bands
    assert len(bands) == 16
    assert bands[2] == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=0.05)
    assert bands[12] == pytest.approx(20 * np.log10(0.01 / np.sqrt(2)), abs=0.05)
    assert max(bands[7:10]) < -80


@pytest.mark.parametrize("share", [0.002, 0.02, 0.12, 0.5])
@pytest.mark.parametrize("limit", [1.0, 0.5, 0.02])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_clipping_at_any_limit(share, limit, bits):
    wave = living()
    wave = np.clip(wave * limit / np.quantile(np.abs(wave), 1 - share), -limit, limit)
    if bits == 8 and limit < 0.5:
        return  # 3 levels: nothing to see
    found = only(measure(wave.astype(np.float32) if bits == 32 else pcm(wave, bits), RATE)).clipped
    exact = np.mean(np.abs(wave) >= limit - (0 if bits == 32 else 0.5**bits))
    assert found == pytest.approx(exact, rel=0.05, abs=2e-4)


def test_one_side_alone_and_integer_saturation():
    top = living()
    limit = np.quantile(top, 0.95)
    assert only(measure(pcm(np.minimum(top, limit)), RATE)).clipped == pytest.approx(0.05, rel=0.02)
    loud = pcm(living() * 15)
    assert only(measure(loud, RATE)).clipped == pytest.approx(np.mean((loud >= 1 - 2**-15) | (loud <= -1)), rel=0.01)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("tone", [5, 50, 440, 1000, 3999])
@pytest.mark.parametrize("amplitude", [0.05, 0.3, 0.99])
def test_pure_tones_and_coarse_steps_are_not_clipped(bits, tone, amplitude):
    wave = amplitude * np.sin(2 * np.pi * tone * np.arange(3 * RATE) / RATE + 0.3)
    assert only(measure(pcm(wave[None], bits), RATE)).clipped == 0


@pytest.mark.parametrize("level", [0.2, 0.4, 0.6])
def test_a_sound_of_few_coarse_steps_is_not_clipped(level):
    wave = level / 128 * np.random.default_rng(0).normal(size=(1, 2 * RATE))
    assert only(measure(pcm(wave, 8), RATE)).clipped == 0


def drop(wave: np.ndarray, *spans: tuple[float, float], value: float | None = 0.0) -> np.ndarray:
    """Replaces spans (start in s, length in ms) by a value, or holds the last one (None)."""
    wave = wave.copy()
    for start, length in spans:
        begin = round(start * RATE)
        span = slice(begin, begin + round(length * RATE / 1000))
        wave[:, span] = wave[:, begin - 1 : begin] if value is None else value
    return wave


@pytest.mark.parametrize("value", [0.0, None, 0.01])
@pytest.mark.parametrize("spans", [[(1.0, 6)], [(0.5, 20), (1.0, 300), (3.9, 30)], [(4.09, 20)]])
def test_dropouts_are_counted_and_timed(spans, value):
    found = only(measure(pcm(drop(living(5.0), *spans, value=value)), RATE))
    assert found.dropouts == len(spans)
    assert found.dropout_seconds == pytest.approx(sum(ms for _, ms in spans) / 1000, abs=0.001)
    assert found.longest_seconds == pytest.approx(max(ms for _, ms in spans) / 1000, abs=0.001)
    assert found.lost == pytest.approx(found.dropout_seconds / 5.0)
    assert (found.start_seconds, found.end_seconds, found.clipped, found.dead) == (0, 0, 0, "")


def test_dropouts_that_dither_in_the_last_bit():
    wave, generator = pcm(living()), np.random.default_rng(1)
    wave[:, 20000:24800] = generator.integers(0, 2, 4800) / 32768
    found = only(measure(wave, RATE))
    assert found.dropouts == 1
    assert found.dropout_seconds == pytest.approx(0.3, abs=0.001)


def test_a_moment_below_five_milliseconds_is_none():
    assert only(measure(pcm(drop(living(), (1.0, 4))), RATE)).dropouts == 0


def test_silence_at_the_ends_is_no_dropout():
    wave = pcm(living(10.0))
    wave[:, : 5 * RATE], wave[:, -8000:] = 0, 0
    found = only(measure(wave, RATE))
    assert (found.start_seconds, found.end_seconds, found.dropouts) == (5.0, 0.5, 0)
    assert found.lost == pytest.approx(0.55)


def test_dropouts_on_an_offset_are_not_clipping():
    found = only(measure(pcm(drop(living() + 0.5, (1.0, 100), (2.0, 50))), RATE))
    assert (found.dropouts, found.clipped) == (2, 0)


@pytest.mark.parametrize(
    ("dead", "expected"),
    [
        (np.zeros(40000), "zero"),
        (np.full(40000, 0.25), "constant"),
        (np.random.default_rng(0).integers(-1, 2, 40000) / 32768, "dither"),
        (np.random.default_rng(0).integers(0, 2, 40000) / 128, "dither"),
        (0.3 + np.random.default_rng(0).integers(-1, 2, 40000) / 2**23, "dither"),
        (np.random.default_rng(0).normal(size=40000) * 4 / 32768, ""),
        (np.random.default_rng(0).normal(size=40000) * 1e-7, ""),
    ],
)
def test_dead_channels(dead, expected):
    wave = np.stack([living(2.5)[0], dead]).astype(np.float32)
    if not expected:
        wave[1] = dead if np.abs(dead).max() < 1e-5 else np.round(dead * 32768) / 32768
    found = measure(wave, RATE)
    assert [own.dead for own in found.channels] == ["", expected]
    assert found.channels[1].same_as == 0


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.5, -0.1])
def test_doubled_channels(factor):
    near = living()[0]
    assert [own.same_as for own in measure(pcm(np.stack([near, factor * near])), RATE).channels] == [0, 1]
    far = 0.98 * near + 0.02 * living(seed=1)[0]  # the same machine with a little of its own: another microphone
    assert [own.same_as for own in measure(pcm(np.stack([near, factor * far])), RATE).channels] == [0, 0]


def test_blocks_of_any_size_give_the_same():
    wave = pcm(drop(np.clip(living(20.0, 2), -0.08, 0.08), (1.0, 30), (8.19, 40), (12.2, 9000)))
    whole = measure(wave, RATE)
    for size in (1000, 65536, 70001):
        meter = HealthMeter(2, RATE)
        for start in range(0, wave.shape[1], size):
            meter.add(wave[:, start : start + size])
        parts = meter.result()
        for a, b in zip(whole.channels, parts.channels, strict=True):
            assert (a.dropouts, a.longest_seconds, a.lost, a.dead) == (b.dropouts, b.longest_seconds, b.lost, b.dead)
            assert (b.level, b.offset) == (pytest.approx(a.level), pytest.approx(a.offset))
            assert b.clipped == pytest.approx(a.clipped, rel=0.05)
            if size > 1024:
                assert b.bands == pytest.approx(a.bands, abs=0.5)


@pytest.mark.parametrize("samples", [1, 2, 15, 16, 17, 1023])
def test_the_shortest_recordings(samples):
    found = only(measure(living()[:, :samples].astype(np.float32), RATE))
    assert found.bands == ()
    assert np.isfinite([found.level, found.peak, found.offset]).all()


@pytest.mark.parametrize("gain", [1.1, 2.0])
def test_overflow_is_told_from_clipping_and_from_loud_noise(gain):
    time = np.arange(4 * RATE) / RATE
    slow = np.sin(2 * np.pi * 97 * time) + 0.02 * np.random.default_rng(3).normal(size=len(time))
    wave = gain * slow[None]
    wrapped = (wave + 1) % 2 - 1
    passed = np.abs(np.diff((wave[0] + 1) // 2)).astype(bool)  # the signal passes into another turn of the scale
    assert only(measure(pcm(wrapped), RATE)).wrapped == pytest.approx(passed.mean(), rel=0.02)
    noise = np.random.default_rng(4).normal(0, 0.6, (1, 4 * RATE))
    assert [only(measure(pcm(other), RATE)).wrapped for other in (wave, np.sign(wave), noise, 3 * noise)] == [0] * 4


def test_the_median_level_passes_over_loud_moments():
    noise = 0.01 * np.random.default_rng(5).normal(size=(1, 10 * RATE))
    bang = noise.copy()
    bang[:, 30000:60000] *= 50
    calm, loud = (only(measure(wave.astype(np.float32), RATE)) for wave in (noise, bang))
    assert calm.median_level == pytest.approx(20 * np.log10(0.01), abs=1)
    assert loud.median_level == pytest.approx(calm.median_level, abs=1)
    assert loud.level > calm.level + 20
    assert only(measure(50 * noise.astype(np.float32) + 0.3, RATE)).median_level == pytest.approx(-6, abs=1)
