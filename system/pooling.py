"""From a grid of tokens to one vector per recording."""

from torch import Tensor

from system.encoders.fisher import Tokens
from system.errors import WheeltapperError


def select(tokens: Tokens, pool: str) -> Tensor:
    """The tokens that a kind of pooling looks at: the patch grid (B, T, bands, D), or for ``cls`` the summary as one
    time step (B, 1, n, D)."""
    return tokens.summary.unsqueeze(1) if pool == "cls" else tokens.grid


def pool_tokens(grid: Tensor, pool: str) -> Tensor:
    """Pools (B, T, bands, D).

    Args:
        pool: ``mean`` over time and bands, (B, D); ``band`` over time only, bands side by side, (B, bands * D);
            ``cls`` as ``band`` (its grid has one time step).
    """
    if pool == "mean":
        return grid.mean((1, 2))
    if pool in ("band", "cls"):
        return grid.mean(1).flatten(1)
    raise WheeltapperError(f"pool: expected mean, band or cls, found {pool!r}")
