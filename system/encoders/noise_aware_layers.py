"""The layers of noise_aware.py, and how an encoder's blocks are run with them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders.linear import Linear
from system.errors import WheeltapperError

EPSILON = 1e-6  # of the RMS norms; torch's default is another one
HEADS = 8  # at most: the largest number up to this that divides the width
HIDDEN = {"cross_attention": 3, "film": 4}  # width of the feed-forward part in widths of the tokens

After = Callable[[int, Tensor], Tensor]  # number of a block and its output to what the next block gets


class CrossAttention(nn.Module):
    """Multi-head attention of near tokens to far tokens; names and layout are those of ``nn.MultiheadAttention``."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, far: Tensor) -> Tensor:
        """Attends from (B, N, D) to (B, M, D); returns (B, N, D)."""
        dim = x.shape[-1]
        q = F.linear(x, self.in_proj_weight[:dim], self.in_proj_bias[:dim])
        k, v = F.linear(far, self.in_proj_weight[dim:], self.in_proj_bias[dim:]).chunk(2, -1)
        q, k, v = (each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for each in (q, k, v))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    """``down(silu(gate(x)) * up(x))``."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.gate_proj = Linear(dim, hidden)
        self.up_proj = Linear(dim, hidden)
        self.down_proj = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class CrossAttentionLayer(nn.Module):
    """Cross-attention and a feed-forward part, each with a norm before and a residual around it."""

    def __init__(self, dim: int, hidden: int, num_heads: int):
        super().__init__()
        self.norm_q = nn.RMSNorm(dim, eps=EPSILON)
        self.norm_kv = nn.RMSNorm(dim, eps=EPSILON)
        self.norm_ffn = nn.RMSNorm(dim, eps=EPSILON)
        self.attention = CrossAttention(dim, num_heads)
        self.ffn = GatedFeedForward(dim, hidden)
        _zero(self.attention.out_proj, self.ffn.down_proj)

    def forward(self, x: Tensor, far: Tensor) -> Tensor:
        x = x + self.attention(self.norm_q(x), self.norm_kv(far))
        return x + self.ffn(self.norm_ffn(x))


class FilmLayer(nn.Module):
    """Scale and shift by the mean of the far tokens, and a feed-forward part."""

    def __init__(self, dim: int, hidden: int, num_heads: int):
        super().__init__()
        self.norm_x = nn.RMSNorm(dim, eps=EPSILON)
        self.norm_n_ref = nn.RMSNorm(dim, eps=EPSILON)
        self.norm_ffn = nn.RMSNorm(dim, eps=EPSILON)
        self.film = nn.ModuleDict({"to_gamma_beta": Linear(dim, 2 * dim)})
        self.ffn = GatedFeedForward(dim, hidden)
        _zero(self.film["to_gamma_beta"], self.ffn.down_proj)

    def forward(self, x: Tensor, far: Tensor) -> Tensor:
        gamma, beta = self.film["to_gamma_beta"](self.norm_n_ref(far).mean(1, keepdim=True)).chunk(2, -1)
        x = x + gamma * self.norm_x(x) + beta
        return x + self.ffn(self.norm_ffn(x))


KINDS: dict[str, type[CrossAttentionLayer] | type[FilmLayer]] = {
    "cross_attention": CrossAttentionLayer,
    "film": FilmLayer,
}


class NoiseAwareLayers(nn.ModuleList):
    """One layer for each block of an encoder.

    Args:
        kind: ``cross_attention`` or ``film``.
        dim: width D of the tokens.
        depth: number of blocks.
        hidden: width of the feed-forward part; 0: as published, see HIDDEN.
    """

    def __init__(self, kind: str, dim: int, depth: int, hidden: int = 0):
        self.kind = kind
        hidden = hidden or HIDDEN[kind] * dim
        super().__init__(KINDS[kind](dim, hidden, heads_of(dim)) for _ in range(depth))


def heads_of(dim: int) -> int:
    """Number of heads: as published, eight, or for other widths the largest smaller number that divides them."""
    return max(heads for heads in range(1, HEADS + 1) if dim % heads == 0)


def run_with_far(
    blocks: Callable[[Tensor, After | None], Tensor], layers: NoiseAwareLayers | None, near: Tensor, *far: Tensor
) -> Tensor:
    """Runs tokens through an encoder's blocks, with noise-aware layers if there is a far signal.

    Args:
        blocks: function of the rows of a signal and of what is called after each block.
        layers: of the encoder.
        near: (R, ...), rows of the near signal.
        *far: the same of the far signal, which may have another length; none for the plain encoder.

    Returns:
        Near tokens (R, N, D).
    """
    if not far:
        return blocks(near, None)
    if layers is None:
        raise WheeltapperError("far signal: expected an encoder with noise-aware layers, found one without")
    states: list[Tensor] = []

    def keep(number: int, x: Tensor) -> Tensor:
        states.append(x)
        return x

    blocks(far[0], keep)
    return blocks(near, lambda number, x: layers[number](x, states[number]))


def _zero(*linears: nn.Module) -> None:
    """Makes a new layer the identity."""
    for linear in linears:
        for parameter in linear.parameters():
            nn.init.zeros_(parameter)
