"""What is said before a run begins: all that can be known then, at once, and nothing is written."""

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
import yaml

from system import manifest, plugins
from system.bin import main
from system.config import load, save
from system.corpora import source
from system.corpora.challenge import load_year
from system.corpora.download import space
from system.corpora.unzip import marker_of
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import lock
from system.manifest import Clip
from system.pipeline import disk, preflight, requirements

ROOT = Path(__file__).resolve().parents[3]
TOY = ROOT / "recipes" / "dcase2026" / "conf" / "toy.yaml"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder to start from, which the tests look at afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(plugins.PLUGINS, raising=False)
    return tmp_path


def run(capsys, *options: str, conf: Path = TOY) -> tuple[int, list[str]]:
    """Exit status and lines on standard error of a run that is refused before it writes anything."""
    before = sorted(Path().rglob("*"))
    status = main(["run", "--exp", "exp", "--conf", str(conf), *options])
    assert sorted(Path().rglob("*")) == before
    return status, capsys.readouterr().err.splitlines()


def plan(first: int, last: int, exp="exp", data="synthetic", conf: Path | None = TOY, **overrides) -> preflight.Plan:
    given = [f"{key}={value}" for key, value in overrides.items()]
    return preflight.Plan(Path(exp), conf, given, data, range(first, last + 1))


def findings(asked: preflight.Plan) -> list[str]:
    with pytest.raises(WheeltapperError) as caught:
        preflight.check(asked)
    return caught.value.problems


def test_where_all_is_well_nothing_is_said_or_written(place):
    assert preflight.check(plan(0, 9)) == []
    assert list(place.iterdir()) == []


