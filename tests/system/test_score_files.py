"""``wheeltapper score`` with files: new recordings get the scores of the run, whatever their names."""

import csv
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import yaml

from system import config, manifest
from system.bin import main
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.pipeline.verdicts import group_of

RATE = 8000
ROOT = Path(__file__).resolve().parents[2]
NETWORK = {"crop_seconds": 0.5, "loop": {"steps": 2, "batch_size": 2, "warmup_steps": 1}, "embedding_dim": 8}
AUTOENCODER = {"hidden": [8], "bottleneck": 2, "epochs": 1, "batch": 64}
CONF = {
    "data": {"rate": RATE},
    "encoder": {"family": "fisher", "size": "nano"},
    "pretrain": {"loop": {"steps": 0}},
    "branches": {
        "net": NETWORK | {"scorer": {"name": "mahalanobis", "settings": {"bank": "domain", "standardize": True}}},
        "tokens": {"shares": "net", "readout": "rdp", "scorer": {"name": "beam"}},
        "low": {"inputs": ["residual", "far"], "subtraction": {"n_fft": 256}, "spectrum": {"merge": 32},
                "scorer": {"name": "conditional_mahalanobis"}},
        "near": {"inputs": ["near"], "spectrum": {"statistic": "quantile", "merge": 16}, "scorer": {"name": "ldn"}},
        "again": {"shares": "near", "scorer": {"name": "knn", "settings": {"k": 1}}},
        "auto": {"autoencoder": AUTOENCODER | {"score": "residual", "folds": 2}, "scorer": {"name": "knn"}},
        "official": {"autoencoder": AUTOENCODER, "scorer": {"name": "precomputed"}},
    },
    "systems": [
        {"view": "two_channel", "weights": {"net": 3, "tokens": 2, "low": 1, "near": 1, "again": 1, "auto": 1}},
        {"view": "near_only", "weights": {"net": 1, "low": 1, "again": 1}, "fusion": "minimum"},
        {"view": "near_only", "weights": {"official": 1}, "threshold": "batches"},
        {"view": "two_channel", "weights": {"near": 1}},
    ],
}  # fmt: skip


def sound(seed: int, seconds: float = 1.0, channels: int = 2, rate: int = RATE) -> np.ndarray:
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.2 * np.sin(2 * np.pi * (300 + 40 * (seed % 7)) * time)
    return tone[:, None] * generator.uniform(0.3, 1, channels) + generator.normal(0, 0.03, (len(time), channels))


