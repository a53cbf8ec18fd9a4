"""Runs from manifests, tables and linked folders to their end, and recordings that lack what metrics need."""

import csv
import json
import math
import shutil
from pathlib import Path

from real_inputs import sounds
from real_inputs.case import Place, case, expect
from real_inputs.checks import judged, named, no_traceback, refused, well
from real_inputs.program import Ended, run, score

ENDS, PARTIAL = "9 to the end", "10 partial recordings"


def _run(place: Place, data: Path, *more: object, last: int = 9) -> Ended:
    options = ("--conf", place.bases.conf(), "--data", data, "--stop-stage", last)
    return run("run", "--exp", place / "exp", *options, *more)


def _ended_well(place: Place, ended: Ended) -> None:
    """Expects a finished run with a report and a package."""
    well(ended, "the run")
    exp = place / "exp"
    expect((exp / "report.html").is_file(), "a report", sorted(path.name for path in exp.iterdir()))
    expect(list(exp.glob("*.zip")), "a package", sorted(path.name for path in exp.iterdir()))


def _again(place: Place) -> Ended:
    return well(run("run", "--exp", place / "exp"), "the second call")


def _stage_0_ran(ended: Ended) -> bool:
    return not ended.lines("stage 0 data: complete")


@case(ENDS, "a manifest beside the recordings")
def manifest_beside_the_recordings(place: Place) -> None:
    shutil.copytree(place.bases.small, place / "data")
    well(run("prepare", place / "data", "--out", place / "data/manifest.csv"))
    _ended_well(place, _run(place, place / "data/manifest.csv"))
    expect(not _stage_0_ran(_again(place)), "nothing to do the second time", "stage 0 ran again")


@case(ENDS, "a manifest elsewhere, with whole paths")
def manifest_elsewhere(place: Place) -> None:
    well(run("prepare", place.bases.small, "--out", place / "manifest.csv"))
    _ended_well(place, _run(place, place / "manifest.csv"))


