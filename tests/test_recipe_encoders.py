"""The main recipe around every family of encoders, through its own configuration, small and untrained."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from submission.validate import validate
from system.bin import main
from system.config import load
from system.encoders import cards, family_class
from system.files import read_json

CONF = Path(__file__).resolve().parent.parent / "recipes" / "dcase2026" / "conf"
NAMES = sorted(path.stem for path in (CONF / "encoders").glob("*.yaml"))
LOOP = {"steps": 2, "batch_size": 2, "warmup_steps": 1}


@pytest.fixture(scope="module")
def data(recordings, tmp_path_factory) -> Path:
    exp = tmp_path_factory.mktemp("encoders") / "exp"
    assert main(["prepare", "--exp", str(exp), "--conf", str(CONF / "toy.yaml"), "--data", str(recordings)]) == 0
    return exp


def test_every_family_has_a_configuration():
    found = {load(CONF / "encoders" / f"{name}.yaml").encoder.family for name in NAMES}
    assert found == {"fisher", "echo", "beats", "eat", "audiomae", "ast", "cnn", "mn"}


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_names_a_published_checkpoint(name):
    config = load(CONF / "encoders" / f"{name}.yaml")
    card = cards.CARDS[config.encoder.checkpoint]
    assert (card.family, card.size) == (config.encoder.family, config.encoder.size)
    assert all(config.branches[name].depth <= blocks(card) for name in ("main", "aux"))


def blocks(card: cards.Card) -> int:
    """Blocks of a published network, stages of a ResNeXt."""
    kind = family_class(card.family)
    with torch.device("meta"):
        return kind(kind.SIZES[card.size]).depth


# Adaptation of every family is tested in tests/system/adaptation/test_families.py.
OTHERS = ("eat", "mn04", "resnext")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.matrix) if name in OTHERS else name for name in NAMES]
)
def test_from_weights_to_package(name, data, tmp_path, capsys):
    exp = tmp_path / "exp"
    shutil.copytree(data, exp, copy_function=shutil.copy2)
    family = load(CONF / "encoders" / f"{name}.yaml").encoder.family
    weights = tmp_path / f"{family}.safetensors"
    encoder = family_class(family).build("nano", 3)
    encoder.save(weights)
    branch = {"crop_seconds": 1.0, "loop": LOOP}
    conf = {
        "base": str(CONF / "encoders" / f"{name}.yaml"),
        "encoder": {"checkpoint": str(weights)},
        "branches": {"main": branch, "aux": branch},
        "evaluate": {"bootstrap": 20},
        "package": {"external_datasets": [{"name": encoder.family, "url": "https://example.org/weights"}]},
    }
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(conf))
    command = ["run", "--exp", str(exp), "--conf", str(tmp_path / "conf.yaml"), "--stage", "1", "--stop-stage", "7"]
    assert main(command) == 0, capsys.readouterr().err
    package = next(exp.glob("*_task2.zip"))
    assert [finding for finding in validate(package) if finding.level == "error"] == []
    card = read_json(exp / "adapt" / "main" / "card.json")
    assert card["encoder"] == encoder.family
    own = sum(p.numel() for p in encoder.parameters())
    assert card["total_parameters"] > own
    assert 1.7 < card["macs"]["two_channel"] / card["macs"]["near_only"] < 2.0  # one encoder pass a channel
