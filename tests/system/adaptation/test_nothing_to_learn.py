"""Adaptation where there are no two classes: told by hand-made cases, skipped by the stage, said in the report."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from system import config as configuration
from system import manifest
from system.adaptation import nothing_to_learn
from system.bin import main
from system.config import EncoderBranchConfig, HeadConfig
from system.encoders.fisher import Fisher
from system.experiment import Experiment
from system.files import read_json
from system.manifest import Clip
from system.pipeline.branches import network_branch
from system.report.load_run import read_run
from system.report.training_section import training

PLAIN = [Clip("toy", "fan", "00", "train", f"{n}.wav", f"{n}.wav", "normal", "source") for n in range(4)]
SPEEDS = [replace(clip, attributes=f"speed_{n % 2}") for n, clip in enumerate(PLAIN)]
TARGET = [*PLAIN[:3], replace(PLAIN[3], domain="target")]
KEYS = {(clip.machine, clip.section, clip.file): n % 2 for n, clip in enumerate(PLAIN)}


@pytest.mark.parametrize(
    ("clips", "settings", "idle"),
    [
        (PLAIN, {}, True),
        ([replace(clip, attributes="speed_1") for clip in PLAIN], {}, True),
        ([replace(clip, domain="") for clip in PLAIN], {}, True),
        (SPEEDS, {}, False),
        (SPEEDS, {"heads": HeadConfig(attribute_weight=0.0)}, True),
        (TARGET, {}, False),
        (TARGET, {"learn_from": "source"}, True),
        (TARGET, {"heads": HeadConfig(domain_weight=0.0)}, True),
        ([*PLAIN, replace(PLAIN[0], machine="pump")], {}, False),
        ([*PLAIN, replace(PLAIN[0], machine="pump")], {"heads": HeadConfig(domain_classes="domain")}, True),
        ([*PLAIN, replace(PLAIN[0], section="01")], {}, False),
    ],
)
def test_classes(clips, settings, idle):
    assert bool(nothing_to_learn(clips, EncoderBranchConfig(**settings))) == idle


def test_clusters_are_classes():
    assert nothing_to_learn(PLAIN, EncoderBranchConfig(), KEYS) == ""
    assert nothing_to_learn(PLAIN, EncoderBranchConfig(), dict.fromkeys(KEYS, 1))


@pytest.fixture
def exp(tmp_path, record):
    """An experiment of one machine without attributes, before stage 2."""
    folder = tmp_path / "exp"
    folder.mkdir()
    manifest.write(folder / "manifest.csv", [record(f"{n}.wav", seed=n, label="normal") for n in range(4)])
    Fisher.build("nano", 0).save(folder / "pretrain" / "encoder.safetensors")
    (tmp_path / "c.yaml").write_text(
        "encoder: {family: fisher, size: nano}\nbranches: {main: {depth: 1, embedding_dim: 8, crop_seconds: 0.3, "
        "loop: {steps: 1000000, batch_size: 2, warmup_steps: 1}}}\nsystems: [{weights: {main: 1.0}}]\n"
    )
    return folder


def test_the_stage_skips_it_and_is_complete(exp, capsys):
    command = ["adapt", "--exp", str(exp), "--conf", str(exp.parent / "c.yaml")]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.count("note: the adaptation of main is skipped, the encoder stays as it is") == 1
    assert not (exp / "adapt/main/curve.csv").exists()
    assert "no two classes" in read_json(exp / "adapt/main/card.json")["skipped"]
    tensors = load_file(exp / "adapt/main/adapter.safetensors")
    ups = [tensor for name, tensor in tensors.items() if "lora_B" in name]
    assert ups
    assert not any(torch.any(tensor) for tensor in ups)  # B = 0: the layers are those of the pre-trained encoder
    assert main(command) == 0
    assert "complete, nothing to do" in capsys.readouterr().out
    found = training(read_run(exp))
    assert found.startswith("Nothing was trained in this run. The adaptation of main was skipped, since the training")
    text = network_branch(Experiment(exp, configuration.load(exp / "config.yaml")), "main").text("main")
    assert (text.training, text.augmentation, text.data_usage[-1]) == ((), (), "references")
