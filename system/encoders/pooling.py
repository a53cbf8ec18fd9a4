"""From a grid of tokens to one vector per recording.

| name | over | numbers | source |
|---|---|---|---|
| mean | time and bands | D | |
| band | time, every band for itself | bands * D | |
| cls | nothing: the encoder's summary | n * D | |
| attentive | time and bands, weights learnt | 2 D | Okabe et al. 2018, attentive statistics |
| gem | time, every band for itself | bands * D | Radenović et al. 2018, generalised mean |
| rdp | time, every band for itself | bands * D | relative deviation pooling |
"""

import torch
from torch import Tensor, nn

from system.config import POOLS
from system.encoders.base import Tokens
from system.errors import WheeltapperError

GEM_POWER = 3.0
RDP_POWER = 4.0
GEM_FLOOR = 1e-6
HIDDEN = 128  # of the attention's hidden layer


def select(tokens: Tokens, pool: str) -> Tensor:
    """The tokens that a kind of pooling looks at: the patch grid (B, T, bands, D), or for ``cls`` the summary as one
    time step (B, 1, n, D)."""
    return tokens.summary.unsqueeze(1) if pool == "cls" else tokens.grid


def pool_tokens(grid: Tensor, pool: str, power: float = 0.0) -> Tensor:
    """Pools (B, T, bands, D) by a kind that has nothing to learn: (B, numbers).

    Args:
        pool: ``mean``; ``band``, ``gem`` or ``rdp``, bands side by side; ``cls`` as ``band`` (its grid has one time
            step).
        power: exponent of ``gem`` and ``rdp``; 0 for 3 and 4.
    """
    if pool == "mean":
        return grid.mean((1, 2))
    if pool in ("band", "cls"):
        return grid.mean(1).flatten(1)
    if pool == "gem":
        return generalised_mean(grid, power or GEM_POWER).flatten(1)
    if pool == "rdp":
        return relative_deviation(grid, power or RDP_POWER).flatten(1)
    if pool == "attentive":
        raise WheeltapperError("pool: attentive pooling must be trained first, in a branch of a recipe")
    raise WheeltapperError(f"pool: expected one of {', '.join(POOLS)}, found {pool!r}")


def generalised_mean(grid: Tensor, power: float) -> Tensor:
    """(mean over time of max(h, 1e-6)^p)^(1/p): (B, T, bands, D) to (B, bands, D). p = 1 is the mean of what is
    positive, a large p the maximum."""
    return grid.clamp_min(GEM_FLOOR).pow(power).mean(1).pow(1.0 / power)


def relative_deviation(grid: Tensor, power: float) -> Tensor:
    """Mean over time that favours moments unlike the others: (B, T, bands, D) to (B, bands, D).

    Within a band the weight of a token is (1 + d / max d)^power, d its distance from the band's mean; power 0, or
    tokens that are all alike, give the mean.
    """
    distance = (grid - grid.mean(1, keepdim=True)).norm(dim=-1)
    furthest = distance.amax(1, keepdim=True)
    weight = (1.0 + distance / torch.where(furthest > 0, furthest, 1.0)).pow(power)
    weight = weight / weight.sum(1, keepdim=True)
    return (weight.unsqueeze(-1) * grid).sum(1)


class AttentiveStatistics(nn.Module):
    """Weighted mean and deviation over all tokens, weights softmax(v tanh(W h + b)): (B, T, bands, D) to (B, 2 D)."""

    def __init__(self, dim: int):
        super().__init__()
        self.attention = nn.Sequential(nn.Linear(dim, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))

    def forward(self, grid: Tensor) -> Tensor:
        tokens = grid.flatten(1, 2)
        weight = self.attention(tokens).softmax(1)
        mean = (weight * tokens).sum(1)
        variance = (weight * (tokens - mean.unsqueeze(1)).square()).sum(1)
        return torch.cat([mean, variance.clamp_min(1e-8).sqrt()], 1)


class Pooling(nn.Module):
    """Any kind of pooling as a module: (B, T, bands, D) to (B, numbers)."""

    def __init__(self, pool: str, power: float, dim: int):
        super().__init__()
        self.pool, self.power = pool, power
        self.attentive = AttentiveStatistics(dim) if pool == "attentive" else None

    def forward(self, grid: Tensor) -> Tensor:
        return self.attentive(grid) if self.attentive else pool_tokens(grid, self.pool, self.power)
