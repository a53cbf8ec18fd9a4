"""Recordings of other lengths than the references, and faults within long ones."""

import json
import re
from pathlib import Path

import numpy as np

from real_inputs import sounds
from real_inputs.bases import ENCODER, SPECTRUM
from real_inputs.case import Place, case, expect
from real_inputs.checks import (
    ANOMALY,
    NORMAL,
    faulty,
    healthy,
    judged,
    no_traceback,
    refused,
    remarked_or_healthy,
    same_scores,
    well,
)
from real_inputs.program import Judged, Row, run, score, settings

LENGTH, WINDOWS = "1 length", "2 faults within long recordings"
MANY = 8


def _clips(place: Place, seconds: float, fault: bool = False, domain: str = "source", count: int = MANY) -> list[Path]:
    """New recordings of the mill, each begun anew."""
    return [
        sounds.put(
            place / f"{seconds}s/clip{number}.wav",
            sounds.machine(f"length{number}", seconds, domain=domain, fault=fault),
        )
        for number in range(count)
    ]


def _judge(place: Place, files: list[Path], exp: Path | None = None) -> Judged:
    return score(exp or place.bases.steady, files, place.folder)


@case(LENGTH, "healthy, {} times the references' length", [0.5, 0.6, 0.75, 1, 1.25, 1.5, 2, 3, 5, 10])
def healthy_of_any_length(place: Place, factor: float) -> None:
    rows = judged(_judge(place, _clips(place, factor * sounds.SECONDS)), MANY)
    healthy(rows)
    if factor >= 1:
        expect(not any(row.remark for row in rows), "no remark within reach", [row.remark for row in rows])


@case(LENGTH, "healthy target clips, {} times the references' length", [0.5, 1, 2.5, 10])
def healthy_target_of_any_length(place: Place, factor: float) -> None:
    unchanged = judged(_judge(place, _clips(place, sounds.SECONDS, domain="target")), MANY)
    alarms = sum(row.decision == ANOMALY for row in unchanged)
    healthy(judged(_judge(place, _clips(place, factor * sounds.SECONDS, domain="target")), MANY), max(2, alarms + 1))


@case(LENGTH, "a fault, {} times the references' length", [0.5, 0.75, 1, 1.5, 3, 10])
def faulty_of_any_length(place: Place, factor: float) -> None:
    faulty(judged(_judge(place, _clips(place, factor * sounds.SECONDS, fault=True)), MANY))


@case(LENGTH, "cut to the first {} of the clip", {"5/6": 5 / 6, "half": 0.5, "quarter": 0.25, "eighth": 0.125})
def cut_clips(place: Place, share: float) -> None:
    files = []
    for number in range(MANY):
        wave = sounds.machine(f"length{number}")
        files.append(sounds.put(place / f"cut{number}.wav", wave[:, : round(share * wave.shape[1])]))
    rows = judged(_judge(place, files), MANY)
    if share < 0.5:
        remarked_or_healthy(rows)
    else:
        healthy(rows)


@case(LENGTH, "played {} times in a row", [2, 3, 5])
def repeated_clips(place: Place, times: int) -> None:
    once, several = [], []
    for number in range(4):
        for fault in (False, True):
            wave = sounds.machine(f"length{number}", fault=fault)
            once.append(sounds.put(place / f"once/{fault}{number}.wav", wave))
            several.append(sounds.put(place / f"several/{fault}{number}.wav", np.tile(wave, times)))
    rows, others = judged(_judge(place, several), 8), judged(_judge(place, once), 8)
    for row, other in zip(rows, others, strict=True):
        expect(row.decision == other.decision, f"the decision of the clip played once, {other.decision}", row.decision)
        most = other.deviations + max(1.0, 0.1 * abs(other.deviations))
        expect(row.deviations < most, f"no more than {other.deviations:.2f} deviations", row.deviations)
        if other.decision == ANOMALY:  # the allowance for many windows must not hide a fault
            expect(row.deviations > 0.8 * other.deviations, f"about {other.deviations:.2f} deviations", row.deviations)


