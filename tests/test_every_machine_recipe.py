"""Sets of every kind of machine from tiny recordings, and the table set x system against scikit-learn."""

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from system import audio, manifest
from system.bin import main
from system.errors import WheeltapperError
from system.evaluation import available, challenge_csv
from system.evaluation.truth import Truth
from system.manifest import Clip

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
LOCAL = RECIPES / "every_machine" / "local"
RATE = 4000


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"every_machine_{name}", LOCAL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sound(path: Path, seconds: float, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, np.clip(0.1 * rng.standard_normal((1, round(seconds * RATE))), -1, 1).astype(np.float32), RATE)


def listed(folder: Path, columns: str, rows: list[tuple], seconds: float, rng: np.random.Generator) -> None:
    """Recordings of one kind with their manifest, of which the first column is the file."""
    for row in rows:
        sound(folder / row[0], seconds, rng)
    with open(folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns.split(","), *rows])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Recordings in the layout of the README, a few of each kind."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    knocks = [(f"{label}_{k}.wav", label) for label in ("normal", "anomaly") for k in range(5)]
    listed(folder / "bottle_knocks", "file,label", knocks, 16 * 2048 / RATE, rng)
    fan = [(f"on_{k}.wav", "on", "20200318") for k in range(5)] + [("old.wav", "on", "20200101")]
    fan += [(f"{state}.wav", state, "20200318") for state in ("blade_fault", "tapping")]
    listed(folder / "fan_16k", "file,state,day", fan, 1.2, rng)
    motors = [(f"{kind}{k}.wav", kind) for kind in "ABCDE" for k in range(7)]
    listed(folder / "cyclic_motors_22k", "file,class", motors, 0.6, rng)
    flights = [
        (f"{way}{mission}{broken}{take}.wav", "anomaly" if broken else "normal", broken, "0000", way, mission, take)
        for way in ("cw", "ccw")
        for mission in ("square", "f8")
        for broken, takes in ((0, 4), (1, 1), (3, 1))
        for take in range(takes)
    ]
    listed(
        folder / "uav_propeller_16k", "file,label,n_broken,propellers,direction,mission,recording", flights, 0.6, rng
    )
    for k in range(8):
        sound(folder / "esc50_16k_ogg" / f"1-{k}-A-0.wav", 1.0, rng)
    return folder


@pytest.fixture(scope="module")
def make_sets():
    module = load("make_sets")
    module.MOTOR_TRAIN, module.MOTOR_OTHERS, module.FAN_SECONDS = 3, 1, 0.6
    settings = module.EmulateSettings
    module.EmulateSettings = lambda **given: settings(**given, rt60=0.05, rate=RATE)
    return module


