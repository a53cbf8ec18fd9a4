"""Distillation of a published network into the sub-band encoder, beside its self-distillation. Our method.

The feature maps of a CNN on mel bands are predicted from the student's tokens at the same time and frequencies: tokens
are averaged over the part of the spectrum that a row of the map covers, and a linear map of each row leads to its
channels. The targets are standardised over the corpus. Rows that the sampling rate does not reach do not count.

Nearest neighbours see distances, not channels. A second loss therefore compares the cosine distances between the pooled
crops of a batch in both networks (mean over time, frequency kept): it is the variance of the logarithm of their ratio,
so that small distances, between crops of one recording, count as much as large ones and the scale is free.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.config import TeacherConfig
from system.encoders import mn
from system.encoders.mn import MobileNet
from system.errors import WheeltapperError
from system.frontends.stft import HOP_MS, WINDOW_MS
from system.pretraining.whitening import Whitening

if TYPE_CHECKING:
    from system.encoders.subband import SubbandEncoder

MEL_BREAK, MEL_SCALE = 700.0, 1127.0  # mel(f) = 1127 ln(1 + f / 700)
LEAST_COVERED = 0.3  # share of a row that the student's tokens must reach
EPS = 1e-6
NEAREST = 1e-3  # added to distances before their logarithm
BIN_HZ = 1000.0 / WINDOW_MS


class RowPrediction(nn.Module):
    """Linear maps from a student's tokens to the channels of a feature map, one for each of its rows."""

    def __init__(self, student: "SubbandEncoder", rows: int, channels: int):
        super().__init__()
        self.rows = rows
        self.weight = nn.Parameter(torch.zeros(rows, student.dim, channels))
        self.bias = nn.Parameter(torch.zeros(rows, 1, channels))
        self.scale = nn.ModuleList(Whitening(channels, 0.0, diagonal=True) for _ in range(rows))
        self.first_bins = [place * student.config.patch_size for place in range(student.patches_per_band)]
        self.band_width, self.patch = student.config.band_width, student.config.patch_size

    def overlap(self, bands: int) -> Tensor:
        """Share (rows, bands * positions) of a row's frequency range that each position of a token covers."""
        edge = MEL_SCALE * math.log1p(mn.HIGH_HZ / MEL_BREAK)
        edges = MEL_BREAK * torch.expm1(torch.linspace(0.0, edge, self.rows + 1) / MEL_SCALE)
        first = torch.tensor([band * self.band_width + at for band in range(bands) for at in self.first_bins])
        low, high = (first - 0.5) * BIN_HZ, (first + self.patch - 0.5) * BIN_HZ
        shared = torch.minimum(high, edges[1:, None]) - torch.maximum(low, edges[:-1, None])
        return shared.clamp(min=0.0) / (edges[1:] - edges[:-1])[:, None]

    def forward(self, tokens: Tensor, target: Tensor, bands: int) -> tuple[Tensor, Tensor]:
        """Mean squared error of the standardised target.

        Args:
            tokens: (B, times, bands * positions, D).
            target: feature map (B, times, rows, channels).
            bands: number of the student's sub-bands.

        Returns:
            The loss, and the target's rows that the student covers, (B, times, covered rows, channels).
        """
        share = self.overlap(bands).to(tokens)
        covered = share.sum(1)
        kept = (covered >= LEAST_COVERED).nonzero()[:, 0]
        flat = target.flatten(0, 1)
        scaled = torch.stack([self.scale[row](flat[:, row, None])[:, 0] for row in kept.tolist()])
        mixed = torch.einsum("rf,btfd->rbtd", share / covered[:, None].clamp(min=EPS), tokens).flatten(1, 2)
        predicted = torch.baddbmm(self.bias, mixed, self.weight)[kept]
        return (predicted.float() - scaled).square().mean(), target[:, :, kept]


