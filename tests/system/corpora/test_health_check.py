"""What is wrong with a recording beside its references, and what is not; real recordings are never unusable."""

import csv
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import butter, resample_poly, sosfilt

from system.audio import read
from system.corpora.health import Health, measure
from system.corpora.health_check import Usual, check, remark, usual
from system.manifest import Clip
from tests.system.corpora.faults_files import DATA
from tests.system.corpora.test_health import RATE, drop, living, pcm

SECONDS = 3.0


@lru_cache(maxsize=64)
def machine(seed: int, level: float = 0.04) -> np.ndarray:
    """Near and far channel of a normal recording."""
    return living(SECONDS, 2, seed, level) + 0.3 * living(SECONDS, 1, seed + 1000, level)


def recording(wave: np.ndarray, rate: int = RATE, name: str = "new.wav") -> tuple[Clip, Health]:
    wave = pcm(wave)
    clip = Clip("c", "m", "00", "train", name, name, channels=len(wave), rate=rate, samples=wave.shape[1])
    return clip, measure(wave, rate)


def known(waves: list[np.ndarray], rate: int = RATE, used_rate: int = RATE) -> Usual:
    made = [recording(wave, rate, f"{number}.wav") for number, wave in enumerate(waves)]
    return usual([clip for clip, _ in made], {clip.key: health for clip, health in made}, used_rate)


@pytest.fixture(scope="module")
def references() -> Usual:
    return known([machine(seed, level) for seed, level in enumerate((0.02, 0.04, 0.05, 0.06))])


def verdict(wave: np.ndarray, references: Usual, rate: int = RATE) -> tuple[bool, str]:
    found = check(*recording(wave, rate), references)
    return any(one.unusable for one in found), remark(found)


def limited(wave: np.ndarray, share: float) -> np.ndarray:
    limit = np.quantile(np.abs(wave), 1 - share)
    return np.clip(wave, -limit, limit)


def replaced(wave: np.ndarray, channel: int, value: object) -> np.ndarray:
    wave = wave.copy()
    wave[channel] = value
    return wave


def low_pass(wave: np.ndarray, limit: float) -> np.ndarray:
    return sosfilt(butter(12, limit, fs=RATE, output="sos"), wave, axis=1)


def hum(wave: np.ndarray) -> np.ndarray:
    """A cable without a microphone, as loud as the recording."""
    time = np.arange(wave.shape[1]) / RATE
    mains = sum(np.sin(2 * np.pi * 50 * k * time + k) / k for k in (1, 2, 3, 5))
    return wave.std() / mains.std() * mains + NOISE.normal(0, 3e-5, wave.shape)


def overflowed(wave: np.ndarray) -> np.ndarray:
    """Integers that wrap around, of a signal dominated by low frequencies."""
    slow = low_pass(wave, 1000)
    return (slow * 1.4 / np.abs(slow).max() + 1) % 2 - 1


