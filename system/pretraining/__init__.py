"""Pre-training of a sub-band encoder on recordings without labels."""

import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from system.config import PretrainConfig
from system.crops import read_crop
from system.encoders.subband import SubbandEncoder
from system.errors import WheeltapperError
from system.manifest import Clip
from system.pretraining.distillation import SelfDistillation
from system.training import fit, step_seed


def pretrain(
    encoder: SubbandEncoder,
    clips: Sequence[Clip],
    config: PretrainConfig,
    folder: str | os.PathLike,
    seed: int,
    device: str = "cpu",
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> SubbandEncoder:
    """Trains ``encoder`` (in place) on the training clips and returns it.

    The student alone is kept (FISHER paper, section 3.2). Raises WheeltapperError for a clip that is not of the
    training split, a loss that is not finite, or collapsed targets.
    """
    check_training_clips(clips)
    if not isinstance(encoder, SubbandEncoder):
        raise WheeltapperError(
            f"pretrain: expected an encoder of the FISHER or EAT family, found {encoder.family}: "
            "pretrain.loop.steps: 0 takes its weights as they are"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(seed, -1))  # of the decoder's weights
        task = SelfDistillation(encoder, config)

    def after_step(step: int) -> dict[str, float]:
        return {"ema": task.update_teacher(step)}

    def watch(step: int, values: dict[str, float]) -> None:
        if step >= config.loop.warmup_steps:
            task.check_alive(step, values["target_std"], values["prediction_std"])
        if progress:
            progress(step, values)

    fit(task, lambda step: make_batch(clips, config, seed, step), config.loop, folder, seed, device, after_step, watch)
    return encoder.eval()


def batch_rates(clips: Sequence[Clip], config: PretrainConfig) -> list[int]:
    """The rates that a batch may have: multiples of the base rate up to what the recordings hold."""
    highest = min(config.max_rate, max(clip.rate for clip in clips))
    rates = [r for r in range(config.base_rate, highest + 1, config.base_rate) if r >= config.min_rate]
    return rates or [highest]


def make_batch(clips: Sequence[Clip], config: PretrainConfig, seed: int, step: int) -> dict[str, Tensor | int]:
    """Crops of random clips and channels at one random rate, as {"wave": (B, samples), "rate": Hz}."""
    generator = np.random.default_rng(step_seed(seed, step))
    rates = batch_rates(clips, config)
    rate = rates[generator.integers(len(rates))]
    waves = []
    for index in generator.integers(0, len(clips), config.loop.batch_size):
        wave = read_crop(clips[index], config.crop_seconds, rate, generator)
        waves.append(wave[generator.integers(len(wave))])
    return {"wave": torch.from_numpy(np.stack(waves)), "rate": int(rate)}


def check_training_clips(clips: Sequence[Clip]) -> None:
    """Raises WheeltapperError unless all are normal clips of the training split (the challenge's first rule)."""
    if not clips:
        raise WheeltapperError("training: expected at least one clip, found none")
    for clip in clips:
        if clip.split != "train" or clip.label == "anomaly":
            raise WheeltapperError(
                f"{clip.path}: expected a normal training clip, found {clip.label or 'unlabelled'} {clip.split}"
            )
