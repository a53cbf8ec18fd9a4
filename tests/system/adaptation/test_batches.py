"""Training batches: the draws by a plain restatement, whatever the domains of a machine; a part is its share."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from system.adaptation import attribute_labels, domain_labels
from system.adaptation.batches import CropBatches, input_crop
from system.config import SIMAM, AugmentConfig, EncoderBranchConfig, LoopConfig
from system.manifest import Clip, group_by
from system.training.state import step_seed

RATE = 8000


def config(**values) -> EncoderBranchConfig:
    settings = {"crop_seconds": 0.3, "augment": AugmentConfig(mixup=0.0), "target_share": 0.4}
    return EncoderBranchConfig(**settings | {"loop": LoopConfig(batch_size=12)} | values)


def plain(clips: list[Clip], settings: EncoderBranchConfig, seed: int, step: int) -> tuple[list[int], np.ndarray]:
    """Indices of the clips of a batch and their crops, (B,) and (B, inputs, samples), grouped anew at each clip."""
    generator = np.random.default_rng(step_seed(seed, step))
    chosen, waves = [], []
    for _ in range(settings.loop.batch_size):
        machines = list(group_by(clips, "machine", "section"))
        groups = group_by(clips, "machine", "section", "domain")
        machine = machines[generator.integers(len(machines))]
        target = generator.random() < settings.target_share
        present = [domain for domain in ("target", "source", "") if (*machine, domain) in groups]
        domain = "target" if target and "target" in present else next((d for d in present if d != "target"), "target")
        chosen.append(groups[*machine, domain][generator.integers(len(groups[*machine, domain]))])
        waves.append(input_crop(clips[chosen[-1]], settings, RATE, generator))
    return chosen, np.stack(waves)


@pytest.mark.parametrize("keep", [None, "source", "target", ""])
def test_draws(train_clips, keep):
    clips = train_clips if keep is None else [replace(clip, domain=keep) for clip in train_clips[:5]] + train_clips[5:]
    settings, kinds = config(), [SIMAM[number % 3] for number in range(len(clips))]
    labels = attribute_labels(clips), domain_labels(clips, "machine")
    batches = CropBatches(clips, *labels, settings, RATE, 7, kinds)
    for step in (0, 1, 5):
        chosen, waves = plain(clips, settings, 7, step)
        batch = batches(step)
        assert batch["wave"].numpy().tobytes() == waves.tobytes()
        for name, each in zip(("attribute", "domain"), labels, strict=True):
            assert batch[name].tolist() == each[chosen].tolist()
        assert batch["simam"] == [kinds[index] for index in chosen]
        assert batch["rows"] == list(range(12))
    assert len({clips[index].domain for step in range(5) for index in plain(clips, settings, 7, step)[0]}) > 1


def test_the_clips_are_grouped_once(train_clips, monkeypatch):
    batches = CropBatches(train_clips, *2 * [np.zeros(8, np.int64)], config(), RATE, 0)
    monkeypatch.setattr("system.adaptation.batches.group_by", lambda *given: pytest.fail("grouped again"))
    assert torch.equal(batches(3, 1, 2)["wave"], batches(3)["wave"][6:])
    assert "simam" not in batches(0)