NOISE = np.random.default_rng(5)
UNUSABLE = {
    "all zero": (lambda x: 0 * x, "silent (all samples are zero)"),
    "constant": (lambda x: 0 * x + 0.25, "constant (all samples are 0.25)"),
    "far channel dead": (lambda x: replaced(x, 1, 0), "channel 2 is dead (all samples are zero)"),
    "near channel constant": (lambda x: replaced(x, 0, -0.5), "channel 1 is dead (all samples are -0.5)"),
    "last bit": (
        lambda x: replaced(x, 1, NOISE.integers(-1, 2, x.shape[1]) / 32768),
        "channel 2 is dead (only the last bit moves)",
    ),
    "clipped below full scale": (lambda x: limited(x, 0.12), "clipped: 12 % of the samples at "),
    "limiter": (lambda x: np.clip(x, -0.06, 0.06), "clipped: "),
    "overdriven": (lambda x: 40 * x, "% of the samples at full scale"),
    "gain and clipping": (lambda x: 9 * x, "clipped: "),
    "offset": (lambda x: x + 0.3, "DC offset of 30 % of full scale"),
    "offset of one channel": (lambda x: x + np.array([[0], [-0.2]]), "channel 2: DC offset of -20 % of full scale"),
    "dropouts": (
        lambda x: drop(x, (0.5, 140), (1.0, 132), (2.0, 140)), "412 ms of dropouts in 3 places",
    ),
    "many short dropouts": (lambda x: drop(x, *((t / 10, 8) for t in range(1, 21))), "160 ms of dropouts in 20 places"),
    "held value": (lambda x: drop(x, (1.0, 100), value=None), "100 ms of dropouts in 1 place"),
    "late start": (lambda x: drop(x, (0.0, 900)), "900 ms without signal at the beginning"),
    "early end": (lambda x: drop(x, (1.8, 1200)), "1.2 s without signal at the end"),
    "mono doubled": (lambda x: x[[0, 0]], "channels 1 and 2 hold the same sound"),
    "mono and its inverse": (lambda x: x[[0, 0]] * [[1], [-1]], "channels 1 and 2 hold the same sound"),
    "mono": (lambda x: x[:1], "1 channel, the references have 2"),
    "three channels": (lambda x: np.vstack([x, x[:1]]), "3 channels, the references have 2"),
    "50 ms": (lambda x: x[:, :800], "50 ms long, the references last 3 s"),
    "0.1 s": (lambda x: x[:, :1600], "100 ms long, the references last 3 s"),
    "40 dB quieter": (
        lambda x: x / 100, "dB quieter than the quietest reference: machine off or gain changed",
    ),
    "phone": (lambda x: low_pass(x, 3400), "no sound above 4000 Hz, where every reference has some"),
    "hum only": (hum, "no sound above 500 Hz, where every reference has some"),
    "overflow": (overflowed, "of the samples jump from one end of the scale to the other"),
    "one channel quieter": (lambda x: x * [[1], [0.01]], "channel 2: 34 dB quieter than the quietest reference"),
}  # fmt: skip


RELATIVE = ("gain and clipping", "mono doubled", "mono and its inverse", "phone", "hum only")  # and levels


@pytest.mark.parametrize("defect", UNUSABLE)
def test_a_broken_sensor_is_unusable(references, defect):
    broken, text = UNUSABLE[defect]
    assert verdict(machine(9), references) == (False, "")
    unusable, found = verdict(broken(machine(9)), references)
    assert unusable
    assert text in found


