"""The command pretrain with sources of its own, in one process and two."""

import csv
import json
from pathlib import Path

import pytest
from training_runs import in_processes, run_command

from system import manifest
from system.bin import main
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError
from system.pipeline.settings import open_experiment

CONF = """
encoder: {family: fisher, size: nano}
threads: 1
pretrain:
  crop_seconds: 0.4
  max_rate: 8000
  target: {band: positions}
  gain_db: 6
  mix_share: 0.5
  mask: {clones: 2}
  decoder: {dim: 16, layers: 1, kernel: 3}
  loop: {steps: 4, batch_size: 4, warmup_steps: 1, save_every: 2, log_every: 1}
"""


@pytest.fixture
def sources(train_clips, tmp_path) -> list[str]:
    """Half of the clips as a manifest, half as shards."""
    manifest.write(tmp_path / "a.csv", train_clips[:4])
    manifest.write(tmp_path / "b.csv", train_clips[4:])
    assert main(["shard", str(tmp_path / "b.csv"), "--out", str(tmp_path / "shards")]) == 0
    (tmp_path / "conf.yaml").write_text(CONF)
    return ["--source", f"{tmp_path / 'a.csv'}=1", "--source", f"{tmp_path / 'shards'}=3"]


def curve(exp: Path) -> list[dict[str, float]]:
    with open(exp / "pretrain" / "curve.csv") as file:
        return [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]


def pretrain(tmp_path, sources, exp, *options) -> int:
    return main(["pretrain", "--exp", str(tmp_path / exp), "--conf", str(tmp_path / "conf.yaml"), *sources, *options])


def test_two_processes_learn_what_one_does(tmp_path, sources, capsys):
    assert pretrain(tmp_path, sources, "one") == 0
    options = ["--exp", str(tmp_path / "two"), "--conf", str(tmp_path / "conf.yaml"), *sources]
    assert in_processes(2, run_command, ["pretrain", *options], tmp_path) == [(0, ""), (0, "")]
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == len(two) == 4
    for alone, together in zip(one, two, strict=True):
        for name in ("loss", "loss_band", "loss_patch", "gradient_norm", "learning_rate"):
            assert together[name] == pytest.approx(alone[name], rel=1e-4), name


def test_a_run_with_sources(tmp_path, sources, capsys):
    assert pretrain(tmp_path, sources, "exp") == 0
    assert Fisher.load(tmp_path / "exp" / "pretrain" / "encoder.safetensors").config == Fisher.SIZES["nano"]
    assert not (tmp_path / "exp" / "pretrain" / "state.pt").exists()
    record = json.loads((tmp_path / "exp" / "stages" / "1_pretrain.json").read_text())
    found = [(source["name"], source["clips"], source["weight"]) for source in record["settings"]["sources"]]
    assert found == [("a", 4, 1.0), ("shards", 4, 3.0)]
    # What changes nothing of the weights asks for no new run; another share of the draws does.
    capsys.readouterr()
    assert pretrain(tmp_path, sources, "exp", "--set", "pretrain.loop.save_every=3 pretrain.front_end=device") == 0
    assert "complete, nothing to do" in capsys.readouterr().out
    assert pretrain(tmp_path, [text.replace("=3", "=2") for text in sources], "exp") == 0
    assert "complete" not in capsys.readouterr().out
    # Such an experiment has no branches, so that later stages have nothing to work on.
    with pytest.raises(WheeltapperError, match="branches: expected at least one"):
        open_experiment(tmp_path / "exp", None, []).stage("fuse", {}, [], [])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing.csv", "nothing.csv: expected a manifest"),
        ("a.csv=much", "--source a.csv=much: expected PATH or PATH=WEIGHT with a number"),
        (".", "expected the record of finished shards"),
    ],
)
def test_wrong_sources(tmp_path, sources, source, said, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pretrain(tmp_path, ["--source", source], "exp") == 1
    assert said in capsys.readouterr().err
