"""Pooling of a grid of tokens to one vector per recording.

| name | averages over | dimension | source |
|---|---|---|---|
| mean | time and bands | D | |
| band | time, per band | bands * D | |
| cls | nothing: the encoder's summary | n * D | |
| attentive | time and bands, with learned weights | 2 D | Okabe et al. 2018, attentive statistics |
| gem | time, per band | bands * D | Radenović et al. 2018, generalised mean |
| rdp | time, per band | bands * D | relative deviation pooling |
"""

import torch
from torch import Tensor, nn

from system.config import POOLS
from system.encoders.base import Tokens
from system.errors import WheeltapperError

GEM_POWER = 3.0
RDP_POWER = 4.0
GEM_FLOOR = 1e-6
HIDDEN = 128  # units in the hidden layer of the attention


def select(tokens: Tokens, pool: str) -> Tensor:
    """Tokens that a pooling method uses: the grid (B, T, bands, D), or for ``cls`` the summary as (B, 1, n, D)."""
    return tokens.summary.unsqueeze(1) if pool == "cls" else tokens.grid


def pool_tokens(grid: Tensor, pool: str, power: float = 0.0) -> Tensor:
    """Pools tokens by a method without parameters.

    Args:
        grid: (B, T, bands, D).
        pool: ``mean``, ``band``, ``gem``, ``rdp``, or ``cls``, which is ``band`` over one time step.
        power: exponent of ``gem`` and ``rdp``; 0 for the defaults 3 and 4.

    Returns:
        (B, D), or (B, bands * D) for all methods but ``mean``.

    Raises:
        WheeltapperError: unknown method, or ``attentive``, which has parameters.
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
    """Generalised mean over time, (mean of max(h, 1e-6)^p)^(1/p).

    p = 1 is the mean of the positive parts; large p approaches the maximum.

    Args:
        grid: (B, T, bands, D).
        power: exponent p.

    Returns:
        (B, bands, D).
    """
    return grid.clamp_min(GEM_FLOOR).pow(power).mean(1).pow(1.0 / power)


def relative_deviation(grid: Tensor, power: float) -> Tensor:
    """Weighted mean over time with larger weights for tokens far from the mean (relative deviation pooling).

    The weight of a token is (1 + d / max d)^power, where d is its distance from the mean of its band. With power 0, or
    if all tokens are equal, this is the mean.

    Args:
        grid: (B, T, bands, D).
        power: exponent of the weight.

    Returns:
        (B, bands, D).
    """
    distance = (grid - grid.mean(1, keepdim=True)).norm(dim=-1)
    furthest = distance.amax(1, keepdim=True)
    weight = (1.0 + distance / torch.where(furthest > 0, furthest, 1.0)).pow(power)
    weight = weight / weight.sum(1, keepdim=True)
    return (weight.unsqueeze(-1) * grid).sum(1)


class AttentiveStatistics(nn.Module):
    """Weighted mean and deviation over all tokens, with weights softmax(v tanh(W h + b)).

    Takes (B, T, bands, D), returns (B, 2 D).
    """

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
    """Any pooling method as a module: takes (B, T, bands, D), returns (B, dimension)."""

    def __init__(self, pool: str, power: float, dim: int):
        super().__init__()
        self.pool, self.power = pool, power
        self.attentive = AttentiveStatistics(dim) if pool == "attentive" else None

    def forward(self, grid: Tensor) -> Tensor:
        return self.attentive(grid) if self.attentive else pool_tokens(grid, self.pool, self.power)
