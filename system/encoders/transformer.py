"""Shared parts of the transformers: attention, MLP, blocks, fixed position encodings."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders.linear import Linear, linear_gelu
from system.encoders.noise_aware_layers import After
from system.encoders.shapes import shapes_alone


class Attention(nn.Module):
    """Multi-head self-attention with one joint matrix for query, key and value, in that order."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, dim = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.num_heads, dim // self.num_heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(rows, length, dim))


class SeparateProjections(nn.Module):
    """Separate matrices for query, key, value and output of multi-head self-attention."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(dim, dim)
        self.v_proj = Linear(dim, dim)
        self.out_proj = Linear(dim, dim)

    def heads(self, x: Tensor) -> Tensor:
        """Splits (B, N, D) into heads (B, heads, N, D / heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class SeparateAttention(SeparateProjections):
    """Multi-head self-attention with separate matrices for query, key and value."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU in between."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(linear_gelu(self.fc1, x))


class PostNormBlock(nn.Module):
    """Transformer block with the norm after each residual; returns its output and its MLP's output."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, eps: float):
        super().__init__()
        self.attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.norm2 = nn.LayerNorm(dim, eps=eps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm1(x + self.attn(x))
        update = self.mlp(x)
        return self.norm2(x + update), update


def run_blocks(
    blocks: Iterable[nn.Module], x: Tensor, keep: str = "", after: After | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Runs tokens through transformer blocks.

    Args:
        blocks: modules that return what ``PostNormBlock`` returns.
        x: (R, N, D).
        keep: activations to keep from each block: ``mlp`` for the MLP's output before the residual, ``block`` for the
            block's output, empty for none.
        after: function of a block's number and output that returns what the next block gets; None for none.

    Returns:
        Tokens (R, N, D), and a list of kept activations (R, N, D).
    """
    kept = []
    for number, block in enumerate(blocks):
        x, update = block(x)
        if after:
            x = after(number, x)
        if keep:
            kept.append(update if keep == "mlp" else x)
    return x, kept


class PreNormBlock(nn.Module):
    """Transformer block with norms before attention and before the MLP, as in ViT."""

    def __init__(self, dim: int, attention: nn.Module, mlp_ratio: float, eps: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def sine_cosine(position: Tensor, dim: int) -> Tensor:
    """Fixed encoding (N, dim) of positions (N,): sines, then cosines, with frequencies 10000^(-2 j / dim)."""
    omega = 10000.0 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = position.double()[:, None] * omega
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def grid_positions(max_length: int, max_freq: int, dim: int) -> Tensor:
    """Fixed 2-D position table (1, max_length * max_freq, dim).

    Row t * max_freq + f encodes frequency f in its first half and time t in its second.
    """
    if shapes_alone():
        return torch.empty(1, max_length * max_freq, dim // 4 * 4)
    row = torch.arange(max_length * max_freq)
    time = torch.div(row, max_freq, rounding_mode="floor")
    table = torch.cat([sine_cosine(row % max_freq, dim // 2), sine_cosine(time, dim // 2)], dim=1)
    return table.float().unsqueeze(0)


def init_linear(module: nn.Module) -> None:
    """Initialises linear layers as in BERT (normal, deviation 0.02, zero bias), for ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def init_patches(conv: nn.Conv2d) -> None:
    """Initialises a patch embedding: Glorot uniform over the flattened kernel, zero bias."""
    nn.init.xavier_uniform_(conv.weight.view(conv.out_channels, -1))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
