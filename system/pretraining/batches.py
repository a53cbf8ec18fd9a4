"""Batches of crops. A batch depends on (seed, step) only, not on the process or the part that computes it."""

import math

import numpy as np
import torch
from torch import Tensor

from system.config import PretrainConfig
from system.frontends.stft import frame_count
from system.pretraining.corpus import Mixture
from system.pretraining.distillation import Batch, SelfDistillation
from system.training.crops import fit_length
from system.training.loop import step_seed


class Batches:
    """Draws crops from a mixture of corpora; the rate of a batch is a multiple of the base rate (FISHER paper, section
    3.1).

    Depending on ``config.front_end``, crops are resampled and transformed here, in the thread that prepares a batch, or
    on the device.
    """

    def __init__(self, task: SelfDistillation, mixture: Mixture, config: PretrainConfig, seed: int):
        self.task, self.mixture, self.config, self.seed = task, mixture, config, seed
        fixed = task.student.rate
        self.rates = [fixed] if fixed else mixture.batch_rates(config.base_rate, config.min_rate, config.max_rate)

    def __call__(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Part ``part`` of ``parts`` of the batch of a step.

        Returns:
            ``rate`` in Hz; ``spectrograms``, or ``waves``: for each rate of the recordings, indices in the batch (n,)
            and crops (n, samples) at that rate, followed by crops to be mixed in; ``snr`` (B,) in dB, infinite for
            crops that are not mixed; and the random numbers of the objective for each recording.
        """
        rng = np.random.default_rng(step_seed(self.seed, step))
        rate = self.rates[rng.integers(len(self.rates))]
        size = self.config.loop.batch_size // parts
        copies = self.config.copies
        drawn_picks = self.mixture.draw(rate, self.config.loop.batch_size // copies, rng)
        picks = [pick for pick in drawn_picks for _ in range(copies)][part * size : (part + 1) * size]
        samples = round(self.config.crop_seconds * rate)
        lowest, highest = self.config.mix_snr
        crops, others, snrs, drawn = [], [], [], []
        for place, pick in enumerate(picks, part * size):
            own = step_seed(step_seed(self.seed, step), place)
            rng = np.random.default_rng(own)
            crops.append(self.mixture.crop(pick, self.config.crop_seconds, rng))
            snrs.append(rng.uniform(lowest, highest) if rng.random() < self.config.mix_share else np.inf)
            if snrs[-1] < np.inf:
                others.append(self.mixture.crop(self.mixture.draw(rate, 1, rng)[0], self.config.crop_seconds, rng))
            drawn.append(self.task.draw(rate, frame_count(samples, rate), torch.Generator().manual_seed(own)))
        batch: Batch = {name: torch.cat([one[name] for one in drawn]) for name in drawn[0]}
        batch |= {"rate": rate, "samples": samples, "waves": _by_rate(crops + others, self.config.crop_seconds)}
        batch["snr"] = np.array(snrs, np.float32)  # no tensor, as the host decides by it
        if self.config.front_end == "worker":
            with torch.no_grad():
                batch |= self.task.inputs(batch, torch.device("cpu"))
            del batch["waves"]
        return batch


def _by_rate(crops: list[tuple[np.ndarray, int]], seconds: float) -> dict[int, tuple[Tensor, Tensor]]:
    found = {}
    for rate in sorted({rate for _, rate in crops}):
        places = [place for place, (_, own) in enumerate(crops) if own == rate]
        samples = math.ceil(seconds * rate) + 1  # one more than needed, because resampling rounds lengths
        waves = [fit_length(crops[place][0][None], samples) for place in places]
        found[rate] = torch.tensor(places), torch.from_numpy(np.concatenate(waves))
    return found
