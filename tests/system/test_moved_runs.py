"""A finished run gives the same scores wherever it, the program, the weights and the recordings lie, and to anybody."""

import builtins
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from moved_runs import RATE, SEED, WEIGHTS, Place, flip, hidden, make_former, read_scores, settings

import system
from system import files, stage
from system.bin import main
from system.config import load
from system.encoders import cards
from system.encoders.cards import OWN
from system.experiment import STAGES, Experiment
from system.files import LOCK, read_json, write_json
from system.pipeline import stages

ROOT = Path(system.__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Place:
    """Stages 0 to 6 of three kinds of branch on one machine; recordings and weights lie outside the experiment."""
    folder = tmp_path_factory.mktemp("made")
    generator = np.random.default_rng(SEED)
    for i in range(12):
        split, domain = ("train" if i < 8 else "test"), ("target" if i % 4 == 3 else "source")
        label = "anomaly" if i == 9 else "normal"
        path = folder / "data" / "Fan" / split / f"section_00_{domain}_{split}_{label}_{i:04d}_noAttribute.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, generator.normal(0, 0.1, (RATE // 2, 2)), RATE, subtype="PCM_16")
    (folder / "new" / "Fan").mkdir(parents=True)
    for i in range(2):
        soundfile.write(folder / "new" / "Fan" / f"{i}.wav", generator.normal(0, 0.1, (RATE // 2, 2)), RATE)
    shutil.copy(OWN / "default.safetensors", folder / "own.safetensors")
    conf = folder / "c.yaml"
    conf.write_text(yaml.safe_dump(settings(folder / "own.safetensors")))
    common = ["--exp", str(folder / "exp"), "--data", str(folder / "data"), "--conf", str(conf)]
    assert main(["run", *common, "--stop-stage", "6"]) == 0
    place = Place(folder, {})
    place.expected = place.scores()
    assert len(place.expected) == 2
    return place


@pytest.fixture
def place(made, tmp_path) -> Iterator[Place]:
    """A copy of the experiment without its times; recordings, new recordings and weights stay where they were."""
    shutil.copytree(made.exp, tmp_path / "exp", copy_function=shutil.copyfile)
    found = Place(made.folder, made.expected)
    found.exp = tmp_path / "exp"
    with hidden(made.exp):
        yield found


def test_copied_without_its_times(place):
    assert place.scores() == place.expected


def test_renamed(place):
    place.exp = place.exp.rename(place.exp.with_name("a new name, ü"))
    assert place.scores() == place.expected


def test_recordings_gone(place):
    with hidden(place.recordings):
        assert place.scores() == place.expected


def test_recordings_gone_the_run_still_goes_on(place, capsys):
    with hidden(place.recordings):
        assert main(["evaluate", "--exp", str(place.exp)]) == 0
        assert "stage 6 evaluate: complete, nothing to do" in capsys.readouterr().out
        assert main(["report", "--exp", str(place.exp)]) == 0
    assert (place.exp / "report.html").stat().st_size > 10_000


def test_relative_and_absolute_from_other_folders(place, monkeypatch):
    monkeypatch.chdir(place.exp.parent)
    assert place.scores(exp="exp") == place.scores(exp="./exp/../exp/") == place.expected
    monkeypatch.chdir(place.exp)
    assert place.scores(exp=".") == place.expected


def test_a_link_to_the_experiment(place):
    link = place.exp.with_name("link")
    link.symlink_to(place.exp)
    assert place.scores(exp=link) == place.expected


def test_a_stage_folder_on_another_disk(place, tmp_path):
    for name in ("embeddings", "adapt", "stages"):
        (place.exp / name).rename(tmp_path / f"disk {name}")
        (place.exp / name).symlink_to(tmp_path / f"disk {name}")
    assert place.scores() == place.expected


def test_the_configuration_written_again(place):
    path = place.exp / "config.yaml"
    conf = yaml.safe_load(path.read_text())
    path.write_text("# by hand\n" + yaml.safe_dump(dict(reversed(conf.items())), default_flow_style=True))
    assert place.scores() == place.expected


def test_of_what_changes_no_score(place):
    conf = yaml.safe_load((place.exp / "config.yaml").read_text())
    place.configure(threads=2, embed={"batch_size": 3}, data=conf["data"] | {"folder": "elsewhere"})
    assert place.scores() == place.expected


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "mps"])
def test_on_another_device(place, device):
    """No stage runs again where a run is moved to, the package's neither, whose record of earlier versions names it."""
    run = Experiment(place.exp, load(place.exp / "config.yaml"))
    stages.module("package").stage(run).run(list)
    record = place.exp / "stages" / "7_package.json"
    made = read_json(record)
    write_json(record, made | {"settings": made["settings"] | {"device": "cpu", "threads": 1}})
    moved = replace(run.config, device=device, threads=2, embed=replace(run.config.embed, batch_size=3))
    found = {name: stages.module(name).stage(replace(run, config=moved)).problem() for name in STAGES[:8]}
    assert set(found.values()) == {""}, found


@pytest.mark.parametrize("version", ["9.9.9", "0.0.9"])
def test_made_by_another_version(place, monkeypatch, caplog, version):
    monkeypatch.setattr(stage, "__version__", version)
    assert place.scores() == place.expected
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"made by {system.__version__}, this is {version}; same format" in line


def test_a_name_that_is_not_text(place):
    place.exp = place.exp.rename(os.fsdecode(os.fsencode(place.exp) + b" \xff\xe9"))
    assert place.scores() == place.expected
    assert main(["report", "--exp", str(place.exp)]) == 0
    assert main(["report", "--exp", str(place.exp)]) == 0
    json.loads((place.exp / "stages" / "9_report.json").read_text(encoding="utf-8"))


def test_without_what_archives_leave_out(place):
    for path in [*place.exp.rglob(".*"), *place.exp.rglob("*.html")]:
        path.unlink()
    for folder in sorted((path for path in place.exp.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    assert place.scores() == place.expected


@pytest.mark.parametrize("there", [True, False])
def test_weights_of_the_program_elsewhere_or_gone(place, tmp_path, monkeypatch, there):
    if there:
        shutil.copytree(OWN, tmp_path / "weights")
    monkeypatch.setattr(cards, "OWN", tmp_path / "weights")
    assert place.scores() == place.expected


def test_weights_are_a_link(place, tmp_path):
    (tmp_path / "link").symlink_to(place.weights)
    place.own_checkpoint(tmp_path / "link")
    assert place.scores() == place.expected


def test_of_the_former_format(place, capsys):
    make_former(place.exp, WEIGHTS)
    assert place.scores() == place.expected
    with hidden(place.recordings):
        assert main(["evaluate", "--exp", str(place.exp)]) == 0
        assert "stage 6 evaluate: complete, nothing to do" in capsys.readouterr().out
        assert main(["report", "--exp", str(place.exp)]) == 0


@pytest.mark.parametrize(
    "name", ["embeddings/net/index.csv", "scores/net.two_channel.csv", "adapt/own/adapter.safetensors"]
)
def test_what_is_noticed_in_the_former_format(place, capsys, name):
    make_former(place.exp, WEIGHTS)
    flip(place.exp / name)
    assert name in refused(place, capsys)


def test_an_input_of_the_former_format_made_again(place, capsys):
    """A stage that was done again after the one that reads it, whose own record is as it should be."""
    make_former(place.exp, WEIGHTS)
    path, marker = place.exp / "scores" / "net.two_channel.csv", place.exp / "stages" / "4_score.json"
    flip(path)
    record = read_json(marker)
    record["sha256"]["scores/net.two_channel.csv"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(marker, record)
    assert re.search(r"stage 5 fuse: .*\(inputs\)", refused(place, capsys))


def test_weights_moved_and_named_there(place, tmp_path):
    with hidden(place.weights):
        moved = shutil.copy(place.weights.with_name("own.safetensors away"), tmp_path / "w.safetensors")
        place.own_checkpoint(moved)
        assert place.scores() == place.expected


def test_weights_moved_to_the_downloaded_ones(place, capsys):
    downloaded = place.weights.parent / "checkpoints"
    downloaded.mkdir()
    away = place.weights.with_name("own.safetensors away")
    try:
        with hidden(place.weights):
            (downloaded / "other.safetensors").write_bytes(b"other")
            assert main(["score", "--exp", str(place.exp), str(place.news)]) == 1
            line = capsys.readouterr().err
            digest = read_json(place.exp / "stages" / "2_adapt.json")["given"]["branches.own.encoder"]["sha256"]
            assert line.count("\n") == 1
            assert all(text in line for text in (digest, str(place.weights), str(downloaded)))
            shutil.copy(away, downloaded / "under another name")
            assert place.scores() == place.expected
    finally:
        shutil.rmtree(downloaded)


def test_another_program_folder_user_and_home(place, tmp_path):
    """The program copied elsewhere, by a user who may write nowhere in the experiment."""
    program = tmp_path / "clone"
    for name in ("system", "submission"):
        shutil.copytree(ROOT / name, program / name, ignore=shutil.ignore_patterns("__pycache__"))
    (program / "system" / "__init__.py").write_text('"""Of a later day."""\n\n__version__ = "0.1.99"\n')
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o444)
    home = tmp_path / "home"
    home.mkdir()
    out = home / "scores.csv"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG"))},
        **{"HOME": str(home), "USER": "somebody", "LOGNAME": "somebody", "PYTHONDONTWRITEBYTECODE": "1"},
    }
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import system; assert system.__version__ == '0.1.99'\n"
        "from system.bin import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, program, "score", "--exp", place.exp, place.news, "--csv", out]
    ended = subprocess.run(
        list(map(str, command)), env=environment, cwd=home, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert f"made by {system.__version__}, this is 0.1.99" in ended.stderr
    assert read_scores(out) == place.expected


def refused(place: Place, capsys) -> str:
    capsys.readouterr()
    assert main(["score", "--exp", str(place.exp), str(place.news)]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def change_a_scorer(place):
    conf = yaml.safe_load((place.exp / "config.yaml").read_text())
    conf["branches"]["net"]["scorer"]["settings"] = {"k": 2}
    place.configure(branches=conf["branches"])


def change_the_checkpoint_to_none(place):
    place.own_checkpoint(Path(""))


def change_the_checkpoint_to_a_lost_one(place):
    place.own_checkpoint(Path("/nowhere/x.pt"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_a_scorer, "stage 4 score: .*scorers.net.settings"),
        (change_the_checkpoint_to_none, "stage 2 adapt: .*branches.own.encoder"),
        (change_the_checkpoint_to_a_lost_one, "stage 2 adapt: .*branches.own.encoder"),
        (lambda place: flip(place.exp / "embeddings/net/two_channel.npy"), "stage 3 embed: .*two_channel.npy"),
        (lambda place: flip(place.exp / "pretrain/encoder.safetensors"), "stage 1 pretrain: .*encoder.safetensors"),
        (lambda place: flip(place.exp / "adapt/own/adapter.safetensors"), "stage 2 adapt: .*adapter.safetensors"),
        (lambda place: flip(place.exp / "manifest.csv"), "stage 2 adapt: .*clips"),
        (lambda place: (place.exp / "scores/net.two_channel.csv").unlink(), "stage 4 score: .*net.two_channel.csv"),
        (lambda place: (place.exp / "stages/3_embed.json").write_text("{"), "stage 3 embed: .*it not finished"),
        (lambda place: (place.exp / "stages/3_embed.json").write_text("[]"), "stage 3 embed: .*it not finished"),
    ],
)
def test_what_is_noticed(place, capsys, change, said):
    change(place)
    assert re.search(said, refused(place, capsys))


def test_other_weights_at_the_same_place(place, capsys):
    before = place.weights.read_bytes()
    try:
        flip(place.weights)
        assert "stage 2 adapt" in refused(place, capsys)
    finally:
        place.weights.write_bytes(before)


def test_another_format(place, capsys):
    path = place.exp / "stages" / "3_embed.json"
    write_json(path, read_json(path) | {"format": stage.FORMAT + 1})
    said = f"results of format {stage.FORMAT + 1} of {system.__version__}; this program's is {stage.FORMAT}"
    assert said in refused(place, capsys)


@pytest.fixture
def sealed(place, monkeypatch) -> Place:
    """The experiment as on a disk that is read-only."""

    def guard(module, name: str, writes=lambda arguments: True) -> None:
        usual = getattr(module, name)

        def guarded(path, *arguments, **named):
            inside = isinstance(path, str | Path) and Path(os.path.abspath(path)).is_relative_to(place.exp)
            if inside and writes(arguments):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return usual(path, *arguments, **named)

        monkeypatch.setattr(module, name, guarded)

    assert main(["report", "--exp", str(place.exp)]) == 0
    (place.exp / LOCK).unlink()
    guard(builtins, "open", lambda arguments: bool(set("wax+") & set((arguments or ("r",))[0])))
    for name in ("mkdir", "unlink", "replace", "rename", "rmdir"):
        guard(os, name)
    usual = os.access

    def access(path, mode: int) -> bool:
        inside = Path(os.path.abspath(path)).is_relative_to(place.exp)
        return usual(path, mode) and not (inside and mode & os.W_OK)

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(files, "_is_read_only", lambda path: True)
    return place


def test_a_finished_run_on_a_read_only_disk(sealed, tmp_path, capsys, caplog):
    before = {path: path.stat().st_mtime_ns for path in sealed.exp.rglob("*")}
    assert sealed.scores() == sealed.expected
    for command in ("report", "evaluate", "fuse"):
        assert main([command, "--exp", str(sealed.exp)]) == 0
        assert "complete, nothing to do" in capsys.readouterr().out
    assert {record.getMessage() for record in caplog.records} == {
        f"note: {sealed.exp}: Read-only file system: nothing is written there"
    }
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    assert main(["report", "--exp", str(sealed.exp), "--out", str(page)]) == 0
    assert page.stat().st_size > 10_000
    assert main(["results", "--exp", str(sealed.exp), "--task", "t", "--out", str(table)]) == 0
    capsys.readouterr()
    for command in (["fuse", "--set", "false_positive_rate=0.3"], ["run"]):
        assert main([*command, "--exp", str(sealed.exp)]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "Read-only file system" in err
    assert {path: path.stat().st_mtime_ns for path in sealed.exp.rglob("*")} == before