def _adapted(place: Place) -> Path:
    """A run of the adapted encoder, which hears where in a clip something is, on references of 4 s."""
    conf = place.bases.conf(ENCODER, "encoder")
    return place.bases.finished("adapted", conf, lambda: place.bases.recordings, last=5)


@case(LENGTH, "by the encoder: healthy, {} times the references' length", [0.5, 0.83, 1.3, 2, 5, 10])
def healthy_of_any_length_by_the_encoder(place: Place, factor: float) -> None:
    exp = _adapted(place)
    unchanged = judged(_judge(place, _clips(place, sounds.SECONDS), exp), MANY)
    alarms = sum(row.decision == ANOMALY for row in unchanged)
    healthy(judged(_judge(place, _clips(place, factor * sounds.SECONDS), exp), MANY), most=alarms + 2)


@case(LENGTH, "by the encoder: cut to the first {} of the clip, and twice in a row", {"5/6": 5 / 6, "half": 0.5})
def cut_and_repeated_by_the_encoder(place: Place, share: float) -> None:
    exp, waves = _adapted(place), [sounds.machine(f"length{number}") for number in range(MANY)]
    files = {
        "whole": [sounds.put(place / f"whole/{number}.wav", wave) for number, wave in enumerate(waves)],
        "cut": [
            sounds.put(place / f"cut/{number}.wav", wave[:, : round(share * wave.shape[1])])
            for number, wave in enumerate(waves)
        ],
        "twice": [sounds.put(place / f"twice/{number}.wav", np.tile(wave, 2)) for number, wave in enumerate(waves)],
    }
    found = {name: judged(_judge(place, own, exp), MANY) for name, own in files.items()}
    alarms = sum(row.decision == ANOMALY for row in found["whole"])
    healthy(found["cut"], most=alarms + 2)
    healthy(found["twice"], most=alarms + 2)


@case(LENGTH, "scores do not rise with the length")
def scores_do_not_rise_with_the_length(place: Place) -> None:
    lengths = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
    files = [file for seconds in lengths for file in _clips(place, seconds, count=4)]
    rows = judged(_judge(place, files), len(files))
    healthy(rows, most=4)
    unchanged = np.array([row.deviations for row in rows[8:12]])
    longer = np.array([row.deviations for row in rows[12:]])
    expect(np.median(longer) - np.median(unchanged) < 2, "long clips to score like short ones", (longer, unchanged))


@case(LENGTH, "references of mixed lengths, 2 to 8 s")
def references_of_mixed_lengths(place: Place) -> None:
    dice = np.random.default_rng(3)
    for number, seconds in enumerate(dice.uniform(2, 8, 30)):
        domain = "target" if number % 3 == 2 else "source"
        wave = sounds.machine(f"mixed{number}", seconds, domain=domain)
        sounds.put(place / f"data/mill/train/section_00_{domain}_train_normal_{number:04d}_load_1.wav", wave)
    for number, seconds in enumerate(dice.uniform(2, 8, 12)):
        kind = "anomaly" if number >= 8 else "normal"
        wave = sounds.machine(f"test{number}", seconds, fault=kind == "anomaly")
        sounds.put(place / f"data/mill/test/section_00_source_test_{kind}_{number:04d}_load_1.wav", wave)
    exp = place / "exp"
    well(run("run", "--exp", exp, "--conf", place.bases.conf(), "--data", place / "data", "--stop-stage", 6))
    files = sorted((place / "data/mill/test").iterdir())
    rows = judged(_judge(place, files, exp), 12)
    faulty(row for row in rows if "anomaly" in row.name)
    kept = [row for row in rows if "normal" in row.name]
    healthy(kept)
    seconds = [dice_length for dice_length in np.random.default_rng(3).uniform(2, 8, 42)[30:38]]
    slope = np.corrcoef(seconds, [row.deviations for row in kept])[0, 1]
    expect(slope > -0.65, "scores that do not fall with length (correlation above -0.65)", f"{slope:.2f}")


