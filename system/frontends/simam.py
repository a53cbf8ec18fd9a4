"""SimAM: parameter-free attention over a spectrogram (Yang et al. 2021; for machine sounds: EFB paper).

Values that differ from their surroundings are kept, and the others are attenuated: x is multiplied by
sigmoid((x - m)^2 / (4 (v + lambda)) + 1/2), with mean m and variance v of the surroundings.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from system.config import SIMAM
from system.errors import WheeltapperError

LAMBDA = 1e-4
PATCH = 32  # frames and bins of a patch in ``local``


def enhance(spectrogram: Tensor, kind: str) -> Tensor:
    """Applies SimAM to each spectrogram of a batch.

    Args:
        spectrogram: (B, T, F).
        kind: surroundings of a value: ``global`` for the whole spectrogram, ``local`` for patches of 32 x 32 (smaller
            at the end of time and frequency), ``none`` to return the input.

    Returns:
        (B, T, F).

    Raises:
        WheeltapperError: unknown kind.
    """
    if kind not in SIMAM:
        raise WheeltapperError(f"simam: expected one of {', '.join(SIMAM)}, found {kind!r}")
    if kind == "none":
        return spectrogram
    return spectrogram * weights(spectrogram, kind)


def enhance_rows(spectrogram: Tensor, kinds: Sequence[str]) -> Tensor:
    """``enhance`` for spectrograms (B, T, F) with a separate kind for each."""
    if len(set(kinds)) == 1:
        return enhance(spectrogram, kinds[0])
    rows = [enhance(row, kind) for row, kind in zip(spectrogram.split(1), kinds, strict=True)]
    return torch.cat(rows)


def weights(spectrogram: Tensor, kind: str) -> Tensor:
    """Weights (B, T, F) of SimAM, between 0.62 and 1, for spectrograms (B, T, F); kind ``global`` or ``local``."""
    frames, bins = spectrogram.shape[1:]
    height, width = (frames, bins) if kind == "global" else (PATCH, PATCH)

    def patches(x: Tensor) -> Tensor:
        filled = F.pad(x, (0, -bins % width, 0, -frames % height))
        return filled.unflatten(2, (-1, width)).unflatten(1, (-1, height)).transpose(2, 3).flatten(3)

    x = patches(spectrogram)
    inside = patches(torch.ones_like(spectrogram[:1]))
    count = inside.sum(3, keepdim=True)
    square = (x - x.sum(3, keepdim=True) / count).square() * inside
    variance = square.sum(3, keepdim=True) / (count - 1.0).clamp(min=1.0)  # unbiased, as published
    weight = F.sigmoid(square / (4.0 * (variance + LAMBDA)) + 0.5)
    return weight.unflatten(3, (height, width)).transpose(2, 3).flatten(3).flatten(1, 2)[:, :frames, :bins]
