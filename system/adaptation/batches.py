"""Training batches of random crops. A batch depends on the seed and the step alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from system.adaptation.augment import WHOLE, Part, draw
from system.config import EncoderBranchConfig
from system.frontends.channels import select_inputs
from system.manifest import Clip, group_by
from system.training.crops import draw_crop, read_crop
from system.training.state import step_seed


class CropBatches:
    """Makes batches of random crops: draws a machine, then a domain (``target_share``), then a clip of it.

    Drawing the domain first keeps the ten target clips of a machine from being lost among its 990 source clips. The
    clips are grouped once, so that a batch takes as long with a million clips as with a thousand.

    Args:
        clips: N training clips.
        attributes: attribute classes of the clips, (N,).
        domains: domain classes of the clips, (N,).
        config: settings of the branch.
        rate: sampling rate in Hz.
        seed: of the training.
        simam: kind of SimAM of each clip, N; none if empty.

    Example:
        >>> batches = CropBatches(clips, attribute_labels(clips), domain_labels(clips, "machine"), config, 16000, 0)
        >>> batches(step=3)["wave"].shape  # (8 clips, 2 inputs, samples)
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        attributes: np.ndarray,
        domains: np.ndarray,
        config: EncoderBranchConfig,
        rate: int,
        seed: int,
        simam: Sequence[str] = (),
    ):
        self.clips, self.config, self.rate, self.seed = clips, config, rate, seed
        self.attributes, self.domains, self.simam = attributes, domains, simam
        groups = group_by(clips, "machine", "section", "domain")
        # Indices of the target clips of each machine and section, and of its others; none where there are no such.
        self.machines = [
            (groups.get((*machine, "target"), []), groups.get((*machine, "source")) or groups.get((*machine, ""), []))
            for machine in group_by(clips, "machine", "section")
        ]

    def __call__(self, step: int, part: int = 0, parts: int = 1) -> dict[str, Any]:
        """The batch of a step, or one of ``parts`` equal parts of it.

        Args:
            step: number of the training step.
            part: number of the part, whose clips are read, and those that are mixed into them.
            parts: how many there are.

        Returns:
            "attribute" (B,), "domain" (B,), and "simam", a list of B, if given, of the whole batch; "part"; "rows", a
            list of the R places in the batch of the clips that were read, its own ones first; "wave" (R, inputs,
            samples).
        """
        config, seed = self.config, step_seed(self.seed, step)
        generator, own = np.random.default_rng(seed), Part(part, parts)
        rows = _rows(config, own, seed)
        waves: dict[int, np.ndarray] = {}
        chosen = []
        for place in range(config.loop.batch_size):
            index = self._draw(generator)
            chosen.append(index)
            if place in rows:
                waves[place] = input_crop(self.clips[index], config, self.rate, generator)
            else:
                draw_crop(self.clips[index], config.crop_seconds, generator)
        batch = {
            "wave": torch.from_numpy(np.stack([waves[place] for place in rows])),
            "rows": rows,
            "part": own,
            "attribute": torch.from_numpy(self.attributes[chosen]),
            "domain": torch.from_numpy(self.domains[chosen]),
        }
        return {**batch, "simam": [self.simam[index] for index in chosen]} if self.simam else batch

    def _draw(self, generator: np.random.Generator) -> int:
        """Index of a clip."""
        targets, others = self.machines[generator.integers(len(self.machines))]
        target = generator.random() < self.config.target_share
        group = targets if targets and (target or not others) else others
        return group[generator.integers(len(group))]


def input_crop(clip: Clip, config: EncoderBranchConfig, rate: int, generator: np.random.Generator) -> np.ndarray:
    """The inputs of a branch for a random crop of a recording, float32 (inputs, samples).

    The residual is computed within the crop: over a few seconds its gains are as good as those of the whole clip.
    """
    wave = read_crop(clip, config.crop_seconds, rate, generator)
    return select_inputs(wave, rate, config.inputs, config.subtraction, clip.path)


def _rows(config: EncoderBranchConfig, part: Part, seed: int) -> list[int]:
    """Places in a batch of a part's own clips, and of those that the training step will mix into them."""
    size = config.loop.batch_size
    own = list(range(size))[part.rows(size)]
    if part == WHOLE or not config.augment.mixup:
        return own
    draws = draw(config.augment, size, len(config.inputs), torch.Generator().manual_seed(seed)).of(torch.tensor(own))
    return list(dict.fromkeys([*own, *draws.partner[draws.share < 1.0].tolist()]))