class PublishedTeacher(nn.Module):
    """Losses of predicting a published network's feature maps and distances from the tokens of a student."""

    def __init__(self, student: "SubbandEncoder", config: TeacherConfig):
        super().__init__()
        network = MobileNet.load(config.checkpoint).requires_grad_(False)
        assert isinstance(network, MobileNet)
        self.network = network
        self.blocks = sorted(set(config.blocks))
        if self.blocks[-1] > self.network.depth:
            raise WheeltapperError(
                f"pretrain.teacher.blocks: expected 1 to {self.network.depth}, found {self.blocks[-1]}"
            )
        with torch.no_grad():
            maps = self.network.feature_maps(torch.zeros(1, mn.STRIDE, mn.BANDS), self.blocks)
        self.heads = nn.ModuleList(RowPrediction(student, found.shape[2], found.shape[1]) for found in maps)
        self.patch_ms = student.config.patch_size * HOP_MS

    def train(self, mode: bool = True) -> "PublishedTeacher":
        super().train(mode)
        self.network.eval()
        return self

    def extra_state(self) -> list[str]:
        """Names of the statistics of the targets."""
        return [name for name, _ in self.named_buffers() if name.endswith(".moments")]

    def spectrogram(self, waves: Tensor, rate: int) -> Tensor:
        """The network's input (B, T, 128) of waves (B, samples)."""
        return self.network.spectrogram(waves, rate)

    def targets(self, spectrogram: Tensor, times: int) -> list[Tensor]:
        """Feature maps (B, times, rows, channels) of the blocks, averaged over the duration of the student's tokens.

        Args:
            spectrogram: (B, T, 128) as returned by ``spectrogram``.
            times: number of the student's tokens in time.
        """
        found = []
        for features in self.network.feature_maps(spectrogram, self.blocks):
            columns = features.permute(0, 3, 2, 1).float()
            step = mn.HOP * 1000.0 / MobileNet.rate * (mn.BANDS // columns.shape[2])  # in milliseconds
            quarters = torch.arange(2 * times, device=columns.device) / 2 + 0.25  # two places in each token
            at = (quarters * self.patch_ms / step).clamp(max=columns.shape[1] - 1)
            before = at.floor().long()
            after = (before + 1).clamp(max=columns.shape[1] - 1)
            both = columns[:, before].lerp(columns[:, after], (at - before)[:, None, None])
            found.append(both.unflatten(1, (times, 2)).mean(2))
        return found

    def forward(self, grid: Tensor, spectrogram: Tensor, copies: int) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            grid: the student's tokens (B, times, bands, positions, D).
            spectrogram: the network's input (B, T, 128) of the same crops.
            copies: crops of a recording, which are next to each other.

        Returns:
            ``loss_teacher``, about 1 at the start, and ``loss_relation``.
        """
        with torch.no_grad():
            targets = self.targets(spectrogram, grid.shape[1])
        tokens = grid.flatten(2, 3)
        found = [head(tokens, target, grid.shape[2]) for head, target in zip(self.heads, targets, strict=True)]
        losses, covered = zip(*found, strict=True)
        loss_relation = relation_loss(
            cosine_distances([tokens.float().mean(1).flatten(1)]),
            cosine_distances([target.mean(1).flatten(1) for target in covered]),
            copies,
        )
        return {"loss_teacher": torch.stack(losses).mean(), "loss_relation": loss_relation}


def cosine_distances(parts: Sequence[Tensor]) -> Tensor:
    """Cosine distances (B, B) between embeddings, each of several parts (B, D_i); the mean over the parts."""
    unit = [F.normalize(part, dim=1) for part in parts]
    return 1.0 - torch.stack([part @ part.T for part in unit]).mean(0)


def relation_loss(student: Tensor, teacher: Tensor, copies: int) -> Tensor:
    """Weighted variance of the logarithm of the ratio of two matrices of distances (B, B), without the diagonal.

    With several copies, pairs of one recording have half of the weight together.
    """
    ratio = (student + NEAREST).log() - (teacher + NEAREST).log()
    group = torch.arange(len(ratio), device=ratio.device) // copies
    same = (group[:, None] == group).float()
    same.fill_diagonal_(0.0)
    other = 1.0 - same
    other.fill_diagonal_(0.0)
    weight = same / same.sum().clamp(min=1.0) + other / other.sum().clamp(min=1.0)
    weight = weight / weight.sum().clamp(min=EPS)
    mean = (weight * ratio).sum()
    return (weight * (ratio - mean).square()).sum()
