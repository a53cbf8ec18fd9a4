"""Pre-training of a sub-band encoder on unlabelled recordings."""

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

# Settings that ``fit`` checks itself, or that do not influence the weights.
EXCLUDED_SETTINGS = ("loop", "probe", "front_end", "sources")


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
    """Pre-trains an encoder on the recordings of a mixture (FISHER paper, section 3; ECHO paper, section 3.3).

    Args:
        encoder: the student, trained in place.
        mixture: recordings.
        config: objective and settings.
        folder: receives the training curve and the training state.
        seed: of all random numbers.
        device: cpu or cuda.
        progress: called after each step with its number and the losses.
        probe: evaluates the encoder every ``config.probe.every`` steps and at the end; its figures are added to the
            curve.

    Returns:
        The encoder. The teacher is not kept (FISHER paper, section 3.2).

    Raises:
        WheeltapperError: the objective does not fit the encoder, a loss is not finite, or the targets have collapsed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(seed, -1))  # for the weights of the decoder
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

    own = {name: value for name, value in asdict(config).items() if name not in EXCLUDED_SETTINGS}
    settings = {"encoder": asdict(encoder.config), "pretrain": own}
    batches = Batches(task, mixture, config, seed)
    fit(task, batches, config.loop, folder, seed, device, after_step, progress, watch, settings, "pretrain.loop")
    return encoder.eval()
