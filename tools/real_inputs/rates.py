"""Recordings and references at other sampling rates, brought there without loss."""

from pathlib import Path

import numpy as np

from real_inputs import sounds
from real_inputs.case import Place, case, expect
from real_inputs.checks import ANOMALY, faulty, healthy, judged, remarked_or_healthy, same_scores
from real_inputs.program import Row, score

KIND = "3 sampling rate"
MANY = 6
TOLERANCE = 0.5  # deviations; a fault scores above 50


def _clips(place: Place, rate: int, fault: bool = False) -> list[Path]:
    """Clips made at 16 kHz and brought to a rate."""
    files = []
    for number in range(MANY):
        wave = sounds.machine(f"rate{number}", fault=fault)
        wave = wave if rate == sounds.RATE else sounds.at_rate(wave, rate)
        files.append(sounds.put(place / f"{rate}/{fault}{number}.wav", wave, rate, "PCM_24"))
    return files


def _judge(place: Place, files: list[Path], exp: Path | None = None) -> list[Row]:
    return judged(score(exp or place.bases.steady, files, place.folder), len(files))


@case(KIND, "healthy at {} Hz", [22050, 32000, 44100, 48000, 96000, 24000, 16001, 47999])
def healthy_at_a_higher_rate(place: Place, rate: int) -> None:
    rows = _judge(place, _clips(place, rate))
    same_scores(rows, _judge(place, _clips(place, sounds.RATE)), TOLERANCE)


@case(KIND, "healthy at {} Hz, which lacks band", [8000, 11025, 12345, 15000])
def healthy_at_a_lower_rate(place: Place, rate: int) -> None:
    remarked_or_healthy(_judge(place, _clips(place, rate)), most=1)


@case(KIND, "a fault at {} Hz", [22050, 44100, 48000, 96000])
def faulty_at_a_higher_rate(place: Place, rate: int) -> None:
    faulty(_judge(place, _clips(place, rate, fault=True)))


@case(KIND, "all rates in one call")
def all_rates_at_once(place: Place) -> None:
    files = [file for rate in (16000, 22050, 32000, 44100, 48000) for file in _clips(place, rate)]
    rows = _judge(place, files)
    for start in range(MANY, len(files), MANY):
        same_scores(rows[start : start + MANY], rows[:MANY], TOLERANCE)


def _run_at(place: Place, rate: int) -> Path:
    """A run whose references were recorded at a rate, with sound up to half of it."""

    def recordings(folder: Path) -> Path:
        for domain, count in (("source", 24), ("target", 8)):
            for number in range(count):
                wave = sounds.machine(f"native{number}", domain=domain, rate=rate)
                file = f"section_00_{domain}_train_normal_{number:04d}_load_1.wav"
                sounds.put(folder / "mill/train" / file, wave, rate)
        wave = sounds.machine("test", fault=True, rate=rate)
        sounds.put(folder / "mill/test/section_00_source_test_anomaly_0000_load_1.wav", wave, rate)
        return folder

    data = place.bases.once(f"at{rate}", recordings)
    return place.bases.finished(f"at{rate}-run", place.bases.conf(), lambda: data, last=5)


REFERENCES = {
    "44.1 kHz, files at 44.1": (44100, 44100),
    "44.1 kHz, files at 48": (44100, 48000),
    "44.1 kHz, files at 22.05": (44100, 22050),
    "44.1 kHz, files at 16": (44100, 16000),
    "44.1 kHz, files at 8": (44100, 8000),
    "48 kHz, files at 16": (48000, 16000),
    "22.05 kHz, files at 16": (22050, 16000),
}


@case(KIND, "references at {}", REFERENCES)
def references_at_another_rate(place: Place, rates: tuple[int, int]) -> None:
    own, other = rates
    files = []
    for number in range(MANY):
        wave = sounds.machine(f"other{number}", rate=own)
        wave = wave if own == other else sounds.at_rate(wave, other, own)
        files.append(sounds.put(place / f"{number}.wav", wave, other))
    unchanged = [
        sounds.put(place / f"own{number}.wav", sounds.machine(f"other{number}", rate=own), own)
        for number in range(MANY)
    ]
    exp = _run_at(place, own)
    alarms = sum(row.decision == ANOMALY for row in _judge(place, unchanged, exp))
    rows = _judge(place, files, exp)
    remarked_or_healthy(rows, most=alarms + 1)
    if min(rates) >= sounds.RATE:
        healthy(rows, most=alarms + 1)


KERNELS = {
    "48 to 16 kHz": (48000, 16000),
    "44.1 to 16 kHz": (44100, 16000),
    "32 to 16 kHz": (32000, 16000),
    "96 to 16 kHz": (96000, 16000),
    "22.05 to 16 kHz": (22050, 16000),
    "8 to 16 kHz": (8000, 16000),
    "16 to 32 kHz": (16000, 32000),
    "16,001 to 16,000 Hz": (16001, 16000),
}


@case(KIND, "the kernel is flat: {}", KERNELS)
def kernel_is_flat(place: Place, rates: tuple[int, int]) -> None:
    from system import audio

    rate, new_rate = rates
    band = min(rates) / 2
    time, new_time = np.arange(2 * rate) / rate, np.arange(2 * new_rate) / new_rate
    inside = slice(new_rate // 2, -new_rate // 2)
    losses = {}
    for share in (0.05, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95):
        tone = np.sin(2 * np.pi * share * band * time)[None].astype(np.float32)
        found = audio.resample(tone, rate, new_rate)[0, : len(new_time)]
        phase = 2 * np.pi * share * band * new_time[: len(found)]
        basis = np.stack([np.sin(phase), np.cos(phase)], axis=1)[inside]
        losses[share] = 20 * np.log10(np.linalg.norm(np.linalg.lstsq(basis, found[inside], rcond=None)[0]))
    worst = max(losses, key=lambda share: abs(losses[share]))
    expect(abs(losses[worst]) <= 0.1, "0.1 dB up to 95 % of the band", f"{losses[worst]:.2f} dB at {worst:.0%}")
