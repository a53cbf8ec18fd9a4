"""SimAM: attention over a spectrogram that has no parameters (Yang et al. 2021; for machines: EFB paper).

A value that stands out from its surroundings is kept, what is like the rest is damped: with mean m and variance v of
the surroundings, x is multiplied by sigmoid((x - m)^2 / (4 (v + lambda)) + 1/2).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from system.config import SIMAM
from system.errors import WheeltapperError

LAMBDA = 1e-4
PATCH = 32  # frames and bins that ``local`` looks at together


def enhance(spectrogram: Tensor, kind: str) -> Tensor:
    """Applies SimAM to spectrograms (B, T, F), each row for itself.

    Args:
        kind: ``none``; ``global``, the surroundings are the whole spectrogram; ``local``, patches of 32 x 32, the
            last ones in time and frequency smaller where 32 does not divide the size.

    Raises WheeltapperError for another kind.
    """
    if kind not in SIMAM:
        raise WheeltapperError(f"simam: expected one of {', '.join(SIMAM)}, found {kind!r}")
    if kind == "none":
        return spectrogram
    return spectrogram * weights(spectrogram, kind)


def enhance_rows(spectrogram: Tensor, kinds: Sequence[str]) -> Tensor:
    """``enhance`` of (B, T, F) with a kind for each row."""
    if len(set(kinds)) == 1:
        return enhance(spectrogram, kinds[0])
    rows = [enhance(row, kind) for row, kind in zip(spectrogram.split(1), kinds, strict=True)]
    return torch.cat(rows)


def weights(spectrogram: Tensor, kind: str) -> Tensor:
    """What ``enhance`` multiplies spectrograms (B, T, F) by, between 0.62 and 1, for ``global`` or ``local``."""
    frames, bins = spectrogram.shape[1:]
    height, width = (frames, bins) if kind == "global" else (PATCH, PATCH)

    def patches(x: Tensor) -> Tensor:
        filled = F.pad(x, (0, -bins % width, 0, -frames % height))
        return filled.unflatten(2, (-1, width)).unflatten(1, (-1, height)).transpose(2, 3).flatten(3)

    x = patches(spectrogram)
    inside = patches(torch.ones_like(spectrogram[:1]))
    count = inside.sum(3, keepdim=True)
    square = (x - x.sum(3, keepdim=True) / count).square() * inside
    variance = square.sum(3, keepdim=True) / (count - 1.0).clamp(min=1.0)  # over n - 1 values, as published
    weight = F.sigmoid(square / (4.0 * (variance + LAMBDA)) + 0.5)
    return weight.unflatten(3, (height, width)).transpose(2, 3).flatten(3).flatten(1, 2)[:, :frames, :bins]
