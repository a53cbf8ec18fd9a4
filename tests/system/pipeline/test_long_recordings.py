"""Recordings shorter and longer than the references, from the manifest to the report."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from system import audio, compliance, config, manifest, score_tables
from system.bin import main
from system.compliance import scores as recomputed
from system.embeddings.files import read_index
from system.experiment import Experiment
from system.pipeline import judging, verdicts
from system.report import maps, write_report

RATE = 4000
LENGTHS = {"Fan": (0.5, 1.0, 1.02, 1.5, 3.0, 20.0), "Pump": (10.0, 35.0)}  # seconds of test clips
FAULT = (12.0, 14.5)  # seconds of the long test recording in which the machine is broken
CONF = {
    "data": {"rate": RATE},
    "branches": {
        "low": {"spectrum": {"merge": 16}, "inputs": ["near"], "scorer": {"name": "mahalanobis"}},
        "near": {"shares": "low", "scorer": {"name": "knn", "settings": {"k": 1}}},
    },
    "systems": [
        {"view": "near_only", "weights": {"low": 2, "near": 1}},
        {"view": "near_only", "weights": {"low": 1, "near": 1}, "fusion": "minimum"},
    ],
    "evaluate": {"bootstrap": 0},
    "tune": {"scorers": {"knn": {"k": [1, 2]}}, "trials": 12},
}


def sound(seed: int, seconds: float, fault: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A hum in noise, to which a tone, louder in longer recordings, is added during the fault."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    broken = (time >= fault[0]) & (time < fault[1])
    wave = 0.2 * np.sin(2 * np.pi * 200 * time) + 0.1 * seconds**0.5 * broken * np.sin(2 * np.pi * 900 * time)
    return (wave + generator.normal(0, 0.05, len(time))).astype(np.float32)


def put(path: Path, wave: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Experiment:
    """Fan: clips of one second, test clips of other lengths. Pump: one recording of minutes to learn from."""
    place = tmp_path_factory.mktemp("long")
    data = place / "data"
    for i in range(32):
        domain = "source" if i < 22 else "target"
        name = f"section_00_{domain}_train_normal_{i:04d}_noAttribute.wav"
        put(data / "Fan" / "train" / name, sound(i, 1.0))
    put(data / "Pump" / "train" / "section_00_source_train_normal_0000_noAttribute.wav", sound(50, 130.0))
    for machine, known in LENGTHS.items():
        for number, seconds in enumerate(known):
            for domain in ("source", "target"):
                for label in ("normal", "anomaly"):
                    fault = (0.0, 0.0) if label == "normal" else FAULT if seconds > FAULT[1] else (0, seconds)
                    name = f"section_00_{domain}_test_{label}_{number:04d}_noAttribute.wav"
                    seed = 100 + 10 * number + 2 * (domain == "target") + (label == "anomaly")
                    put(data / machine / "test" / name, sound(seed, seconds, fault))
    conf = place / "c.yaml"
    conf.write_text(yaml.safe_dump(CONF))
    options = ("--conf", str(conf), "--data", str(data), "--stop-stage", "6")
    assert main(["run", "--exp", str(place / "exp"), *options]) == 0
    return Experiment(place / "exp", config.load(place / "exp" / "config.yaml"))


def rows_of(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_recordings_are_embedded_by_windows(run):
    rows = read_index(run.index("low"))
    number = {clip.key: sum(row[:4] == clip.key for row in rows) for clip in manifest.read(run.manifest)}
    for key, count in number.items():
        if key[2] == "train":
            assert count == {"Fan": 1, "Pump": 25}[key[0]]  # 130 s in windows of 10 s, every 5 s
            continue
        seconds = LENGTHS[key[0]][int(key[3].split("_")[5])]
        length = {"Fan": 1.0, "Pump": 10.0}[key[0]]
        assert count == (1 if seconds <= 1.05 * length else 1 + np.ceil(2 * (seconds / length - 1)))


def test_one_recording_of_minutes_counts_as_many_references(run):
    rows = [row for row in rows_of(run.system(run.labels[0]) / "references.csv") if row["machine"] == "Pump"]
    assert [int(row["start"]) for row in rows] == [10 * RATE * i for i in range(13)]
    assert all(int(row["window"]) == 10 * RATE for row in rows)


@pytest.mark.parametrize("number", [1, 2])
def test_faults_are_found_at_every_length_and_normal_recordings_are_not(run, number):
    decided = {"normal": [], "anomaly": []}
    for path in run.system(run.labels[number - 1]).glob("decision_result_*.csv"):
        for file, decision in csv.reader(path.open()):
            decided["anomaly" if "anomaly" in file else "normal"].append(int(decision))
    assert len(decided["anomaly"]) == 16
    assert all(decided["anomaly"])
    assert sum(decided["normal"]) <= 4


def test_the_rules_are_recomputed_with_windows(run):
    clips = manifest.read(run.manifest)
    for rule in (
        recomputed.check_distances(run, clips),
        recomputed.check_fusion(run),
        recomputed.check_anonymous(run, clips),
    ):
        assert rule.violations == [], rule.name
    path = run.scores("low", "near_only")
    before = path.read_text()
    try:
        rows = score_tables.read_rows(path)
        place = next(i for i, row in enumerate(rows) if row.split == "test" and row.window and row.start)
        rows[place] = replace(rows[place], score=rows[place].score * 1.5 + 1)
        score_tables.write_rows(path, rows)
        assert recomputed.check_distances(run, clips).violations
    finally:
        path.write_text(before)


def test_embeddings_are_recomputed_by_window(run, tmp_path):
    from system.compliance.package import check_embeddings
    from system.pipeline.branches import clip_embedder

    clips = manifest.read(run.manifest)
    rule = check_embeddings(run, clips, 40, clip_embedder(run), tmp_path, 1e-5)
    assert (rule.violations, rule.checked[:2]) == ([], "40")
    assert isinstance(rule, compliance.rule.ComplianceRule)


def test_score_says_the_same_and_when(run, tmp_path):
    tests = [clip for clip in manifest.read(run.manifest) if clip.split == "test" and clip.machine == "Fan"]
    files, out = [clip.path for clip in tests], (tmp_path / "o.csv", tmp_path / "o.json")
    options = ("--machine", "Fan", "--csv", str(out[0]), "--json", str(out[1]))
    assert main(["score", "--exp", str(run.folder), *files, *options]) == 0
    folder = run.system(run.labels[0])
    written = dict(csv.reader((folder / "anomaly_score_Fan_section_00_test.csv").open()))
    courses: dict[str, list[score_tables.ScoreRow]] = {}
    for row in score_tables.read_rows(folder / score_tables.COURSES):
        if row.machine == "Fan":
            courses.setdefault(row.file, []).append(row)
    judged = json.loads(out[1].read_text())["recordings"]
    for clip, row, found in zip(tests, rows_of(out[0]), judged, strict=True):
        assert float(row["score"]) == found["score"] == pytest.approx(float(written[clip.file]), rel=1e-6)
        stored = courses.get(clip.file, [])
        assert len(found["course"]) == len(stored)
        if clip.seconds < 1.1:
            assert (row["worst_start"], row["worst_end"], found["course"]) == ("", "", [])
            continue
        assert [window["start"] for window in found["course"]] == [window.start / RATE for window in stored]
        np.testing.assert_allclose([w["score"] for w in found["course"]], [w.score for w in stored], rtol=1e-6)
        assert max(window["score"] for window in found["course"]) == found["score"]
        assert float(row["worst_end"]) - float(row["worst_start"]) == pytest.approx(1.0)
        if clip.label == "anomaly" and clip.seconds > FAULT[1]:
            assert FAULT[0] - 0.5 <= float(row["worst_start"]) < float(row["worst_end"]) <= FAULT[1] + 0.5


@pytest.mark.parametrize("at", [0.0, 9.0, 19.3])
def test_a_fault_shorter_than_the_window_is_found_anywhere(run, tmp_path, at):
    path = put(tmp_path / "Fan" / "x.wav", sound(7, 20.0, (at, at + 0.7)))
    run_, clips = judging.finished_run(run.folder)
    (recording,) = judging.list_recordings([path], clips)
    (judged,) = judging.judge_recordings(run_, 1, clips, [recording])
    assert judged.verdict.anomalous
    assert judged.verdict.worst[0] < at + 0.7
    assert judged.verdict.worst[1] > at


@pytest.mark.parametrize(
    ("gaps", "seconds", "left_out"),
    [((5.2,), 0.1, 2), ((0.0,), 0.15, 1), ((5.2, 11.1), 0.05, 4), ((5.2,), 1.0, 0), (range(20), 0.06, 0)],
)
def test_a_few_dropouts_of_a_long_recording_are_left_out(run, tmp_path, gaps, seconds, left_out):
    """Others make it unusable, and what they leave is judged as it is without them."""
    paths = []
    for name, fault in (("kept", (0, 0)), ("broken", (14.0, 15.5))):
        wave = sound(7, 20.0, fault)
        paths.append(put(tmp_path / "Fan" / f"{name}.wav", wave))
        for gap in gaps:
            wave[round(gap * RATE) : round((gap + seconds) * RATE)] = 0
        paths.append(put(tmp_path / "Fan" / f"{name}_lost.wav", wave))
    run_, clips = judging.finished_run(run.folder)
    judged = judging.judge_recordings(run_, 1, clips, list(judging.list_recordings(paths, clips)))
    kept, lost, broken, broken_lost = (each.verdict for each in judged)
    assert (kept.anomalous, broken.anomalous) == (False, True)
    if not left_out:
        assert lost.unusable
        assert broken_lost.unusable
        return
    assert (lost.anomalous, lost.unusable, broken_lost.worst) == (False, False, broken.worst)
    assert broken_lost.score == pytest.approx(broken.score)
    assert f"; {left_out} of 39 windows, with dropouts, are left out" in lost.remark
    assert len(lost.course) == len(kept.course) - left_out


def test_an_hour_is_read_in_windows(run, tmp_path, monkeypatch):
    """No more of a long recording is in memory than a window."""
    path = put(tmp_path / "Fan" / "x.wav", np.tile(sound(7, 20.0), 3))
    longest, read = [], audio.read

    def counted(path, start=0, samples=-1):
        wave, rate = read(path, start, samples)
        longest.append(wave.shape[1])
        return wave, rate

    run_, clips = judging.finished_run(run.folder)
    judges = verdicts.judges(run_, 1, clips, [("Fan", "00")])
    from system.pipeline.branches import system_embedder

    embed = system_embedder(run_, run_.config.systems[0])
    monkeypatch.setattr(audio, "read", counted)
    clip = manifest.Clip("n", "Fan", "00", "test", "x.wav", str(path), channels=1, rate=RATE, samples=60 * RATE)
    course = judges["Fan", "00"].course(judges["Fan", "00"].cut(clip), embed)
    assert len(course.windows) == 119
    assert set(longest) == {RATE}


def test_the_report_draws_the_course(run, monkeypatch):
    monkeypatch.setattr(maps, "tsne_each", lambda groups, seed: [vectors[:, :2] for vectors in groups])
    page = write_report(run.folder).read_text(encoding="utf-8")
    assert page.count("score of each window over time") >= 2
    assert re.search(r"Fan, most anomalous clip: score of each window over time, the worst from 1[23]\.[05] s", page)
    assert re.search(r"red: the worst,\s+1[23]\.[05] to 1[34]\.[05] s", page)


def test_tuning_judges_by_windows(run, tmp_path):
    assert main(["tune", "--exp", str(run.folder), "--out", str(tmp_path / "t")]) == 0
    found = json.loads((tmp_path / "t" / "tune.json").read_text())
    official = json.loads(run.metrics.read_text())["systems"][run.labels[0]]["official_score"]
    assert official == pytest.approx(found["untuned"]["official_score"], abs=1e-12)


@pytest.mark.parametrize(("key", "value"), [("window", "-1"), ("hop", "0"), ("hop", "1.5"), ("window", "often")])
def test_impossible_windows_are_refused(tmp_path, capsys, key, value):
    conf = tmp_path / "c.yaml"
    conf.write_text(yaml.safe_dump(CONF))
    assert main(["run", "--exp", str(tmp_path / "exp"), "--conf", str(conf), "--set", f"data.{key}={value}"]) != 0
    error = capsys.readouterr().err
    assert f"data.{key}" in error
    assert value in error
    assert "Traceback" not in error