def test_torch_is_not_loaded_for_the_cpu(place):
    code = (
        "import sys; from pathlib import Path; from system.pipeline import preflight\n"
        f"preflight.check(preflight.Plan(Path('exp'), Path({str(TOY)!r}), [], 'synthetic', range(10)))\n"
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_everything_is_said_at_once(place, monkeypatch, capsys):
    monkeypatch.setenv(plugins.PLUGINS, "no_such_module")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    conf = place / "conf.yaml"
    own = {"encoder": {"family": "beats", "size": "base", "checkpoint": "gone.pt"}}
    conf.write_text(yaml.safe_dump({"base": str(TOY), "device": "cuda", "branches": {"aux": own}}))
    status, lines = run(capsys, "--data", "synthetik", conf=conf)
    assert status == 1
    assert lines[0] == "wheeltapper run: exp: 4 problems:"
    for text in (
        f"{plugins.PLUGINS}: no_such_module: expected a module on PYTHONPATH",
        "device: expected a CUDA device for cuda, torch finds none",
        "branches.aux.encoder: gone.pt: expected a file or a name that download-checkpoint --list shows, found neither",
        "--data synthetik: expected synthetic, dcase<year>, a folder or a manifest.csv, found no such folder; did you "
        "mean synthetic?",
    ):
        assert sum(text in line for line in lines[1:]) == 1, text


def test_what_is_wrong_with_a_configuration_hides_nothing_else(place, capsys):
    mistakes = ["sead=1", "package.surname=Müller", "branches.main.scorer.settings.bnak=domain", "device=gpu"]
    mistakes += ["systems.0.weights.nobody=1", "branches.main.encoder.checkpoint=gone.pt", "systems=3"]
    status, lines = run(capsys, "--data", "nowhere", *(f"--set={mistake}" for mistake in mistakes))
    assert status == 1
    assert lines[0] == "wheeltapper run: exp: 7 problems:"
    for text in (
        "unknown key sead: did you mean seed?",
        "write Mueller",
        "the scorer mahalanobis has no such setting: did you mean bank?",
        "device: expected one of auto, cuda, mps, cpu, found 'gpu'",
        "systems: expected a list",
        "branches.main.encoder: gone.pt: expected a file or a name that download-checkpoint --list shows",
        "--data nowhere: expected",
    ):
        assert sum(text in line for line in lines[1:]) == 1, text


def test_without_a_configuration_the_rest_is_looked_at(place, monkeypatch, capsys):
    monkeypatch.setenv(plugins.PLUGINS, "no_such_module")
    Path("exp").write_text("a file")
    status, lines = run(capsys, "--data", "nowhere", conf=Path("no.yaml"))
    assert status == 1
    assert len(lines) == 5
    for text in (
        "no.yaml: expected",
        "no_such_module",
        "--data nowhere: expected",
        "exp: expected a folder to write to",
    ):
        assert any(text in line for line in lines[1:]), text


def test_a_mistyped_folder_is_not_made(place, capsys):
    assert main(["run", "--exp", "mistyped", "--stage", "3"]) == 1
    said = "mistyped/config.yaml: expected a configuration, found nothing; --conf FILE names one for a new run"
    assert said in capsys.readouterr().err
    assert list(place.iterdir()) == []
    save("exp/mine/config.yaml", load(TOY))
    assert main(["run", "--exp", "exp/mien", "--stage", "3"]) == 1
    assert "found nothing; did you mean exp/mine?" in capsys.readouterr().err
    assert not Path("exp/mien").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("Synthetic", "found no such folder; did you mean synthetic?"),
        (
            "dcase2062",
            "--data dcase2062: expected one of dcase2020, dcase2021, dcase2022, dcase2023, dcase2024",
        ),
        ("dcase2o26", "did you mean dcase2026?"),
        (
            "dcase2021",
            "give one of them as --data, data/dcase2021/dev or data/dcase2021/eval; download them with wheeltapper",
        ),
        ("gone.csv", "gone.csv: expected a CSV that lists sound files, found nothing"),
        ("table.csv", "table.csv: a.wav: expected a sound file, found nothing (line 2)"),
        ("notes.txt", "notes.txt: expected a header such as file,machine,split,label,domain, found an empty file"),
        ("notes.md", "--data notes.md: expected synthetic, dcase<year>, a folder or a manifest.csv, found a file"),
        ("empty", "empty: expected a folder of <machine>/{train,test}/*.wav, found no machine"),
        (
            "flat",
            "flat: expected a folder of <machine>/{train,test}/*.wav, found no machine; machines lie one level",
        ),
        ("names", "names/fan/train/a.wav: 'a.wav': expected a DCASE file name"),
        ("tests", "tests/fan: expected at least 2 normal training clips in train/, found none"),
        ("few", "few/fan: section 01: expected at least 2 normal training clips, found 1"),
    ],
)
def test_what_data_names_is_looked_at(place, capsys, data, said):
    (place / "table.csv").write_text("file,label,machine\na.wav,normal,table\n")
    (place / "notes.txt").write_text("")
    (place / "notes.md").write_text("")
    for folder in ("empty", "flat/below/fan/train", "names/fan/train", "tests/fan/test"):
        (place / folder).mkdir(parents=True)
    (place / "names/fan/train/a.wav").write_text("never opened")
    (place / "tests/fan/test/section_00_0000.wav").write_text("never opened")
    (place / "few/fan/train").mkdir(parents=True)
    for number in range(3):
        name = f"section_0{number // 2}_source_train_normal_000{number}_noAttribute.wav"
        (place / "few/fan/train" / name).write_text("never opened")
    status, lines = run(capsys, "--data", data)
    assert status == 1
    assert any(said in line for line in lines), lines


def test_data_counts_for_stage_0_alone(place):
    assert findings(plan(1, 2, data="nowhere")) == [
        "--stage 1: expected what stage 0 data writes, found no exp/manifest.csv; start with --stage 0"
    ]


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (None, ""),
        ("{", ""),
        ("[]", ""),
        ('{"settings": {"data": "synthetic"}}', "synthetic"),
        ('{"settings": {"data": "PLACE/recordings"}}', "PLACE/recordings"),
        ('{"settings": {"data": "PLACE/data/dcase2026"}}', "dcase2026"),  # downloads know what is missing
        ('{"settings": {"data": "PLACE/else/dcase2026"}}', "PLACE/else/dcase2026"),
    ],
)
def test_a_run_remembers_its_recordings(place, recorded, expected):
    if recorded is not None:
        (place / "exp/stages").mkdir(parents=True)
        (place / "exp/stages/0_data.json").write_text(recorded.replace("PLACE", str(place)))
    assert source.remembered(Path("exp"), Path("data")) == expected.replace("PLACE", str(place))