def _long(place: Place, name: str, seconds: float, span: tuple[float, float] | bool = False) -> Path:
    return sounds.put(place / name, sounds.machine(name, seconds, fault=span))


def _found_at(row: Row, span: tuple[float, float], window: float = sounds.SECONDS) -> None:
    expect(row.decision == ANOMALY, "the fault to be flagged", f"{row.decision} at {row.deviations:.2f} deviations")
    times = row.times()
    expect(times, "a column with the time of the worst window", list(row.values))
    near = [time for time in times.values() if span[0] - window <= time <= span[1] + window]
    expect(near, f"a time within one window of the fault at {span} s", times)


@case(WINDOWS, "a fault of 8 s in a minute, from second {}", [0.0, 14.0, 26.0, 37.0, 52.0])
def fault_somewhere(place: Place, begin: float) -> None:
    span = (begin, begin + 8)
    (row,) = judged(_judge(place, [_long(place, "long.wav", 60, span)]), 1)
    _found_at(row, span)


@case(WINDOWS, "a fault of {} s in two minutes", [3.0, 4.0, 6.0, 20.0, 60.0])
def fault_of_some_length(place: Place, seconds: float) -> None:
    span = (47.0, 47.0 + seconds)
    (row,) = judged(_judge(place, [_long(place, "long.wav", 120, span)]), 1)
    _found_at(row, span)


@case(WINDOWS, "a fault of 10 s in ten minutes, and ten healthy minutes")
def fault_in_ten_minutes(place: Place) -> None:
    files = [_long(place, "healthy.wav", 600), _long(place, "broken.wav", 600, (391.0, 401.0))]
    files.append(sounds.put(place / "alone.wav", sounds.machine("alone", 10, fault=True)))
    well_kept, broken, alone = judged(_judge(place, files), 3)
    expect(well_kept.decision == NORMAL, "ten healthy minutes to be normal", well_kept.values)
    _found_at(broken, (391.0, 401.0))
    expect(broken.deviations > 0.5 * alone.deviations, f"about the {alone.deviations:.1f} of the fault", broken.values)


@case(WINDOWS, "healthy recordings of {} s", [30, 60, 120])
def healthy_long_recordings(place: Place, seconds: int) -> None:
    files = [_long(place, f"long{number}.wav", seconds) for number in range(6)]
    healthy(judged(_judge(place, files), 6), most=2)


@case(WINDOWS, "the json names the moment too")
def moment_in_json(place: Place) -> None:
    out = place / "judged.json"
    file = _long(place, "long.wav", 60, (30.0, 38.0))
    no_traceback(run("score", "--exp", place.bases.steady, file, "--machine", "mill", "--json", out))
    (record,) = json.loads(out.read_text())["recordings"]
    times = Row({name: str(value) for name, value in record.items()}).times()
    expect(any(26 <= time <= 42 for time in times.values()), "a time from 26 to 42 s", record)


def _few_long_references(place: Place) -> Path:
    """A run from 3 recordings of a minute in each domain, in windows of 4 s."""

    def recordings(folder: Path) -> Path:
        for domain in ("source", "target"):
            for number in range(3):
                wave = sounds.machine(f"minute{number}", 60, domain=domain)
                sounds.put(folder / f"mill/train/section_00_{domain}_train_normal_{number:04d}_load_1.wav", wave)
        wave = sounds.machine("test", 60, fault=(41.0, 49.0))
        sounds.put(folder / "mill/test/section_00_source_test_anomaly_0000_load_1.wav", wave)
        sounds.put(folder / "mill/test/section_00_source_test_normal_0001_load_1.wav", sounds.machine("kept", 60))
        return folder

    conf = place.bases.conf(SPECTRUM | {"data": {"window": 4.0}}, "window")
    data = place.bases.once("minutes", recordings)
    return place.bases.finished("minutes-run", conf, lambda: data)


