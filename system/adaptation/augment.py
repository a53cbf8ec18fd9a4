"""Augmentation of two-channel recordings during adaptation (Wang and Liu 2026, section 3.4)."""

import torch
from torch import Tensor, rand, randint

from system.config import AugmentConfig


def augment_waves(waves: Tensor, config: AugmentConfig) -> Tensor:
    """Applies channel swap, channel dropout and gain to each clip independently.

    A single channel gets the gain only. Uses torch's global random state.

    Args:
        waves: (B, 1 or 2, samples).
        config: probabilities and strengths.
    """
    batch, channels = waves.shape[:2]
    if channels == 1:
        gains = 10.0 ** ((2.0 * rand(batch, 1) - 1.0) * config.gain_db / 20.0)
        return waves * gains[:, :, None].to(waves.device)
    swap = (rand(batch) < config.channel_swap).to(waves.device)
    waves = torch.where(swap[:, None, None], waves.flip(1), waves)
    gains = 10.0 ** ((2.0 * rand(batch, 2) - 1.0) * config.gain_db / 20.0)
    dropped = rand(batch) < config.channel_drop
    silent = torch.nn.functional.one_hot(randint(0, 2, (batch,)), 2).bool() & dropped[:, None]
    return waves * gains.masked_fill(silent, 0.0)[:, :, None].to(waves.device)


def mix(waves: Tensor, config: AugmentConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Mixup of waveforms. Uses torch's global random state.

    Args:
        waves: (B, channels, samples).
        config: probability and strength.

    Returns:
        Mixed waveforms (B, channels, samples); index (B,) of the clip that each was mixed with; share (B,) of the clip
        itself in the mixture, 1 for clips that are not mixed.
    """
    batch = len(waves)
    partner = torch.randperm(batch)
    beta = torch.distributions.Beta(config.mixup_alpha, config.mixup_alpha).sample((batch,))
    share = torch.where(rand(batch) < config.mixup, torch.maximum(beta, 1.0 - beta), torch.ones(batch))
    weight = share[:, None, None].to(waves.device)
    return weight * waves + (1.0 - weight) * waves[partner], partner, share


def mask_spectrogram(spectrogram: Tensor, config: AugmentConfig) -> Tensor:
    """SpecAugment: sets one range of frames and one range of bins of each row to the mean of the row.

    Args:
        spectrogram: (B, T, F).
        config: maximum widths of the ranges.
    """
    rows, frames, bins = spectrogram.shape
    hidden = torch.zeros(rows, frames, bins, dtype=torch.bool)
    for size, longest, axis in ((frames, config.time_mask, 1), (bins, config.frequency_mask, 2)):
        if longest <= 0:
            continue
        width = randint(0, min(longest, size) + 1, (rows, 1))
        start = (rand(rows, 1) * (size - width + 1)).long()
        place = torch.arange(size)
        stretch = (place >= start) & (place < start + width)
        hidden |= stretch[:, :, None] if axis == 1 else stretch[:, None, :]
    return torch.where(hidden.to(spectrogram.device), spectrogram.mean((1, 2), keepdim=True), spectrogram)