def test_recordings_that_a_run_remembers_are_looked_at(place):
    (place / "exp/stages").mkdir(parents=True)
    (place / "exp/stages/0_data.json").write_text(json.dumps({"settings": {"data": str(place / "gone")}}))
    assert findings(plan(0, 0, data=""))[0].startswith(f"--data {place / 'gone'}: expected synthetic, dcase<year>")


def test_folders_and_manifests_that_are_well(place):
    (place / "good/fan/train").mkdir(parents=True)
    for number in range(2):
        name = f"section_00_source_train_normal_{number:04d}_noAttribute.wav"
        (place / "good/fan/train" / name).write_text("never opened")
    for name in "01ab":
        (place / f"{name}.wav").write_text("never opened")
    clips = [Clip("c", "fan", "00", "train", f"{n}.wav", f"{n}.wav", channels=1, rate=1, samples=1) for n in range(2)]
    manifest.write(place / "m.csv", clips)
    (place / "t.tsv").write_text("file\tmachine\na.wav\tfan\nb.wav\tfan\n")
    for data in ("good", "m.csv", "t.tsv"):
        assert preflight.check(plan(0, 0, data=data)) == []


def safetensors(path: Path, *names: str, cut: int = 0, **metadata: str) -> Path:
    header = {name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * k, 4 * k + 4]} for k, name in enumerate(names)}
    text = json.dumps(header | {"__metadata__": metadata}).encode()
    content = struct.pack("<Q", len(text)) + text + bytes(4 * len(names))
    path.write_bytes(content[: len(content) - cut])
    return path


BEATS = ("encoder.patch_embedding.weight", "encoder.layers.0.self_attn.q_proj.weight")


def pickled(path: Path) -> Path:
    """As torch writes it: a zip with a pickle of names and numbers."""
    import pickle

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model": dict.fromkeys(BEATS, 0)}))
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda path: safetensors(path, *BEATS),
            "expected a checkpoint of the family fisher, found one that looks like be",
        ),
        (pickled, "expected a checkpoint of the family fisher, found one that looks like beats"),
        (lambda path: safetensors(path, "x", family="AST", config="{}"), "found one that looks like ast"),
        (lambda path: safetensors(path, *BEATS, cut=3), "expected a checkpoint, found damage ("),
        (lambda path: path.write_bytes(b"PK\3\4 cut off"), "expected a checkpoint, found damage ("),
        (lambda path: path.write_text("version https://git-lfs"), "found 23 bytes of something else"),
        (lambda path: path.touch(), "expected a checkpoint, found 0 bytes of something else"),
    ],
)
def test_a_checkpoint_is_looked_at_without_loading_it(place, make, said):
    make(place / "w.bin")
    (found,) = findings(plan(0, 1, **{"encoder.checkpoint": "w.bin"}))
    assert found.startswith("encoder: w.bin: ")
    assert said in found
    assert preflight.check(plan(0, 0, **{"encoder.checkpoint": "w.bin"})) == []  # which does without


def test_a_checkpoint_whose_family_nobody_can_tell_is_left_to_the_stage(place):
    safetensors(place / "w.bin", "something.weight")
    assert preflight.check(plan(0, 1, **{"encoder.checkpoint": "w.bin"})) == []


def test_a_missing_checkpoint_and_an_unknown_size(place):
    (found,) = findings(plan(0, 9, **{"encoder.checkpoint": "fisher-tiny", "encoder.size": "tiny"}))
    assert found.startswith("encoder: fisher-tiny: expected data/checkpoints/")
    assert "wheeltapper download-checkpoint fisher-tiny --out data/checkpoints fetches it" in found
    (found,) = findings(plan(0, 1, **{"encoder.checkpoint": "''", "encoder.size": "nanoo"}))
    assert found.startswith("encoder: FISHER size: expected one of ")


