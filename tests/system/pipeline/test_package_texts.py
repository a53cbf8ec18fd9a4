"""What a package says follows from what took place: the recordings and the steps, not the settings alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from submission import texts
from system import manifest
from system.config import load
from system.experiment import Experiment
from system.files import write_json
from system.manifest import Clip
from system.pipeline.stages.package import branch_texts

CONF = """
branches:
  main: {{inputs: [near, far], depth: 2, {more}}}
  low: {{inputs: [residual], spectrum: {{bands: 32}}}}
  idle: {{inputs: [near], spectrum: {{bands: 16}}}}
systems:
  - {{weights: {{main: 1.0, low: 1.0}}}}
"""
CARD = {
    "encoder": "FISHER",
    "rate": 16000,
    "filterbank": "mel",
    "simam": "none",
    "simam_choices": {},
    "total_parameters": 10,
    "trainable_parameters": 5,
    "adapted_layers": ["qkv"],
}


def clips(channels: int, attributes: str, target: int) -> list[Clip]:
    found = []
    for number in range(12):
        domain = "target" if number < target else "source"
        path = f"/d/fan/train/{number}.wav"
        facts = {"channels": channels, "rate": 16000, "samples": 16000, "digest": f"{number}"}
        clip = Clip("c", "fan", "00", "train", f"{number}.wav", path, "normal", domain, attributes, **facts)
        found.append(clip)
    return found


def told(folder: Path, recordings: list[Clip], more: str = "crop_seconds: 1.0") -> str:
    """All words about the branches of a run."""
    (folder / "c.yaml").write_text(CONF.format(more=more))
    run = Experiment(folder / "exp", load(folder / "c.yaml"))
    manifest.write(run.manifest, recordings)
    for name in run.config.branches:
        write_json(run.card(name), CARD)
    branches, system = branch_texts(run), run.config.systems[0]
    assert [branch.name for branch in branches] == ["main", "low"]
    words = [str(value) for value in texts.description(system, branches, 16000, 0.1).values()]
    words += [texts.abstract(run.config.package, branches, run.config.systems)]
    words += [line for lines in texts.report_lines(branches).values() for line in lines]
    return "\n".join(words)


def test_two_microphones_with_attributes_and_domains(tmp_path):
    found = told(tmp_path, clips(2, "speed_1", 6))
    for word in ("channel swap", "learned gate", "attributes serve", "references of each domain", "noise reference"):
        assert word in found
    assert "fine-tuning" in found
    assert "(first 2 blocks)" in found


@pytest.mark.parametrize(
    ("recordings", "absent"),
    [
        (clips(1, "speed_1", 6), ("channel swap", "gate", "subtract", "noise reference")),
        (clips(2, "", 6), ("attributes serve", "angular")),
        (clips(2, "speed_1", 0), ("each domain", "minimum over the domains")),
        (clips(2, "speed_1", 1), ("each domain", "minimum over the domains")),
    ],
)
def test_what_the_recordings_lack_is_not_claimed(tmp_path, recordings, absent):
    found = told(tmp_path, recordings)
    assert not [word for word in absent if word in found]


def test_without_a_step_nothing_is_fitted(tmp_path):
    found = told(tmp_path, clips(2, "speed_1", 6), "tune: frozen, loop: {steps: 0}")
    assert not [word for word in ("fine-tuning", "fitted", "mixup", "channel gain", "steps of") if word in found]
    assert "references" in found


def test_pseudo_attributes_are_attributes(tmp_path):
    bare = [replace(clip, attributes="") for clip in clips(2, "", 6)]
    assert "attributes serve" in told(tmp_path, bare, "pseudo_attributes: {clusters: 2}")
