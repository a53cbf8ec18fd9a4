"""The main recipe from recordings to package, at toy size, its stages in this process; run.sh as a user calls it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from submission.validate import validate
from system import manifest, score_tables
from system.bin import main
from system.experiment import STAGES
from system.files import read_json

ROOT = Path(__file__).resolve().parent.parent
TOY = "recipes/dcase2026/conf/toy.yaml"
LABEL = "Wheeltapper_Demo_task2_1"
ZIP = "Wheeltapper_Demo_task2.zip"
COMMANDS = ["prepare", *STAGES[1:]]  # of the stages, by number
MARKERS = [f"{number}_{name}.json" for number, name in enumerate(STAGES)]


def environment() -> dict[str, str]:
    """run.sh in the environment of this Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "WHEELTAPPER_VENV": sys.prefix, "OMP_NUM_THREADS": "1"}


def run_recipe(exp: Path, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(ROOT / "run.sh"), "--conf", TOY, "--exp", str(exp), *options],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        cwd=ROOT,
    )


def stages(exp: Path, first: str, last: str, *overrides: str) -> list[int]:
    """Verbs in this process, which saves their start-up; exit statuses."""
    names = COMMANDS[COMMANDS.index(first) : COMMANDS.index(last) + 1]
    options = ["--exp", str(exp), "--conf", str(ROOT / TOY), *(f"--set={text}" for text in overrides)]
    return [main([name, *options]) for name in names]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    exp = tmp_path_factory.mktemp("recipe") / "exp"
    assert main(["run", "--exp", str(exp), "--conf", str(ROOT / TOY)]) == 0
    return exp


def clone(finished: Path, place: Path) -> Path:
    shutil.copytree(finished, place, copy_function=shutil.copy2)
    return place


def test_package_is_valid_and_complete(finished):
    assert [finding for finding in validate(finished / ZIP) if finding.level == "error"] == []
    assert [finding for finding in validate(finished / ZIP, finished / "data") if finding.level == "error"] == []
    with zipfile.ZipFile(finished / ZIP) as archive:
        names = archive.namelist()
    for k in range(1, 5):
        folder = f"task2/Wheeltapper_Demo_task2_{k}"
        assert f"{folder}/Wheeltapper_Demo_task2_{k}.meta.yaml" in names
        for machine in ("SimPump", "SimSlider"):
            assert f"{folder}/anomaly_score_{machine}_section_00_test.csv" in names
            assert f"{folder}/decision_result_{machine}_section_00_test.csv" in names


def test_what_the_weights_learned_from_is_declared(finished):
    with zipfile.ZipFile(finished / ZIP) as archive:
        text = archive.read("task2/Wheeltapper_Demo_task2_4/Wheeltapper_Demo_task2_4.meta.yaml")
    system = yaml.safe_load(text)["system"]
    assert [resource["name"] for resource in system["external_datasets"]] == [
        "ESC-10",
        "Drone-detection-dataset",
        "AudioSet, by way of EfficientAT's mn04",
    ]
    assert system["description"]["external_data_usage"] == "pre-training"
    assert system["description"]["development_data_usage"] == "pre-training, fine-tuning"


def test_results_of_every_stage_are_there(finished):
    assert sorted(path.name for path in (finished / "stages").glob("[0-9]*.json")) == sorted(MARKERS)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert set(metrics["per_machine"]) == {"SimFan", "SimGearbox", "SimValve"}
    assert 0.0 <= metrics["official_score"] <= 1.0
    assert set(metrics["systems"]) == {f"Wheeltapper_Demo_task2_{k}" for k in range(1, 5)}
    assert (finished / "report.html").stat().st_size > 10_000
    record = read_json(finished / "stages" / "3_embed.json")
    assert record["commit"] or not (ROOT / ".git").exists()
    assert record["versions"]["torch"]
    assert record["seconds"] > 0