def test_weights_of_the_branches_count_for_the_stages_that_read_them(place):
    conf = place / "c.yaml"
    own = {"family": "ast", "size": "base", "checkpoint": "gone.pt"}
    conf.write_text(yaml.safe_dump({"base": str(TOY), "branches": {"main": {"encoder": own}}}))
    run = Experiment(Path("exp"), load(conf))
    assert list(requirements.encoders(run, range(0, 2))) == ["encoder"]
    assert list(requirements.encoders(run, range(2, 4))) == ["branches.main.encoder"]
    assert list(requirements.encoders(run, range(4, 7))) == []
    assert sorted(requirements.encoders(run, [7])) == ["branches.main.encoder", "encoder"]


def test_recordings_to_pre_train_on(place):
    (place / "shards").mkdir()
    conf = place / "c.yaml"
    sources = [{"path": "shards"}, {"path": "gone.csv"}]
    conf.write_text(
        yaml.safe_dump(
            {"base": str(TOY), "pretrain": {"loop": {"steps": 1}, "sources": sources, "probe": {"every": 1}}}
        )
    )
    found = findings(plan(0, 1, conf=conf, **{"pretrain.probe.manifest": "labels.csv"}))
    assert [text.split(": ")[:2] for text in found] == [
        ["pretrain.sources.1", "gone.csv"],
        ["pretrain.probe.manifest", "labels.csv"],
    ]
    assert preflight.check(plan(0, 0, conf=conf, **{"pretrain.probe.manifest": "labels.csv"})) == []


def test_what_was_frozen_must_be_there(place):
    (found,) = findings(plan(0, 3, **{"data.machines": "evaluation"}))
    assert "data.frozen: expected the configuration that wheeltapper select froze, found none" in found
    (found,) = findings(plan(0, 3, **{"data.frozen": "gone.yaml"}))
    assert "gone.json: expected a JSON file, found nothing" in found


@pytest.mark.parametrize(
    ("stages", "left", "missing"),
    [
        ((1, 1), [], (0, "manifest.csv")),
        ((2, 9), [], (0, "manifest.csv")),
        ((2, 9), ["manifest.csv"], (1, "pretrain/encoder.safetensors")),
        ((3, 3), ["manifest.csv", "pretrain/encoder.safetensors"], (2, "adapt/level/card.json")),
        ((4, 5), ["manifest.csv"], (3, "embeddings/level/near_only.npy")),
        ((5, 6), ["manifest.csv"], (4, "scores/level.near_only.csv")),
        (
            (5, 5),
            ["scores/main.near_only.csv", "scores/main.two_channel.csv"],
            (4, "scores/level.near_only.csv"),
        ),
        ((6, 6), ["manifest.csv"], (5, "systems/Wheeltapper_Demo_task2_1")),
        ((9, 9), [], (0, "manifest.csv")),
        ((9, 9), ["manifest.csv"], None),
    ],
)
def test_the_stage_to_start_with(place, stages, left, missing):
    exp = place / "exp"
    for name in left:
        (exp / name).parent.mkdir(parents=True, exist_ok=True)
        (exp / name).touch()
    found = requirements.missing(Experiment(exp, load(TOY)), range(stages[0], stages[1] + 1))
    assert found == (missing and (missing[0], exp / missing[1]))
    as_they_are = Experiment(place / "new", load(TOY, ["pretrain.loop.steps=0"]))
    assert requirements.missing(as_they_are, range(1, 2)) is None


def test_stages_in_the_wrong_order(place, capsys):
    status, lines = run(capsys, "--stage", "4", "--stop-stage", "2")
    assert (status, lines) == (1, ["wheeltapper run: --stop-stage: expected at least 4 (--stage), found 2"])


