"""Pre-training of a sub-band encoder on recordings without labels."""

import os
from collections.abc import Callable
from dataclasses import asdict

import torch

from system.config import PretrainConfig
from system.encoders.base import Encoder
from system.pretraining.batches import Batches
from system.pretraining.corpus import Mixture
from system.pretraining.objectives import build_objective
from system.training.loop import fit, step_seed

# Settings that ``fit`` takes care of, or that change nothing of what is learned.
FREE = ("loop", "probe", "front_end", "sources")


def pretrain(
    encoder: Encoder,
    mixture: Mixture,
    config: PretrainConfig,
    folder: str | os.PathLike,
    seed: int,
    device: str = "cpu",
    progress: Callable[[int, dict[str, float]], None] | None = None,
    probe: Callable[[Encoder], dict[str, float]] | None = None,
) -> Encoder:
    """Trains ``encoder`` (in place) on the recordings of ``mixture`` and returns it.

    The student alone is kept (FISHER paper, section 3.2). ``probe`` judges the encoder after every
    ``config.probe.every`` steps and at the end; its figures go to the curve. Raises WheeltapperError for an objective
    that does not fit the encoder, a loss that is not finite, or collapsed targets.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(seed, -1))  # of the decoder's weights
        task = build_objective(encoder, config)

    def after_step(step: int) -> dict[str, float]:
        task.update_statistics()
        figures = {"ema": task.update_teacher(step)}
        last = step + 1 == config.loop.steps
        if probe and config.probe.every and ((step + 1) % config.probe.every == 0 or last):
            figures |= probe(encoder)
        return figures

    def watch(step: int, values: dict[str, float]) -> None:
        if step >= config.loop.warmup_steps:
            task.check_alive(step, values)

    own = {name: value for name, value in asdict(config).items() if name not in FREE}
    settings = {"encoder": asdict(encoder.config), "pretrain": own}
    batches = Batches(task, mixture, config, seed)
    fit(task, batches, config.loop, folder, seed, device, after_step, progress, watch, settings)
    return encoder.eval()