@case(WINDOWS, "references of a minute are many references of their sessions")
def long_references_count(place: Place) -> None:
    exp, files = _few_long_references(place), []
    for domain in ("source", "target"):
        for number in range(3):  # the session goes on after the minute that is known
            wave = sounds.machine(f"minute{number}", 64, domain=domain)[:, -4 * sounds.RATE :]
            files.append(sounds.put(place / f"later/{domain}{number}.wav", wave))
    healthy(judged(_judge(place, files, exp), 6))
    faulty(judged(_judge(place, _clips(place, 4.0, fault=True), exp), MANY))


@case(WINDOWS, "sessions other than the three of the references: normal, or said that three are few")
def other_sessions(place: Place) -> None:
    exp = _few_long_references(place)
    rows = judged(_judge(place, _clips(place, 4.0), exp), MANY)
    if sum(row.decision == ANOMALY for row in rows) > 2:
        said = place.bases.told(exp).lines(
            r"\bmill\b", r"\b[36] (source |target |training )?(recordings|references|clips)\b"
        )
        expect(said, "a line about three recordings", [(row.name, round(row.deviations, 2)) for row in rows])


@case(WINDOWS, "a fault within a test recording of the run")
def fault_within_the_run(place: Place) -> None:
    exp = _few_long_references(place)
    (table,) = exp.glob("systems/*/decision_result_mill_section_00_test.csv")
    decisions = dict(line.split(",") for line in table.read_text().split())
    expected = {"section_00_source_test_anomaly_0000_load_1.wav": "1"}
    expect(expected.items() <= decisions.items(), "the recording with the fault to be flagged", decisions)


@case(WINDOWS, "the report draws the course")
def report_draws_the_course(place: Place) -> None:
    page = (_few_long_references(place) / "report.html").read_text()
    moments = [float(text) for text in re.findall(r"(\d+(?:\.\d+)?)\s*s\b", page)]
    expect(
        any(37 <= moment <= 53 for moment in moments), "a moment from 37 to 53 s in the report", sorted(set(moments))
    )
    expect(re.search(r"course|over time|window", page, re.IGNORECASE), "the course over time in words", len(page))


@case(
    WINDOWS,
    "window {} of it",
    {"2 s, hop half": (2.0, 0.5), "2 s, hop all": (2.0, 1.0), "4 s, hop a quarter": (4.0, 0.25)},
)
def window_and_hop_are_settings(place: Place, setting: tuple[float, float]) -> None:
    window, hop = setting
    exp = place / "exp"
    chosen = settings([f"data.window={window}", f"data.hop={hop}"])
    data = place.bases.recordings
    well(run("run", "--exp", exp, "--conf", place.bases.conf(), "--data", data, "--stop-stage", 6, *chosen))
    files = [_long(place, "broken.wav", 40, (21.0, 26.0)), *_clips(place, 4.0)]
    broken, *kept = judged(_judge(place, files, exp), 1 + MANY)
    _found_at(broken, (21.0, 26.0), window)
    healthy(kept)


@case(
    WINDOWS,
    "setting {} is refused",
    ["data.window=-1", "data.window=.nan", "data.window=four", "data.hop=0", "data.hop=2"],
)
def odd_windows_are_refused(place: Place, setting: str) -> None:
    options = ("--conf", place.bases.conf(), "--data", place.bases.small, "--set", setting)
    refused(run("run", "--exp", place / "exp", *options), re.escape(setting.partition("=")[0]))


@case(LENGTH, "unchanged clips score the same in every company")
def company_does_not_matter(place: Place) -> None:
    own = _clips(place, sounds.SECONDS, count=3)
    alone = judged(_judge(place, own), 3)
    together = judged(_judge(place, [*own, *_clips(place, 2.0), *_clips(place, 20.0)]), 3 + 2 * MANY)
    same_scores(together[:3], alone, 1e-9)