DOUBTFUL = {
    "one short dropout": (lambda x: drop(x, (1.0, 20)), "20 ms of dropouts in 1 place"),
    "light clipping": (lambda x: limited(x, 0.004), "clipped: 0.4"),
    "small offset": (lambda x: x + 0.04, "DC offset of 4 % of full scale"),
    "quieter": (lambda x: 0.08 * x, "16 dB quieter than the quietest reference"),
    "somewhat quieter": (lambda x: 0.2 * x, "8 dB quieter than the quietest reference, at all frequencies: gain ch"),
    "somewhat louder": (lambda x: 4 * x, "dB louder than the loudest reference, at all frequencies: gain changed?"),
    "drift": (
        lambda x: x + 0.2 * np.sin(np.pi * np.arange(x.shape[1]) / RATE + 1), "at the lowest frequencies alone: drift",
    ),
    "band": (lambda x: low_pass(x, 6000), "no sound above 6500 Hz, where every reference has some"),
    "two": (lambda x: drop(x + 0.04, (1.0, 20)), "20 ms of dropouts in 1 place; DC offset of 4"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DOUBTFUL)
def test_a_small_defect_is_a_remark(references, defect):
    broken, text = DOUBTFUL[defect]
    unusable, found = verdict(broken(machine(9)), references)
    assert not unusable
    assert text in found


HARMLESS = {
    "inverted": lambda x: -x,
    "twice as loud": lambda x: 2 * x,
    "a moment of zeros": lambda x: drop(x, (1.0, 3)),
    "tiny offset": lambda x: x + 0.002,
    "a few samples at the limit": lambda x: limited(x, 0.0002),
    "half a second": lambda x: x[:, :8000],
    "twice": lambda x: np.hstack([x, x]),
    "a bang": lambda x: x + 0.9 * NOISE.normal(size=x.shape) * np.exp(-np.arange(x.shape[1]) / 300),
    "a late bang": lambda x: x + np.roll(2 * NOISE.normal(size=x.shape) * np.exp(-np.arange(x.shape[1]) / 800), 9000),
    "15 dB louder": lambda x: 5.6 * x,
    "8 dB quieter": lambda x: 0.4 * x,
    "new tones": lambda x: x + 0.3 * np.sin(2 * np.pi * 1234 * np.arange(x.shape[1]) / RATE),
    "low rumble": lambda x: x + 0.2 * np.sin(2 * np.pi * 20 * np.arange(x.shape[1]) / RATE),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_is_no_defect(references, change):
    assert verdict(HARMLESS[change](machine(9)), references)[0] is False


@pytest.mark.parametrize(
    "defect", ["far channel dead", "clipped below full scale", "offset", "dropouts", "mono doubled"]
)
def test_what_the_references_show_too_is_usual(defect):
    broken, _ = UNUSABLE[defect]
    assert verdict(broken(machine(9)), known([broken(machine(seed)) for seed in range(4)])) == (False, "")


@pytest.mark.parametrize(
    "defect", ["40 dB quieter", "clipped below full scale", "offset", "dropouts", "all zero", "mono"]
)
def test_a_few_broken_references_do_not_make_it_usual(defect):
    broken, text = UNUSABLE[defect]
    among = known([*(machine(seed) for seed in range(10)), broken(machine(10))])
    assert verdict(machine(99), among) == (False, "")
    unusable, found = verdict(broken(machine(9)), among)
    assert unusable
    assert text in found


def test_the_few_references_of_a_domain_that_is_quieter_are_usual():
    made = [recording(machine(seed), name=f"{seed}.wav") for seed in range(30)]
    made += [recording(0.02 * machine(seed), name=f"{seed}.wav") for seed in range(30, 32)]
    clips = [replace(clip, domain="source" if number < 30 else "target") for number, (clip, _) in enumerate(made)]
    references = usual(clips, {clip.key: health for clip, (_, health) in zip(clips, made, strict=True)}, RATE)
    assert verdict(0.02 * machine(99), references) == (False, "")


def test_a_gain_is_told_from_a_loud_machine():
    quiet = known([0.02 * machine(seed) for seed in range(4)])
    assert verdict(0.02 * 20 * machine(9), quiet) == (True, "26 dB louder than the loudest reference: gain changed")
    noisy = 0.02 * machine(9) + low_pass(NOISE.normal(0, 0.02, (2, round(SECONDS * RATE))), 3000)
    assert verdict(noisy, quiet) == (False, "22 dB louder than the loudest reference")


def test_a_square_wave_machine_is_not_clipped_beside_its_like():
    def square(seed: int) -> np.ndarray:
        return 0.3 * np.sign(machine(seed))

    assert verdict(square(9), known([square(seed) for seed in range(4)])) == (False, "")


def test_a_faulty_machine_that_is_so_loud_that_it_clips_is_judged(references):
    """Its spectrum has another shape, so that the gain is not what changed."""
    knocks = np.zeros((2, round(SECONDS * RATE)))
    knocks[:, ::400] = 1.0
    strokes = np.exp(-np.arange(300) / 60) * np.sin(2 * np.pi * 900 * np.arange(300) / RATE)
    loud = machine(9) + 1.6 * np.array([np.convolve(row, strokes)[: len(row)] for row in knocks])
    unusable, text = verdict(loud, references)
    assert "clipped: " in text
    assert not unusable


def test_lower_rates():
    at16 = [machine(seed) for seed in range(4)]
    slow = resample_poly(machine(9), 1, 2, axis=1)
    lacking = "8000 Hz, the references have 16000 Hz: no sound between 4000 and 8000 Hz, where they have some"
    assert verdict(slow, known(at16), 8000) == (False, lacking)
    at48 = known([resample_poly(wave, 3, 1, axis=1) for wave in at16], 48000)
    unusable, text = verdict(machine(9), at48)
    assert not unusable
    assert text.startswith("16000 Hz, the references have 48000 Hz: just below 8000 Hz")
    assert not verdict(resample_poly(machine(9), 3, 1, axis=1), known(at16), 48000)[0]


def test_without_measured_references_the_absolute_defects_remain():
    clip, _ = recording(machine(1))
    bare = usual([clip], {}, RATE)
    assert bare == Usual(frozenset({2}), frozenset({RATE}), SECONDS, RATE)
    for defect, (broken, text) in UNUSABLE.items():
        relative = "quieter" in defect or defect in RELATIVE
        unusable, found = verdict(broken(machine(9)), bare)
        assert unusable is not relative, defect
        assert relative or text in found
    assert verdict(machine(9), bare) == (False, "")


def _groups() -> dict[str, tuple[list[Path], list[Path]]]:
    """Real recordings of a running machine: normal ones, and others of the same sensor, healthy and faulty."""
    found: dict[str, tuple[list[Path], list[Path]]] = {}
    fans = sorted(path for path in (DATA / "fan_16k").glob("*.flac") if not path.name.startswith("off"))
    normal = [path for path in fans if path.name.startswith("on_20200318")]
    found["fan"] = (normal, fans)
    knocks = sorted((DATA / "bottle_knocks").glob("*.flac"))
    found["bottles"] = ([path for path in knocks if path.name.startswith("normal")], knocks)
    with open(DATA / "uav_propeller_16k" / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for way in ("cw", "ccw"):
        own = [row for row in rows if row["direction"] == way]
        normal = [DATA / "uav_propeller_16k" / row["file"] for row in own if row["label"] == "normal"]
        faulty = [DATA / "uav_propeller_16k" / row["file"] for row in own if row["label"] != "normal"]
        found[f"propellers {way}"] = (normal[::6], normal[3::20] + faulty[::8])
    return found


@pytest.mark.skipif(not DATA.is_dir(), reason="expected shared/data beside the checkout, or WHEELTAPPER_TEST_DATA")
def test_no_real_recording_of_a_running_machine_is_unusable():
    for name, (normal, others) in _groups().items():
        made = {}
        for path in {*normal, *others}:
            wave, rate = read(path)
            clip = Clip("c", name, "00", "train", path.name, str(path), channels=1, rate=rate, samples=wave.shape[1])
            made[path] = clip, measure(wave, rate)
        own = [made[path][0] for path in normal]
        references = usual(own, {clip.key: health for clip, health in made.values()}, 16000)
        for path in others:
            found = check(*made[path], references)
            assert not any(one.unusable for one in found), (path.name, remark(found))


def test_channels_that_are_not_used_do_not_count():
    eight = [np.concatenate([machine(seed), machine(seed + 50), machine(seed + 90)]) for seed in range(4)]
    clips = [(replace(clip, channel_choice="1,3"), health) for clip, health in map(recording, eight)]
    references = usual([clip for clip, _ in clips], {clip.key: health for clip, health in clips}, RATE)
    for number in range(6):
        clip, health = recording(replaced(np.concatenate([machine(8), machine(58), machine(98)]), number, 0.0))
        found = check(replace(clip, channel_choice="1,3"), health, references)
        assert any(one.unusable for one in found) is (number in (0, 2)), number
