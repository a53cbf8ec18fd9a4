"""SimAM: attention over a spectrogram that has no parameters (Yang et al. 2021; for machines: EFB paper).

A value that stands out from its surroundings is kept, what is like the rest is damped: with mean m and variance v of
the surroundings, x is multiplied by sigmoid((x - m)^2 / (4 (v + lambda)) + 1/2).
"""

import torch.nn.functional as F
from torch import Tensor

from system.errors import WheeltapperError

SIMAM = ("none", "global", "local")
LAMBDA = 1e-4
PATCH = 32  # frames and bins that ``local`` looks at together


def enhance(spectrogram: Tensor, kind: str) -> Tensor:
    """Applies SimAM to spectrograms (B, T, F), each row for itself.

    Args:
        kind: ``none``; ``global``, the surroundings are the whole spectrogram; ``local``, patches of 32 x 32, the
            last ones in time and frequency smaller where 32 does not divide the size.

    Raises WheeltapperError for another kind.
    """
    if kind == "none":
        return spectrogram
    if kind == "global":
        return _weigh(spectrogram)
    if kind != "local":
        raise WheeltapperError(f"simam: expected one of {', '.join(SIMAM)}, found {kind!r}")
    batch, frames, bins = spectrogram.shape
    if frames % PATCH or bins % PATCH:
        out = spectrogram.new_empty(spectrogram.shape)
        for t in range(0, frames, PATCH):
            for f in range(0, bins, PATCH):
                place = (slice(None), slice(t, t + PATCH), slice(f, f + PATCH))
                out[place] = _weigh(spectrogram[place])
        return out
    patches = spectrogram.view(batch, frames // PATCH, PATCH, bins // PATCH, PATCH).transpose(2, 3)
    weighed = _weigh(patches.reshape(-1, PATCH, PATCH)).view(patches.shape)
    return weighed.transpose(2, 3).reshape(batch, frames, bins)


def _weigh(x: Tensor) -> Tensor:
    """(R, T, F), each row with its own mean and variance (over n - 1 values, as published)."""
    square = (x - x.mean((1, 2), keepdim=True)).square()
    variance = square.sum((1, 2), keepdim=True) / max(1, x.shape[1] * x.shape[2] - 1)
    return x * F.sigmoid(square / (4.0 * (variance + LAMBDA)) + 0.5)