def put(path: Path, wave: np.ndarray) -> None:
    """Writes samples (samples, channels) as floats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE, subtype="FLOAT")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Experiment:
    """Stages 0 to 5 of every kind of branch, on two machines, one of two sections."""
    place = tmp_path_factory.mktemp("run")
    for number, (machine, section) in enumerate((("Fan", "00"), ("Fan", "01"), ("Pump 2", "00"))):
        for i in range(12):
            split = "train" if i < 8 else "test"
            domain, label = ("target" if i % 4 == 3 else "source"), ("anomaly" if i in (9, 11) else "normal")
            path = (
                place / "data" / machine / split / f"section_{section}_{domain}_{split}_{label}_{i:04d}_noAttribute.wav"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, sound(20 * number + i), RATE, subtype="PCM_16")
    conf = place / "c.yaml"
    conf.write_text(yaml.safe_dump(CONF))
    exp = place / "exp"
    assert (
        main(["run", "--exp", str(exp), "--conf", str(conf), "--data", str(place / "data"), "--stop-stage", "5"]) == 0
    )
    return Experiment(exp, config.load(conf))


def score(run: Experiment, *options) -> int:
    return main(["score", "--exp", str(run.folder), *map(str, options)])


def rows_of(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def copies(run, tmp_path_factory) -> dict[Path, manifest.Clip]:
    """The run's test clips under anonymous names, in a folder per machine."""
    place, found = tmp_path_factory.mktemp("copies"), {}
    for number, clip in enumerate(clip for clip in manifest.read(run.manifest) if clip.split == "test"):
        path = place / clip.section / clip.machine / f"ü n°{number * 7919 % 101}, x.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip.path, path)
        found[path] = clip
    return found


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_run_would_have_said_the_same(run, copies, tmp_path, number):
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    out, folder, label = tmp_path / "o.csv", next(iter(copies)).parents[2], run.labels[number - 1]
    judged = {}
    for section in ("00", "01"):
        options = ("--machine", "Fan", "--section", "01") if section == "01" else ()
        assert score(run, folder / section, "--system", number, "--csv", out, *options) == 0
        judged |= {Path(row["file"]): row for row in rows_of(out)}
    assert judged.keys() == copies.keys()
    for path, clip in copies.items():
        row = judged[path]
        assert (row["machine"], row["section"]) == (clip.machine, clip.section)
        named = f"{clip.machine}_section_{clip.section}"
        expected = {
            kind: dict(csv.reader((run.system(label) / f"{kind}_{named}_test.csv").open()))[clip.file]
            for kind in ("anomaly_score", "decision_result")
        }
        assert float(row["score"]) == pytest.approx(float(expected["anomaly_score"]), rel=1e-4, abs=1e-6)
        assert row["decision"] == ("ANOMALY" if expected["decision_result"] == "1" else "normal")
        assert float(row["threshold"]) == json.loads((run.system(label) / "thresholds.json").read_text())[named]
        normal = [float(r["score"]) for r in rows_of(run.system(label) / "references.csv")
                  if (r["machine"], r["section"]) == (clip.machine, clip.section)]  # fmt: skip
        spread = 1.4826 * np.median(np.abs(normal - np.median(normal)))
        assert float(row["deviations"]) == pytest.approx((float(row["score"]) - np.median(normal)) / spread, rel=1e-3)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_any_recording_is_scored_and_bad_ones_are_named(run, tmp_path, capsys):
    place = tmp_path / "Fan"
    place.mkdir()
    soundfile.write(place / "mono 44.1.flac", sound(1, 1.5, 1, 44100), 44100)
    soundfile.write(place / "six.wav", sound(2, 0.7, 6, 11025), 11025, subtype="FLOAT")
    soundfile.write(place / "low.wav", sound(4, 1.0, 2, 4000), 4000)
    soundfile.write(place / "zeros.wav", np.zeros((RATE, 2)), RATE)
    soundfile.write(place / "good.wav", sound(3), RATE)
    whole = (place / "good.wav").read_bytes()
    (place / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (place / "text.wav").write_text("no sound")
    (place / "empty.wav").touch()
    soundfile.write(place / "nan.wav", np.full((RATE, 2), np.nan), RATE, subtype="FLOAT")
    soundfile.write(place / "none.wav", np.zeros((0, 2)), RATE)
    (place / "notes.txt").write_text("passed over")
    out = tmp_path / "o.json"
    assert score(run, place, place / "missing.wav", "--section", "01", "--json", out, "--csv", tmp_path / "o.csv") == 1
    found = {Path(row["file"]).name: row for row in json.loads(out.read_text())["recordings"]}
    good = {name for name, row in found.items() if not row["error"]}
    unusable = {"mono 44.1.flac", "six.wav", "zeros.wav"}
    assert good == {*unusable, "low.wav", "good.wav"}
    assert {name for name in good if found[name]["score"] is None} == unusable
    assert all(found[name]["section"] == "01" for name in good)
    told = capsys.readouterr()
    for name in ("cut.wav", "text.wav", "empty.wav", "nan.wav", "none.wav", "missing.wav"):
        assert found[name]["score"] is None
        assert sum(f"{name}: " in line for line in told.err.splitlines()) == 1
    doubts = {
        "zeros.wav": "silent (all samples are zero)",
        "mono 44.1.flac": "1 channel, the references have 2; 44100 Hz, the references have 8000 Hz: just below 4000 "
        "Hz, the filter of the lower rate may have weakened the sound",
        "low.wav": "4000 Hz, the references have 8000 Hz: no sound between 2000 and 4000 Hz, where they have some",
        "six.wav": "6 channels, the references have 2; 11025 Hz, the references have 8000 Hz: just below 4000 Hz, the "
        "filter of the lower rate may have weakened the sound",
    }
    assert {name: found[name]["remark"] for name in good if found[name]["remark"]} == doubts
    for name, remark in doubts.items():
        meaning = "unusable" if name in unusable else "scores that may mean little"
        assert f"note: Fan: {meaning}, {place / name}: {remark}\n" in told.err
    assert "5 recordings, 1 anomalous, 3 unusable, 6 not scored\n" in told.err
    assert len(told.out.splitlines()) == 1 + len(good)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Fan", "o.csv", "o.json"]
    assert {row["file"]: row["error"] for row in rows_of(tmp_path / "o.csv")} == {
        row["file"]: row["error"] for row in found.values()
    }


def test_the_kind_of_file_and_its_rate_do_not_decide(run, tmp_path):
    """Six times the rate by zeros above the spectrum, and other kinds of files, give the same deviations."""
    place = tmp_path / "Pump 2"
    place.mkdir()
    for number in range(4):
        wave = sound(100 + number)
        there = scipy.signal.resample(np.concatenate([wave, np.zeros_like(wave)]), 12 * RATE)[: 6 * RATE]
        for kind, samples, rate in (("wav", wave, RATE), ("48.wav", there, 6 * RATE)):
            soundfile.write(place / f"{number}.{kind}", samples, rate, subtype="FLOAT")
        for kind in ("aiff", "au", "caf", "w64", "rf64"):
            soundfile.write(place / f"{number}.{kind}", wave, RATE, subtype="FLOAT", format=kind.upper())
        pipe = bytearray((place / f"{number}.wav").read_bytes())
        pipe[4:8] = pipe[pipe.index(b"data") + 4 : pipe.index(b"data") + 8] = b"\xff\xff\xff\x7f"
        (place / f"{number}.pipe.wav").write_bytes(pipe[: pipe.index(b"data") + 8] + wave.astype("<f4").tobytes())
    assert score(run, place, "--system", "1", "--csv", tmp_path / "o.csv") == 0
    rows = {Path(row["file"]).name: row for row in rows_of(tmp_path / "o.csv")}
    assert len(rows) == 4 * 8
    for name, row in rows.items():
        expected = rows[f"{name.split('.')[0]}.wav"]
        assert float(row["deviations"]) == pytest.approx(float(expected["deviations"]), abs=0.02)
        assert row["decision"] == expected["decision"]
        remark = {"pipe.wav": "the header does not say", "48.wav": f"{6 * RATE} Hz, the references have {RATE} Hz: "}
        assert row["remark"].startswith(remark.get(name.split(".", 1)[1], ""))
        assert bool(row["remark"]) == (name.split(".", 1)[1] in remark)


@pytest.mark.parametrize(
    ("samples", "status", "text"),
    [
        (1, 4, "0.125 ms long, the references last 1 s"),
        (100, 4, "12.5 ms long, the references last 1 s"),
        (1000, 0, "0.125 s, compared in windows of 1 s"),
    ],
)
def test_short_recordings_end_in_a_score_or_are_unusable(run, tmp_path, samples, status, text, capsys):
    path = tmp_path / "Pump 2" / "s.wav"
    path.parent.mkdir()
    soundfile.write(path, sound(1)[:samples], RATE)
    for number in (1, 4):
        assert score(run, path, "--system", number) == status
        assert f"s.wav: {text}" in capsys.readouterr().err


def held(wave: np.ndarray, *spans: tuple[int, int], value: float = 0.0) -> np.ndarray:
    wave = wave.copy()
    for start, stop in spans:
        wave[start:stop] = value
    return wave


def one_channel(wave: np.ndarray, value: float) -> np.ndarray:
    return np.column_stack([wave[:, 0], np.full(len(wave), value)])


BROKEN = {
    "zero": (lambda x: 0 * x, "silent (all samples are zero)"),
    "constant": (lambda x: 0 * x + 0.25, "constant (all samples are 0.25)"),
    "far dead": (lambda x: one_channel(x, 0), "channel 2 is dead (all samples are zero)"),
    "clipped": (lambda x: np.clip(x, -0.1, 0.1), "% of the samples at 10 % of full scale"),
    "overdriven": (lambda x: np.clip(60 * x, -1, 1), "% of the samples at full scale"),
    "offset": (lambda x: x + 0.4, "DC offset of 40 % of full scale"),
    "dropouts": (lambda x: held(x, (1000, 1400), (3000, 3800), (6000, 6300)), "188 ms of dropouts in 3 places"),
    "late": (lambda x: held(x, (0, 2000)), "250 ms without signal at the beginning"),
    "early": (lambda x: held(x, (5000, 8000)), "375 ms without signal at the end"),
    "moment": (lambda x: x[:400], "50 ms long, the references last 1 s"),
    "mono": (lambda x: x[:, :1], "1 channel, the references have 2"),
    "three": (lambda x: x[:, [0, 1, 1]], "3 channels, the references have 2"),
}
BROKEN_BESIDE_REFERENCES = {
    "doubled": (lambda x: x[:, [0, 0]], "channels 1 and 2 hold the same sound"),
    "inverse": (lambda x: x[:, [0, 0]] * [1, -1], "channels 1 and 2 hold the same sound"),
    "quiet": (lambda x: x / 100, "dB quieter than the quietest reference: machine off or gain changed"),
    "loud": (lambda x: 100 * x, "dB louder than the loudest reference: gain changed"),
}
LIVING = {
    "as ever": lambda x: x,
    "8 dB quieter": lambda x: 0.4 * x,
    "8 dB louder": lambda x: 2.5 * x,
    "inverted": lambda x: -x,
    "bang": lambda x: x + 0.8 * np.sin(np.arange(len(x)) ** 1.5)[:, None] * np.exp(-np.arange(len(x)) / 300)[:, None],
    "rubbing": lambda x: x + np.random.default_rng(1).normal(0, 0.2, x.shape),
}


@pytest.mark.parametrize("health", ["table", "recordings", "none"])
def test_a_broken_sensor_is_unusable_not_an_anomaly(run, tmp_path, capsys, health):
    """With the table of stage 0, without one as in runs made before, and where the references are gone too."""
    exp, folder = run.folder, tmp_path / "Pump 2"
    if health != "table":
        exp = Path(shutil.copytree(exp, tmp_path / "exp", copy_function=shutil.copy2))
        (exp / "health.csv").unlink()
    broken = BROKEN if health == "none" else BROKEN | BROKEN_BESIDE_REFERENCES
    for name, change in ({name: change for name, (change, _) in broken.items()} | LIVING).items():
        put(folder / f"{name}.wav", change(sound(43)))
    out = tmp_path / "o.csv"
    data = run.folder.parent / "data"
    place = data.rename(data.with_name("away")) if health == "none" else data
    try:
        options = ["--csv", str(out), "--json", str(tmp_path / "o.json")]
        assert main(["score", "--exp", str(exp), str(folder), *options]) == 4
    finally:
        place.rename(data)
    rows = {Path(row["file"]).stem: row for row in rows_of(out)}
    for name, (_, text) in broken.items():
        row = rows[name]
        assert (row["status"], row["decision"], row["score"], row["deviations"]) == ("UNUSABLE", "UNUSABLE", "", "")
        assert text in row["remark"]
    for name in LIVING:
        assert rows[name]["status"] == "judged", rows[name]["remark"]
        assert np.isfinite(float(rows[name]["score"]))
    assert f"{len(rows)} recordings" in (told := capsys.readouterr().err)
    assert f", {len(broken)} unusable\n" in told
    for row in json.loads((tmp_path / "o.json").read_text())["recordings"]:
        assert (row["score"] is None) == (row["status"] == "UNUSABLE") == (Path(row["file"]).stem in broken)


def test_whose_recording_it_is():
    groups = [("Fan", "00"), ("Pump", "02"), ("Pump", "04"), ("Saw", "07")]
    for path, options, expected in (
        ("x/Fan/test/a.wav", {}, ("Fan", "00")),
        ("Fan/Saw/a.wav", {}, ("Saw", "07")),
        ("x/a.wav", {"machine": "Fan"}, ("Fan", "00")),
        ("Pump/section_04_0001.wav", {}, ("Pump", "04")),
        ("Pump/a.wav", {"section": "02"}, ("Pump", "02")),
        ("Fan/a.wav", {"machine": "Pump", "section": "04"}, ("Pump", "04")),
        ("Fan/section_09_0001.wav", {}, ("Fan", "00")),
    ):
        assert group_of(Path(path), groups, **options) == expected
    assert group_of(Path("anywhere/a.wav"), groups[:1]) == ("Fan", "00")
    for form in ("NFC", "NFD"):  # Macs store the second form
        own = unicodedata.normalize(form, "Lüfter")
        for other in (unicodedata.normalize(each, "Lüfter") for each in ("NFC", "NFD")):
            assert group_of(Path(f"{other}/a.wav"), [*groups, (own, "00")]) == (own, "00")
            assert group_of(Path("Fan/a.wav"), [*groups, (own, "00")], machine=other) == (own, "00")
    for path, options, message in (
        ("x/a.wav", {}, r"x/a.wav: expected --machine, .* one of Fan, Pump, Saw"),
        ("x/a.wav", {"machine": "fan"}, "--machine: expected one of Fan, Pump, Saw, found 'fan'"),
        ("Pump/a.wav", {}, "Pump: expected --section, one of 02, 04, found '00'"),
        ("Fan/a.wav", {"section": "03"}, "Fan: expected --section, one of 00, found '03'"),
    ):
        with pytest.raises(WheeltapperError, match=message):
            group_of(Path(path), groups, **options)


def test_a_run_that_is_not_finished_or_not_as_configured(run, copies, tmp_path, capsys):
    def refused(folder: Path, *options: str) -> str:
        assert main(["score", "--exp", str(folder), str(next(iter(copies))), *options]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        return told.err

    assert "expected the folder of a finished run, found no config.yaml" in refused(tmp_path)
    assert "--system: expected 1 to 4, found 5" in refused(run.folder, "--system", "5")
    assert "--conf, --set: expected none with files" in refused(run.folder, "--set", "seed=1")
    exp = Path(shutil.copytree(run.folder, tmp_path / "exp", copy_function=shutil.copy2))
    shutil.copytree(run.folder.parent / "data", tmp_path / "data", copy_function=shutil.copy2)
    settings = yaml.safe_load((exp / "config.yaml").read_text())
    settings["branches"]["again"]["scorer"]["settings"]["k"] = 2
    (exp / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    assert "stage 4 score: expected it complete, found other settings" in refused(exp)
    shutil.copy2(run.folder / "config.yaml", exp / "config.yaml")
    (exp / "stages" / "3_embed.json").unlink()
    assert "stage 3 embed: expected it complete, found it not finished" in refused(exp)


def test_nothing_heavy_is_imported(run, copies):
    """Importing libraries that only training needs would double the time for one recording."""
    code = (
        "import sys; from system.bin import main; status = main(sys.argv[1:]); "
        "print([m for m in ('peft', 'accelerate', 'transformers', 'torchaudio', 'sklearn', 'scipy', 'pandas', "
        "'torch._dynamo', 'sympy') if m in sys.modules]); sys.exit(status)"
    )
    path = next(path for path, clip in copies.items() if clip.machine == "Pump 2")
    command = [sys.executable, "-c", code, "score", "--exp", str(run.folder), str(path), "--system", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