def test_the_folder_is_free_and_can_be_written_to(place, monkeypatch):
    Path("file").touch()
    Path("link").symlink_to("gone")
    below = f"a file at {place}/file"
    for exp, found in (("file", "a file at file"), ("file/below", below), ("link", "a link to nothing at link")):
        assert f"{exp}: expected a folder to write to, found {found}" in findings(plan(0, 9, exp=exp))[0]
    with lock("exp"):
        assert "another wheeltapper process is using this folder" in findings(plan(0, 9))[0]
    preflight.check_folder(Path("exp"))
    usual = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "stages" and usual(path, mode))
    Path("exp/stages").mkdir()
    with pytest.raises(WheeltapperError, match="found exp/stages: Permission denied"):
        preflight.check_folder(Path("exp"))


def test_packages_that_only_late_stages_import(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "reportlab", None)
    assert preflight.check(plan(0, 6)) == []
    (found,) = findings(plan(0, 7))
    assert found.startswith("reportlab is not installed; run tools/setup.sh")


def test_a_package_that_fails_while_the_configuration_is_read(place, monkeypatch):
    def fail(*_):
        raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")

    monkeypatch.setattr("system.config.read", fail)
    found = findings(plan(0, 1, data="nowhere"))
    assert any(text.startswith("pydantic does not work here") for text in found)
    assert any("--data nowhere" in text for text in found)


# The disk.


def test_the_space_that_a_year_takes(tmp_path):
    """By hand: 1200 clips of each development machine (11, 12, five times 10 s), 1200 of each evaluation machine, one
    of 6 s and four of 6 s at the least, 10 s as a rule; 16 kHz, two channels of two bytes."""
    year, second = load_year(2026), 16000 * 2 * 2
    least = 1200 * (11 + 12 + 5 * 10) * second + 1200 * (5 * 6) * second
    likely = 1.8 * (1200 * (11 + 12 + 5 * 10) * second + 1200 * (6 + 4 * 10) * second)
    assert space(year, tmp_path) == pytest.approx((least, likely))
    (tmp_path / "zips").mkdir()
    marker_of(tmp_path / "zips" / "dev_fan.zip").touch()  # unpacked
    assert space(year, tmp_path)[0] == pytest.approx(least - 1200 * 10 * second)
    (tmp_path / "zips" / "dev_bearingEmu.zip").touch()  # fetched
    expected = likely - 1.8 * 1200 * 10 * second - 0.8 * 1200 * 10 * second
    assert space(year, tmp_path)[1] == pytest.approx(expected)
    (tmp_path / "zips" / "dev_gearboxEmu.zip.part").write_bytes(bytes(1000))
    assert space(year, tmp_path)[1] == pytest.approx(expected - 1000)


@pytest.mark.parametrize(
    ("free", "data", "refused", "noted"),
    [
        (1 << 40, "dcase2026", "", ""),
        (12 << 30, "dcase2026", "", "expected about 16.5 GB of free space (recordings of dcase2026, the encoder), fo"),
        (5 << 30, "dcase2026", "data/dcase2026: expected at least 7.9 GB of free space (recordings of dcase2026, ", ""),
        (5_000_000, "synthetic", "exp: expected at least 6.0 MB of free space (simulated recordings, the encoder)", ""),
        (7_000_000, "synthetic", "", "expected about 25.6 MB"),  # 1.05 x 6 MB, and the weights of 3.9 MB five times
    ],
)
def test_too_little_space_is_refused_and_little_is_noted(place, monkeypatch, capsys, free, data, refused, noted):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: Usage(1 << 50, 0, free))
    if refused:
        status, lines = run(capsys, "--data", data)
        assert status == 1
        assert refused in lines[0]
        assert "--exp and data.folder say where things go" in lines[0]
    else:
        notes = preflight.check(plan(0, 9, data=data))
        assert len(notes) == bool(noted)
        assert noted in "".join(notes)


def test_a_finished_run_needs_no_space(place, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: Usage(1 << 50, 0, 0))
    exp = place / "exp"
    save(exp / "config.yaml", load(TOY))
    for number, name in ((0, "data"), (1, "pretrain"), (2, "adapt"), (3, "embed")):
        marker = exp / "stages" / f"{number}_{name}.json"
        marker.parent.mkdir(exist_ok=True)
        marker.touch()
    assert preflight.check(plan(0, 9, conf=None)) == []