@case(ENDS, "a table through a manifest")
def table_through_a_manifest(place: Place) -> None:
    rows = [["file", "machine", "split", "label", "domain"]]
    for path in sorted((place.bases.small / "mill").rglob("*.wav")):
        _, _, domain, split, label, *_ = path.name.split("_")
        rows.append([str(path), "mill", split, label, domain])
    with open(place / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    well(run("prepare", place / "table.csv", "--out", place / "manifest.csv"))
    _ended_well(place, _run(place, place / "manifest.csv"))


@case(ENDS, "free file names through a table")
def free_names_through_a_table(place: Place) -> None:
    rows = [["file", "machine", "split", "label"]]
    for number in range(14):
        split, label = ("train", "normal") if number < 8 else ("test", "anomaly" if number % 2 else "normal")
        wave = sounds.machine(f"free{number}", 1.0, fault=label == "anomaly")
        sounds.put(place / f"sound/Monday, {number} o'clock.wav", wave)
        rows.append([f"sound/Monday, {number} o'clock.wav", "mill", split, label])
    with open(place / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    well(run("prepare", place / "table.csv", "--out", place / "manifest.csv"))
    _ended_well(place, _run(place, place / "manifest.csv"))


@case(ENDS, "a manifest whose recording changes")
def manifest_whose_recording_changes(place: Place) -> None:
    shutil.copytree(place.bases.small, place / "data")
    well(run("prepare", place / "data", "--out", place / "data/manifest.csv"))
    well(_run(place, place / "data/manifest.csv", last=5))
    clip = sorted((place / "data/mill/test").iterdir())[0]
    sounds.put(clip, sounds.machine("changed", 1.0))
    ended = run("run", "--exp", place / "exp")
    no_traceback(ended)
    expect(_stage_0_ran(ended), "the change to be noticed", ended.lines("stage 0"))
    expect(ended.status == 0 or clip.name in ended.err, "a line that names the recording", ended.err)


def _linked(place: Place, how: str) -> tuple[Path, Path]:
    """Recordings behind links: the folder for --data, and where they really lie."""
    real = shutil.copytree(place.bases.small, place / "real")
    data = place / "data"
    if how == "the folder of all":
        data.symlink_to(real)
    elif how == "a machine's folder":
        data.mkdir()
        (data / "mill").symlink_to(real / "mill")
    elif how == "train and test":
        (data / "mill").mkdir(parents=True)
        for split in ("train", "test"):
            (data / "mill" / split).symlink_to(real / "mill" / split)
    else:
        for split in ("train", "test"):
            (data / "mill" / split).mkdir(parents=True)
            for path in (real / "mill" / split).iterdir():
                (data / "mill" / split / path.name).symlink_to(path)
    return data, real


LINKS = ["the folder of all", "a machine's folder", "train and test", "every recording"]


@case(ENDS, "links: {}", LINKS)
def linked_recordings(place: Place, how: str) -> None:
    data, _ = _linked(place, how)
    _ended_well(place, _run(place, data))


@case(ENDS, "a changed recording behind links: {}", LINKS)
def changed_behind_links(place: Place, how: str) -> None:
    data, real = _linked(place, how)
    well(_run(place, data, last=5))
    (table,) = (place / "exp/systems").glob("*/anomaly_score_mill_section_00_test.csv")
    before = table.read_text()
    clip = next(path for path in sorted((real / "mill/test").iterdir()) if "normal" in path.name)
    sounds.put(clip, sounds.machine("changed", 1.0, fault=True))
    again = _again(place)
    expect(_stage_0_ran(again), "the change to be noticed", again.lines("stage 0"))
    expect(table.read_text() != before, "another score", f"the same scores in {table.name}")


@case(ENDS, "a link that leads around in a circle")
def circle_of_links(place: Place) -> None:
    data = shutil.copytree(place.bases.small, place / "data")
    (data / "mill/train/around").symlink_to(data)
    ended = _run(place, data, last=5)
    no_traceback(ended)
    if ended.status:
        refused(ended, "around")


PARTS = {
    "no test clips": ({"source": 10, "target": 4}, {}),
    "only source": ({"source": 10}, {"source_normal": 4, "source_anomaly": 4}),
    "only target in training": ({"target": 10}, {"target_normal": 4, "target_anomaly": 4}),
    "no target test clips": ({"source": 10, "target": 4}, {"source_normal": 4, "source_anomaly": 4}),
    "no source test clips": ({"source": 10, "target": 4}, {"target_normal": 4, "target_anomaly": 4}),
    "only normal test clips": ({"source": 10, "target": 4}, {"source_normal": 4, "target_normal": 2}),
    "only anomalous test clips": ({"source": 10, "target": 4}, {"source_anomaly": 4, "target_anomaly": 2}),
    "only anomalous target clips": (
        {"source": 10, "target": 4},
        {"source_normal": 4, "source_anomaly": 4, "target_anomaly": 3},
    ),
    "one test clip": ({"source": 10, "target": 4}, {"source_normal": 1}),
    "anonymous test clips": ({"source": 10, "target": 4}, {"anonymous": 6}),
}


def _part(folder: Path, train: dict[str, int], test: dict[str, int], name: str = "mill") -> Path:
    for domain, count in train.items():
        for number in range(count):
            wave = sounds.machine(f"part{number}", 1.0, domain=domain)
            sounds.put(folder / name / f"train/section_00_{domain}_train_normal_{number:04d}_load_1.wav", wave)
    for key, count in test.items():
        domain, _, label = key.partition("_")
        for number in range(count):
            if label:
                wave = sounds.machine(f"test{number}", 1.0, domain=domain, fault=label == "anomaly")
                file = f"section_00_{domain}_test_{label}_{number:04d}_load_1.wav"
            else:
                wave, file = sounds.machine(f"test{number}", 1.0), f"section_00_{number:04d}.wav"
            sounds.put(folder / name / "test" / file, wave)
    return folder


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in _numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


@case(PARTIAL, "{}: to the report", PARTS)
def partial_recordings(place: Place, parts: tuple[dict[str, int], dict[str, int]]) -> None:
    train, test = parts
    well(_run(place, _part(place / "data", train, test)), "the run")
    exp = place / "exp"
    expect((exp / "report.html").is_file(), "a report", sorted(path.name for path in exp.iterdir()))
    numbers = _numbers(json.loads((exp / "metrics.json").read_text()))
    expect(all(math.isfinite(number) for number in numbers), "finite metrics", numbers)
    page = (exp / "report.html").read_text()
    expect(">nan<" not in page.lower() and ">None<" not in page, "no nan and no None in the report", "nan or None")


@case(PARTIAL, "{}: what can be computed is", ["only source", "no target test clips", "no source test clips"])
def what_can_be_computed(place: Place, name: str) -> None:
    well(_run(place, _part(place / "data", *PARTS[name]), last=6), "the run")
    text = (place / "exp/metrics.json").read_text()
    overall = [value for key in ("official_score", "score") for value in _find(json.loads(text), key)]
    expect(any(isinstance(value, float) for value in overall), "a score over what exists", text)
    intervals = [value for key in ("ci95", "interval") for value in _find(json.loads(text), key)]
    expect(any(len(_numbers(value)) == 2 for value in intervals), "an interval", text)
    machines = _find(json.loads(text), "per_machine")
    expect(machines and all(machines) and _clear(machines), "an AUC of the machine above chance", text)


def _clear(metrics: object) -> bool:
    """Whether there is a share, or a percentage, above chance, as clear faults give."""
    return any(0.5 < number <= 1 or 50 < number <= 100 for number in _numbers(metrics))


def _find(value: object, key: str) -> list:
    """Values of a key anywhere in a document."""
    if isinstance(value, dict):
        own = [value[key]] if key in value else []
        return own + [found for part in value.values() for found in _find(part, key)]
    return [found for part in value for found in _find(part, key)] if isinstance(value, list) else []


@case(PARTIAL, "{}: reference systems", ["only source", "no test clips", "only normal test clips", "one test clip"])
def reference_systems(place: Place, name: str) -> None:
    data = _part(place / "data", *PARTS[name])
    well(run("prepare", data, "--out", place / "manifest.csv"))
    ended = run("reference", "--manifest", place / "manifest.csv", "--system", "all", "--out", place / "refs")
    no_traceback(ended)
    if name == "no test clips" and ended.status:
        refused(ended, "test")
    else:
        well(ended, "reference")


@case(PARTIAL, "a machine without test clips beside a whole one")
def one_machine_without_test_clips(place: Place) -> None:
    data = _part(place / "data", *PARTS["no test clips"], name="mill1")
    _part(
        data, {"source": 10, "target": 4}, {f"{d}_{k}": 3 for d in ("source", "target") for k in ("normal", "anomaly")}
    )
    _ended_well(place, _run(place, data))


@case(PARTIAL, "new recordings are judged by a run without test clips")
def judged_without_test_clips(place: Place) -> None:
    well(_run(place, _part(place / "data", *PARTS["no test clips"]), last=5))
    files = [sounds.put(place / f"{n}.wav", sounds.machine(f"new{n}", 1.0, fault=n > 2)) for n in range(6)]
    judged(score(place / "exp", files, place.folder), 6)


def _mimii(folder: Path, machines: tuple[str, ...] = ("fan",)) -> Path:
    for name in machines:
        for section in ("00", "02"):
            for kind, count in (("normal", 12), ("abnormal", 4)):
                for number in range(count):
                    wave = sounds.machine(f"{section}{kind}{number}", 1.0, fault=kind == "abnormal", channels=8)
                    sounds.put(folder / f"6_dB_{name}/{name}/id_{section}/{kind}/{number:08d}.wav", wave)
    return folder


@case(PARTIAL, "the manifest of MIMII runs to the end, {}", {"one machine": ("fan",), "two machines": ("fan", "pump")})
def mimii_to_the_end(place: Place, machines: tuple[str, ...]) -> None:
    raw = _mimii(place / "raw", machines)
    well(run("prepare", raw, "--corpus", "mimii", "--out", place / "mimii"), "prepare")
    ended = _run(place, place / "mimii/manifest.csv")
    if ended.status:  # eight channels may need to be chosen from, where the line says so
        refused(ended, r"data\.channels")
        ended = _run(place, place / "mimii/manifest.csv", "--set", "data.channels=1,2")
    well(ended, "the run")
    expect((place / "exp/report.html").is_file(), "a report", ended.text)
    numbers = _find(json.loads((place / "exp/metrics.json").read_text()), "per_machine")
    expect(_clear(numbers), "metrics of the machines above chance", numbers)


@case(PARTIAL, "sections with and without labels")
def sections_with_and_without_labels(place: Place) -> None:
    data = _part(place / "data", *PARTS["only source"])
    for number in range(6):
        wave = sounds.machine(f"other{number}", 1.0)
        sounds.put(data / f"mill/train/section_01_source_train_normal_{number:04d}_load_1.wav", wave)
    ended = _run(place, data)
    no_traceback(ended)
    well(ended, "the run")


@case(PARTIAL, "what is left out is said")
def what_is_left_out_is_said(place: Place) -> None:
    ended = well(_run(place, _part(place / "data", *PARTS["only normal test clips"])), "the run")
    named(ended, "mill", "anomal|AUC")