def test_run_sh_finds_nothing_to_do(finished):
    """The one command of run.sh, in a process of its own."""
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    done = run_recipe(finished)
    assert done.returncode == 0
    assert done.stdout.count("complete, nothing to do") == len(MARKERS)
    changed = {p.name for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert changed <= {"config.yaml", ".lock"}


def test_systems_differ_as_the_report_says(finished):
    scores = {
        k: score_tables.read_rows(finished / "systems" / f"Wheeltapper_Demo_task2_{k}" / "references.csv")
        for k in range(1, 5)
    }
    assert len({tuple(row.score for row in rows) for rows in scores.values()}) == 4
    main_branch = score_tables.read_rows(finished / "scores" / "main.near_only.csv")
    # A single branch: the robust z of its own scores, so the order within a machine is the same.
    single = {(r.machine, r.file): r.score for r in scores[4]}
    raw = {(r.machine, r.file): r.score for r in main_branch if r.split == "train"}
    for machine in ("SimFan", "SimPump"):
        keys = [key for key in raw if key[0] == machine]
        np.testing.assert_array_equal(np.argsort([raw[k] for k in keys]), np.argsort([single[k] for k in keys]))


def test_scores_do_not_depend_on_names_order_or_company(finished, tmp_path, capsys):
    """Shuffled, renamed and thinned-out test clips of an evaluation machine keep their scores."""
    exp = tmp_path / "exp"
    data = tmp_path / "recordings"
    clone(finished, exp)
    shutil.copytree(finished / "data", data)
    (data / "truth.csv").unlink()
    folder = data / "SimPump" / "test"
    old = sorted(path.name for path in folder.iterdir())
    kept = {name: f"section_00_{number:04d}.wav" for number, name in zip((77, 3, 150), old[::-3][:3], strict=True)}
    content = {new: (folder / name).read_bytes() for name, new in kept.items()}
    for path in folder.iterdir():
        path.unlink()
    for new, sound in content.items():
        (folder / new).write_bytes(sound)
    options = ["--exp", str(exp), "--conf", str(ROOT / TOY)]
    assert main(["prepare", *options, "--data", str(data)]) == 0
    assert stages(exp, "pretrain", "fuse") == [0] * 5
    told = capsys.readouterr().out
    # What was learned does not depend on the test clips either.
    assert "stage 1 pretrain: complete, nothing to do" in told
    assert "stage 2 adapt: complete, nothing to do" in told
    for view in ("near_only", "two_channel"):
        before = {
            r.file: r.score
            for r in score_tables.read_rows(finished / "scores" / f"main.{view}.csv")
            if r.machine == "SimPump"
        }
        after = {
            r.file: r.score
            for r in score_tables.read_rows(exp / "scores" / f"main.{view}.csv")
            if r.machine == "SimPump"
        }
        for name, new in kept.items():
            # Embeddings are equal to the bit; the matrix product of the distances rounds with its size.
            assert after[new] == pytest.approx(before[name], rel=1e-12)
    index = [tuple(line.split(",")) for line in (exp / "embeddings/main/index.csv").read_text().splitlines()[1:]]
    former = [tuple(line.split(",")) for line in (finished / "embeddings/main/index.csv").read_text().splitlines()[1:]]
    now, then = (np.load(place / "embeddings/main/two_channel.npy") for place in (exp, finished))
    for name, new in kept.items():
        row, before = index.index(("SimPump", "00", "test", new)), former.index(("SimPump", "00", "test", name))
        np.testing.assert_array_equal(now[row], then[before])


def test_a_later_stage_is_refused_other_settings_than_the_earlier_ones_had(finished, capsys):
    before = (finished / "config.yaml").read_text()
    assert main(["run", "--exp", str(finished), "--stage", "5", "--set", "seed=9"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--stage 5: expected stage 1 pretrain complete with these settings, found other settings" in line
    assert line.endswith("start with --stage 1")
    assert (finished / "config.yaml").read_text() == before


def test_changed_weights_run_from_fusion_on(finished, tmp_path, capsys):
    exp = clone(finished, tmp_path / "exp")
    conf = tmp_path / "weights.yaml"
    systems = "[{name: even, abbreviation: even, view: two_channel, weights: {main: 0.5, aux: 0.5}}]"
    conf.write_text(f"base: {ROOT / TOY}\nsystems: {systems}\n")
    options = ["--exp", str(exp), "--conf", str(conf)]
    assert [main([verb, *options]) for verb in COMMANDS[1:6]] == [0] * 5
    told = capsys.readouterr().out
    for name in ("1 pretrain", "2 adapt", "3 embed"):
        assert f"stage {name}: complete, nothing to do" in told
    assert "stage 5 fuse: wrote" in told
    # Systems that are no longer configured are gone.
    assert [path.name for path in (exp / "systems").iterdir()] == [LABEL]


def test_lost_or_changed_files_are_noticed(finished, tmp_path, capsys):
    exp = clone(finished, tmp_path / "exp")
    (exp / "scores" / "aux.two_channel.csv").unlink()
    assert stages(exp, "score", "score") == [0]
    assert "stage 4 score: wrote" in capsys.readouterr().out
    assert (exp / "scores/aux.two_channel.csv").read_bytes() == (finished / "scores/aux.two_channel.csv").read_bytes()
    wav = next((exp / "data" / "SimFan" / "train").iterdir())
    wave, rate = soundfile.read(wav)
    soundfile.write(wav, wave * 0.5, rate)
    assert main(["prepare", "--exp", str(exp), "--conf", str(ROOT / TOY)]) == 0
    assert "complete, nothing to do" not in capsys.readouterr().out
    assert (exp / "manifest.csv").read_bytes() == (finished / "manifest.csv").read_bytes()


def test_own_folder_of_labelled_mono_recordings(finished, tmp_path, capsys):
    """Any folder in DCASE layout: mono, another length, development machines only: a rehearsal package."""
    data, exp = tmp_path / "own", tmp_path / "exp"
    for clip in manifest.read(finished / "manifest.csv"):
        if clip.machine in ("SimFan", "SimValve") and clip.split in ("train", "test"):
            wave, rate = soundfile.read(clip.path)
            path = data / clip.machine.replace("Sim", "My") / clip.split / clip.file
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, wave[: int(0.8 * rate), 0], rate)
    options = ["--exp", str(exp), "--conf", str(ROOT / TOY)]
    assert main(["prepare", *options, "--data", str(data)]) == 0
    assert stages(exp, "pretrain", "package") == [0] * 7
    told = "task2_1 and Wheeltapper_Demo_task2_2 coincide: they give every clip the same score, since the recordings"
    assert told in capsys.readouterr().out
    findings = validate(exp / ZIP, data)
    assert [f for f in findings if f.level == "error"] == []
    assert any("expected systems that differ, found the scores of Wheeltapper_Demo_task2_1" in str(f) for f in findings)
    assert set(json.loads((exp / "metrics.json").read_text())["per_machine"]) == {"MyFan", "MyValve"}
    # One channel stands for both: the gate has nothing to choose from.
    near, both = (np.load(exp / "embeddings/main" / f"{view}.npy") for view in ("near_only", "two_channel"))
    np.testing.assert_allclose(near, both, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["embed", "--audio", "missing.wav", "--out", "x.npz"],
            "missing.wav: expected a sound file, a folder or a manifest",
        ),
        (["prepare", "missing", "--out", "m.csv"], "missing"),
        (["pretrain", "--exp", "e", "--conf", "missing.yaml"], "missing.yaml: expected a configuration, found nothing"),
        (["pretrain", "--exp", "e", "--conf", "wrong.yaml"], "unknown key pretrian: did you mean pretrain?"),
        (["pretrain", "--exp", "e", "--conf", "right.yaml"], "manifest.csv: expected a manifest"),
        (["prepare", "--exp", "e", "--conf", "right.yaml", "--data", "nowhere"], "--data nowhere"),
        (["embed", "--audio", ".", "--out", "x.npz", "--encoder", "fisher-huge", "--checkpoint", "random"], "huge"),
        (["embed", "--audio", ".", "--out", "x.npz", "--encoder", "fisher-tiny", "--checkpoint", "bad.pt"], "bad.pt: "),
        (["validate", "bad.zip"], "bad.zip"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(arguments, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text("pretrian: {}\n")
    (tmp_path / "right.yaml").write_text(f"base: {ROOT / TOY}\n")
    (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
    (tmp_path / "bad.zip").write_bytes(b"PK not a zip")
    soundfile.write(tmp_path / "a.wav", np.zeros(1600) + 0.1, 16000)
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert expected in told.err + told.out
    assert "Traceback" not in told.err
    assert not list(tmp_path.glob("*.npz"))
    assert not (tmp_path / "m.csv").exists()
