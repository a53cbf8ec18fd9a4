"""Broken sensors, which are not broken machines, and healthy recordings that look odd."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from real_inputs import sounds
from real_inputs.case import Place, case, expect
from real_inputs.checks import (
    ANOMALY,
    NORMAL,
    UNUSABLE,
    UNUSABLE_STATUS,
    judged,
    named,
    no_traceback,
    remarked_or_healthy,
)
from real_inputs.program import Judged, score

KIND = "6 broken sensors"
Change = Callable[[np.ndarray], np.ndarray]


def _dead(channel: int) -> Change:
    def change(wave: np.ndarray) -> np.ndarray:
        wave = wave.copy()
        wave[channel] = 0
        return wave

    return change


def _clipped(drive: float) -> Change:
    return lambda wave: np.clip(drive * wave / np.abs(wave).max(), -0.999, 0.999)


def _dropouts(count: int, seconds: float) -> Change:
    def change(wave: np.ndarray) -> np.ndarray:
        wave, width = wave.copy(), round(seconds * sounds.RATE)
        for start in np.linspace(0, wave.shape[1] - width, count, dtype=int):
            wave[:, start : start + width] = 0
        return wave

    return change


def _constant(wave: np.ndarray) -> np.ndarray:
    return np.full_like(wave, 0.25)


def _stuck(wave: np.ndarray) -> np.ndarray:
    wave = wave.copy()
    wave[0] = 0.125
    return wave


BROKEN: dict[str, Change] = {
    "dead near channel": _dead(0),
    "dead far channel": _dead(1),
    "silence": lambda wave: 0 * wave,
    "constant": _constant,
    "constant near channel": _stuck,
    "clipped, half of the samples": _clipped(6.0),
    "clipped, nearly all samples": _clipped(50.0),
    "square wave of full scale": lambda wave: np.sign(wave) * 0.999,
    "offset of 0.4": lambda wave: wave + 0.4,
    "offset of 0.4 in the near channel": lambda wave: wave + np.array([[0.4], [0.0]]),
    "dropouts, 20 of 60 ms": _dropouts(20, 0.06),
    "dropouts, 40 of 30 ms": _dropouts(40, 0.03),
    "one dropout of half the clip": _dropouts(1, 2.0),
    "50 ms": lambda wave: wave[:, :800],
    "20 ms": lambda wave: wave[:, :320],
    "one channel": lambda wave: wave[:1],
    "four channels": lambda wave: np.concatenate([wave, wave]),
    "40 dB softer": lambda wave: 0.01 * wave,
    "60 dB softer": lambda wave: 0.001 * wave,
    "40 dB louder": lambda wave: 100 * wave,
}


def _judge(place: Place, change: Change) -> Judged:
    """Two changed clips between two unchanged ones."""
    files: list[Path] = []
    for number in range(2):
        wave = sounds.machine(f"sensor{number}")
        files.append(sounds.put(place / f"kept{number}.wav", wave, subtype="FLOAT"))
        files.append(sounds.put(place / f"changed{number}.wav", change(wave), subtype="FLOAT"))
    return score(place.bases.steady, files, place.folder)


@case(KIND, "{}", BROKEN)
def broken_sensor(place: Place, change: Change) -> None:
    found = _judge(place, change)
    no_traceback(found.ended)
    expect(len(found.rows) == 4, "four rows", found.ended.text)
    for row in found.rows:
        if "kept" in row.name:
            expect(row.decision == NORMAL and not row.remark, "the other clips normal without a remark", row.values)
        else:
            expect(row.decision == UNUSABLE, UNUSABLE, row.values)
            expect(row.remark, "a remark", row.values)
    expect(found.ended.status == UNUSABLE_STATUS, f"exit status {UNUSABLE_STATUS}", found.ended.status)
    named(found.ended, "unusable")


def _clicks(wave: np.ndarray) -> np.ndarray:
    wave = wave.copy()
    wave[:, [900, 20000, 41000]] = 0.999
    return wave


HEALTHY: dict[str, Change] = {
    "3 dB softer": lambda wave: 0.71 * wave,
    "3 dB louder": lambda wave: 1.41 * wave,
    "6 dB louder": lambda wave: 2.0 * wave,
    "small offset": lambda wave: wave + 0.001,
    "three samples at full scale": _clicks,
    "inverted": lambda wave: -wave,
    "reversed in time": lambda wave: wave[:, ::-1].copy(),
}


@case(KIND, "not broken: {}", HEALTHY)
def odd_but_working_sensor(place: Place, change: Change) -> None:
    found = _judge(place, change)
    no_traceback(found.ended)
    said = [row.values for row in found.rows if row.decision == UNUSABLE]
    expect(len(found.rows) == 4 and not said, "no word of a broken sensor", said or found.ended.text)
    expect(found.ended.status == 0, "exit status 0", found.ended.status)


@case(KIND, "not broken: a fault, {} dB louder", [0, 6, 10])
def broken_machine_is_no_broken_sensor(place: Place, gain: int) -> None:
    files = []
    for number in range(3):
        wave = 10 ** (gain / 20) * sounds.machine(f"sensor{number}", fault=True)
        files.append(sounds.put(place / f"fault{number}.wav", wave, subtype="FLOAT"))
    found = score(place.bases.steady, files, place.folder)
    no_traceback(found.ended)
    decisions = [row.decision for row in found.rows]
    expect(decisions == [ANOMALY] * 3, "three alarms", decisions)
    expect(found.ended.status == 0, "exit status 0", found.ended.status)


@case(KIND, "noise alone at the level of the machine is not normal")
def noise_alone(place: Place) -> None:
    wave = sounds.machine("sensor0")
    noise = np.random.default_rng(0).standard_normal(wave.shape) * wave.std(axis=1, keepdims=True)
    found = score(place.bases.steady, [sounds.put(place / "noise.wav", noise, subtype="FLOAT")], place.folder)
    no_traceback(found.ended)
    expect(found.rows and found.rows[0].decision in (ANOMALY, UNUSABLE), "an alarm or a broken sensor", found.rows)


@case(KIND, "samples that are {}", {"NaN": np.nan, "infinite": np.inf})
def samples_that_are_no_numbers(place: Place, value: float) -> None:
    def change(wave: np.ndarray) -> np.ndarray:
        wave = wave.copy()
        wave[0, 1000] = value
        return wave

    found = _judge(place, change)
    no_traceback(found.ended)
    changed = [row for row in found.rows if "changed" in row.name]
    kept = [row for row in found.rows if "kept" in row.name]
    expect([row.decision for row in kept] == [NORMAL] * 2, "the other clips normal", found.ended.text)
    expect(all(row.error or row.decision == UNUSABLE for row in changed), "an error or a broken sensor", changed)
    expect(found.ended.status in (1, UNUSABLE_STATUS), "exit status 1 or 4", found.ended.status)


@case(KIND, "a minute with a dropout of {} ms, healthy and with a fault", [50, 250])
def dropout_in_a_long_recording(place: Place, milliseconds: int) -> None:
    files = []
    for name, fault in (("kept", False), ("broken", (36.0, 46.0))):
        wave = sounds.machine("minute", 60, fault=fault)
        wave[:, 12 * sounds.RATE : 12 * sounds.RATE + milliseconds * sounds.RATE // 1000] = 0
        files.append(sounds.put(place / f"{name}.wav", wave))
    kept, broken = judged(score(place.bases.steady, files, place.folder), 2)
    expect([kept.decision, broken.decision] == [NORMAL, ANOMALY], "normal, ANOMALY", [kept.values, broken.values])
    expect(kept.remark and broken.remark, "remarks of the dropout", [kept.remark, broken.remark])


@case(KIND, "{} dB softer: an alarm has a remark", [6, 9, 12, 15])
def softer_recording(place: Place, decibels: int) -> None:
    waves = [10 ** (-decibels / 20) * sounds.machine(f"soft{number}") for number in range(4)]
    files = [sounds.put(place / f"{number}.wav", wave, subtype="PCM_24") for number, wave in enumerate(waves)]
    rows = judged(score(place.bases.steady, files, place.folder), 4)
    remarked_or_healthy(rows, most=1)
    expect(not any(row.decision == UNUSABLE for row in rows), "no broken sensor", [row.values for row in rows])


@case(KIND, "json and csv say the same")
def json_says_so_too(place: Place) -> None:
    import json

    files = [
        sounds.put(place / "dead.wav", _dead(0)(sounds.machine("a"))),
        sounds.put(place / "kept.wav", sounds.machine("a")),
    ]
    found = score(place.bases.steady, files, place.folder, "--json", place / "judged.json")
    records = json.loads((place / "judged.json").read_text())["recordings"]
    decisions = [row.decision for row in found.rows]
    expect([record["decision"] for record in records] == decisions == [UNUSABLE, NORMAL], "UNUSABLE, normal", decisions)


@case(KIND, "a file in error beside a broken sensor")
def error_beside_a_broken_sensor(place: Place) -> None:
    files = [
        sounds.put(place / "dead.wav", _dead(0)(sounds.machine("a"))),
        place / "none.wav",
        sounds.put(place / "kept.wav", sounds.machine("a")),
    ]
    found = score(place.bases.steady, files, place.folder)
    no_traceback(found.ended)
    expect(found.ended.status in (1, UNUSABLE_STATUS), "exit status 1 or 4", found.ended.status)
    named(found.ended, "none.wav")
    expect(found.row("kept.wav").decision == NORMAL, "the other clip normal", found.rows)
    expect(found.row("dead.wav").decision == UNUSABLE, UNUSABLE, found.rows)