@pytest.fixture(scope="module")
def sets(data, make_sets, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "seed1"
    assert make_sets.make(data, out, 1, 1)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_kinds_clean_and_in_noise_with_the_same_clips(sets):
    record = json.loads((sets / "set.json").read_text())
    assert record["identity"]["seed"] == 1
    machines = {"cw", "ccw", "bottles2of8", "bottles8of8", "fanBlade", "fanTapping", *(f"motor{k}" for k in "ABCDE")}
    names = {}
    for condition, channels in (("clean", 1), ("noisy", 2)):
        waves = sorted((sets / condition).rglob("*.wav"))
        names[condition] = [path.relative_to(sets / condition).as_posix() for path in waves]
        assert {path.parts[-3] for path in waves} == machines
        assert {audio.read(path)[0].shape[0] for path in waves[:: len(waves) // 5]} == {channels}
        with open(sets / condition / "truth.csv", newline="") as file:
            truth = [f"{row['machine']}/test/{row['file']}" for row in csv.DictReader(file)]
        assert sorted(truth) == [name for name in names[condition] if "/test/" in name]
    assert names["clean"] == names["noisy"]
    assert set(record["clips"]) == {f"{condition}/{name}" for condition, own in names.items() for name in own}


def test_no_recording_trains_and_tests(sets):
    clips = json.loads((sets / "set.json").read_text())["clips"]
    sides: dict[tuple[str, str], set[str]] = {}
    for name, facts in clips.items():
        condition, machine, split, _ = name.split("/")
        if condition == "noisy":
            group = facts["group"] if machine != "fanBlade" else Path(facts["recording"]).stem.rpartition("_")[0]
            sides.setdefault((machine, group), set()).add(split)
    assert all(len(side) == 1 for side in sides.values())
    noise: dict[str, set[str]] = {"train": set(), "test": set()}
    for name, facts in clips.items():
        noise[name.split("/")[2]].update(file for source in facts.get("noise", ()) for file in source)
    assert noise["train"]
    assert not noise["train"] & noise["test"]


def test_no_recording_trains_one_machine_and_tests_another(sets, tmp_path):
    """Systems learn from all machines; a run refuses a test clip with the content of a training clip."""
    conf = RECIPES / "dcase2026" / "conf" / "noise_aware_toy.yaml"
    arguments = ["run", "--exp", str(tmp_path / "exp"), "--conf", str(conf), "--data", str(sets / "clean")]
    assert main([*arguments, "--stop-stage", "0", "--set", f"data.rate={RATE}"]) == 0
    clips = json.loads((sets / "set.json").read_text())["clips"]
    sides: dict[str, set[str]] = {}
    for name, facts in clips.items():
        if name.startswith("noisy/") and "bottles" not in name:  # whose clips are cut for each machine
            sides.setdefault(Path(facts["recording"]).name, set()).add(name.split("/")[2])
    assert sides
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.matrix
def test_complete_sets_are_kept_and_are_the_same_anywhere(sets, data, make_sets, tmp_path):
    before = (sets / "set.json").stat().st_mtime_ns
    assert not make_sets.make(data, sets, 1, 1)
    assert (sets / "set.json").stat().st_mtime_ns == before
    moved = tmp_path / "elsewhere"
    shutil.copytree(data, moved)
    make_sets.make(moved, tmp_path / "again", 1, 1)
    assert files(sets) == files(tmp_path / "again")
    (sets / "clean" / "cw" / "test").rename(tmp_path / "gone")
    assert not make_sets.is_complete(sets, make_sets.RECORD, make_sets.identity(data, 1))
    (tmp_path / "gone").rename(sets / "clean" / "cw" / "test")


def test_a_killed_run_leaves_no_set(data, make_sets, tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_sets, "emulate", killed)
    with pytest.raises(KeyboardInterrupt):
        make_sets.make(data, tmp_path / "seed1", 1, 1)
    assert not (tmp_path / "seed1").exists()


@pytest.mark.parametrize("missing", ["fan_16k/manifest.csv", "esc50_16k_ogg"])
def test_missing_recordings_are_named(data, make_sets, tmp_path, missing):
    place = tmp_path / "data"
    shutil.copytree(data, place)
    shutil.rmtree(place / missing.split("/")[0])
    with pytest.raises(WheeltapperError, match=f"{missing}: expected .*, found nothing"):
        make_sets.make(place, tmp_path / "seed1", 1, 1)
    assert not (tmp_path / "seed1").exists()


def scored(folder: Path, seed: int, machines: dict[str, tuple[str, ...]], gain: float) -> tuple[list[Clip], dict, dict]:
    """A manifest of machines with their domains, scores, and decisions at 1."""
    rng, clips, scores = np.random.default_rng(seed), [], {}
    for machine, domains in machines.items():
        place = folder / "sets" / f"seed{seed}" / "clean" / machine
        facts = {"channels": 1, "rate": 8000, "samples": 8000}
        for number in range(25):
            path = str(place / "train" / f"{number}.wav")
            clips.append(Clip("c", machine, "00", "train", f"{number}.wav", path, "normal", "source", **facts))
        for number in range(40):
            label, domain = ("normal", "anomaly")[number % 2], domains[number // 2 % len(domains)]
            path = str(place / "test" / f"t{number}.wav")
            clips.append(Clip("c", machine, "00", "test", f"t{number}.wav", path, label, domain, **facts))
            scores.setdefault((machine, "00"), {})[f"t{number}.wav"] = rng.normal() + gain * (label == "anomaly")
    decisions = {key: {file: int(value > 1) for file, value in own.items()} for key, own in scores.items()}
    return clips, scores, decisions


def save(folder: Path, scores: dict, decisions: dict | None) -> None:
    folder.mkdir(parents=True)
    for key, own in scores.items():
        challenge_csv.write_scores(folder / challenge_csv.score_name(*key), own)
        if decisions:
            challenge_csv.write_decisions(folder / challenge_csv.decision_name(*key), decisions[key])


def expected(clips: list[Clip], scores: dict, machine: str) -> list[float]:
    """The measures of a machine by scikit-learn: AUC source, AUC target, pAUC, or AUC and pAUC, in percent."""
    own = [clip for clip in clips if clip.machine == machine and clip.split == "test"]
    values = np.array([scores[machine, "00"][clip.file] for clip in own])
    truth = np.array([clip.label == "anomaly" for clip in own])
    domains = np.array([clip.domain for clip in own])
    both = "target" in domains
    sides = [truth | (domains == domain) for domain in ("source", "target")] if both else [truth | True]
    found = [roc_auc_score(truth[side], values[side]) for side in sides]
    return [100 * value for value in (*found, roc_auc_score(truth, values, max_fpr=0.1))]


def hmean(values: list[float]) -> float:
    return len(values) / sum(1 / value for value in values)


def test_table_of_runs_and_references(tmp_path, monkeypatch, capsys):
    tabulate = load("tabulate")
    machines = {"cw": ("source", "target"), "ccw": ("source", "target"), "motorA": ("source",)}
    own, references, arguments = {}, {}, []
    for seed in (1, 2):
        clips, scores, decisions = scored(tmp_path, seed, machines, 1.0)
        exp = tmp_path / f"run{seed}"
        save(exp / "systems" / "A_B_task2_1", scores, decisions)
        manifest.write(exp / "manifest.csv", clips)
        (exp / "config.yaml").write_text("systems: [{name: Everything}]\n")
        (exp / "metrics.json").write_text("{}")
        _, simple, _ = scored(tmp_path, seed, machines, 3.0)
        place = tmp_path / f"references{seed}"
        save(place / "logmel_knn", simple, None)
        manifest.write(place / "manifest.csv", clips)
        (place / "references.json").write_text("{}")
        own[seed], references[seed] = (clips, scores, decisions), simple
        arguments.append(f"mine={exp}")
    places = [str(tmp_path / f"references{seed}") for seed in (1, 2)]
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["tabulate", *arguments, "--references", *places, "--out", str(out)])
    tabulate.main()
    with open(out / "table.csv", newline="") as file:
        rows = {(row["system"], row["kind"], row["condition"]): row for row in csv.DictReader(file)}

    def of(table: dict) -> dict[str, list[float]]:
        cells = {seed: [expected(own[seed][0], table[seed], machine) for machine in machines] for seed in own}
        propellers = [hmean([*cw, *ccw]) for cw, ccw, _ in cells.values()]
        motor = [hmean(motor) for *_, motor in cells.values()]
        means = [float(np.mean(pair)) for pair in zip(propellers, motor, strict=True)]
        return {"propellers": propellers, "motorA": motor, "mean": means}

    mine, simple = of({seed: own[seed][1] for seed in own}), of(references)
    for kind, values in mine.items():
        row = rows["mine 1", kind, "clean"]
        assert float(row["score"]) == pytest.approx(np.mean(values), abs=0.006)
        assert float(row["spread"]) == pytest.approx(np.std(values, ddof=1), abs=0.006)
        assert float(row["difference"]) == pytest.approx(np.mean(values) - np.mean(simple[kind]), abs=0.012)
        assert float(row["low"]) < float(row["score"]) < float(row["high"])
        assert row["seeds"] == "2"
    files = [clip for clip in own[1][0] if clip.machine == "motorA" and clip.label == "normal" and clip.split == "test"]
    alarms = [own[seed][2]["motorA", "00"][clip.file] for seed in own for clip in files]
    assert float(rows["mine 1", "motorA", "clean"]["false alarms"]) == pytest.approx(np.mean(alarms), abs=0.001)
    assert rows["reference logmel_knn", "motorA", "clean"]["difference"] == ""
    text = (out / "table.md").read_text()
    assert text == capsys.readouterr().out
    difference = rows["mine 1", "motorA", "clean"]["difference"]
    assert f"motorA clean {difference} (logmel_knn)" in text
    assert "* mine 1: Everything" in text


def test_a_kind_is_measured_as_evaluate_measures_machines_with_and_without_target_domain(tmp_path):
    tabulate = load("tabulate")
    clips, scores, decisions = scored(tmp_path, 3, {"cw": ("source", "target"), "motorA": ("source",)}, 1.0)
    truth = [Truth(clip.machine, "00", clip.file, clip.domain, clip.label) for clip in clips if clip.split == "test"]
    found = available.evaluate(scores, decisions, truth, 2022, 200, 5)
    assert 100 * found["official_score"] == pytest.approx(hmean(expected(clips, scores, "cw")))
    save(tmp_path / "scores", scores, decisions)
    for machine, name in (("cw", "hmean"), ("motorA", "hmean_auc_pauc")):
        rows = [clip for clip in clips if clip.machine == machine]
        measured = tabulate.measure(tmp_path / "scores", rows, 200, 5)
        assert measured.score == pytest.approx(hmean(expected(clips, scores, machine)))
        assert measured.score == pytest.approx(100 * found["per_machine"][machine][name])
        assert measured.references == 25
    own = [clip for clip in truth if clip.machine == "motorA"]
    alone = available.evaluate(scores, None, own, 2022, 200, 5)[available.WITHOUT]
    limits = tabulate.intervals.percentile_interval(measured.drawn)
    assert limits == pytest.approx([100 * value for value in alone["ci95"]])


def test_means_only_of_all_kinds_and_seeds():
    tabulate = load("tabulate")

    def one(score: float):
        return tabulate.Measured(score, np.array([score]))

    found = {
        "a 1": {("fan", "clean"): {"1": one(60)}, ("saw", "clean"): {"1": one(80)}, ("fan", "noisy"): {"1": one(50)}},
        "b 1": {("fan", "clean"): {"1": one(90)}},
    }
    result = tabulate.with_means(found)
    means = {(system, own[1]): seeds["1"].score for system, sets in result.items() for own, seeds in sets.items()
             if own[0] == "mean"}  # fmt: skip
    assert means == {("a 1", "clean"): 70.0, ("a 1", "noisy"): 50.0, ("a 1", "both"): 60.0}
