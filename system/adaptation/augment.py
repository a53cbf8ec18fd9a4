"""Augmentation of two-channel recordings during adaptation (Wang and Liu 2026, section 3.4).

Random numbers are drawn for all clips of a batch, whichever part of it is computed, so that the parts compute what the
whole would.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Generator, Tensor, rand, randint

from system.config import AugmentConfig


class Part(NamedTuple):
    """Part ``number``, from 0, of ``total`` equal parts of a batch."""

    number: int = 0
    total: int = 1

    def rows(self, whole: int) -> slice:
        """Places of the part's own rows among ``whole`` rows."""
        size = whole // self.total
        return slice(self.number * size, (self.number + 1) * size)


WHOLE = Part()


@dataclass(frozen=True)
class Draws:
    """Random numbers of clips (B,) or of their channels (B, channels).

    Args:
        swap: whether the two channels are swapped, (B,).
        gains: factors of the channels, (B, channels); 0 for a silenced one.
        partner: place in the whole batch of the clip that each is mixed with, (B,).
        share: share of the clip itself in the mixture, (B,), 1 for clips that are not mixed.
    """

    swap: Tensor
    gains: Tensor
    partner: Tensor
    share: Tensor

    def of(self, rows: Tensor | slice) -> "Draws":
        """The random numbers of some of the clips."""
        return Draws(*(getattr(self, field.name)[rows] for field in fields(self)))


def draw(config: AugmentConfig, batch: int, channels: int, generator: Generator | None = None) -> Draws:
    """Draws for a batch of clips.

    Args:
        config: probabilities and strengths.
        batch: number of clips B.
        channels: 1 or 2. A single channel gets the gain only.
        generator: on the cpu; None for torch's own.
    """
    swap, silent = torch.zeros(batch, dtype=torch.bool), torch.zeros(batch, channels, dtype=torch.bool)
    if channels > 1:
        swap = rand(batch, generator=generator) < config.channel_swap
    gains = 10.0 ** ((2.0 * rand(batch, channels, generator=generator) - 1.0) * config.gain_db / 20.0)
    if channels > 1:
        dropped = rand(batch, generator=generator) < config.channel_drop
        chosen = randint(0, channels, (batch,), generator=generator)
        silent = torch.nn.functional.one_hot(chosen, channels).bool() & dropped[:, None]
    partner = torch.randperm(batch, generator=generator)
    # Of torch's beta distribution, which takes no generator.
    alphas = torch.full((batch, 2), float(config.mixup_alpha))
    beta = torch._sample_dirichlet(alphas, generator=generator)[:, 0]
    mixed = rand(batch, generator=generator) < config.mixup
    share = torch.where(mixed, torch.maximum(beta, 1.0 - beta), torch.ones(batch))
    return Draws(swap, gains.masked_fill(silent, 0.0), partner, share)


def augment_waves(waves: Tensor, draws: Draws) -> Tensor:
    """Applies channel swap, channel dropout and gain to each clip (B, 1 or 2, samples) independently."""
    if waves.shape[1] > 1:
        waves = torch.where(draws.swap.to(waves.device)[:, None, None], waves.flip(1), waves)
    return waves * draws.gains[:, :, None].to(waves.device)


def mix(waves: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Mixup of waveforms: ``share`` (B,) of ``waves`` (B, channels, samples), and of ``others`` what is left."""
    weight = share[:, None, None].to(waves.device)
    return weight * waves + (1.0 - weight) * others


def mask_spectrogram(
    spectrogram: Tensor, config: AugmentConfig, part: Part = WHOLE, generator: Generator | None = None
) -> Tensor:
    """SpecAugment: sets one range of frames and one range of bins of each row to the mean of the row.

    Args:
        spectrogram: (B, T, F).
        config: maximum widths of the ranges.
        part: of a batch that these rows are.
        generator: on the cpu; None for torch's own.
    """
    rows, frames, bins = spectrogram.shape
    whole, own = rows * part.total, part.rows(rows * part.total)
    hidden = torch.zeros(rows, frames, bins, dtype=torch.bool)
    for size, longest, axis in ((frames, config.time_mask, 1), (bins, config.frequency_mask, 2)):
        if longest <= 0:
            continue
        width = randint(0, min(longest, size) + 1, (whole, 1), generator=generator)[own]
        start = (rand(whole, 1, generator=generator)[own] * (size - width + 1)).long()
        place = torch.arange(size)
        stretch = (place >= start) & (place < start + width)
        hidden |= stretch[:, :, None] if axis == 1 else stretch[:, None, :]
    return torch.where(hidden.to(spectrogram.device), spectrogram.mean((1, 2), keepdim=True), spectrogram)
