"""Noise-aware layers: after every block of a frozen encoder, near tokens attend to those of the far microphone.

Both signals pass the same frozen blocks. After block k the near tokens become ``layer_k(near, far)``; the far tokens
are those of the plain encoder. A new layer is the identity, whatever the far signal, so that an untrained model equals
its encoder bit for bit. The layers are trained so that the last near tokens become those of the frozen encoder for the
near signal without noise (``pretraining.noise_aware``).

Fujimura et al., "NA-BEATs" (arXiv 2607.16688) and the DCASE 2026 system (arXiv 2608.00447). Two kinds: cross-attention,
and FiLM, which knows the mean of the far tokens only. Networks without a stack of tokens of one width (cnn, mn) have no
place for them.

The authors publish the layers alone, as Lightning checkpoints: the encoder's weights and its settings are given by the
user. ``read`` never runs code from such a file.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders import checkpoints
from system.encoders.linear import Linear
from system.encoders.shapes import building_shapes
from system.errors import WheeltapperError

if TYPE_CHECKING:
    from system.encoders.base import Encoder

EPSILON = 1e-6  # of the RMS norms; torch's default is another one
HEADS = 8  # at most: the largest number up to this that divides the width
HIDDEN = {"cross_attention": 3, "film": 4}  # width of the feed-forward part in widths of the tokens
_PUBLISHED = re.compile(r"(?:model\.)?(?:encoder\.)?fusion_layers\.(\d+)\.(.+)")
_MARK = "film.to_gamma_beta.weight"  # a tensor that FiLM layers alone have

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


def run(
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


def attach(encoder: "Encoder", layers: NoiseAwareLayers, where: str | os.PathLike = "noise-aware layers") -> "Encoder":
    """Gives an encoder noise-aware layers; ``encoder(near, depth, far)`` then uses them.

    Args:
        encoder: of a family that is a stack of blocks of one width, changed in place.
        layers: one for each of its blocks.
        where: their file, for messages.

    Returns:
        The encoder itself.

    Raises:
        WheeltapperError: the layers do not fit the encoder.
    """
    if not encoder.takes_far:
        raise WheeltapperError(f"{where}: expected an encoder of a family with one width, found {encoder.family}")
    width = next(layers[0].parameters()).numel()  # of a norm
    if (len(layers), width) != (encoder.depth, encoder.dim):
        raise WheeltapperError(
            f"{where}: expected {encoder.depth} layers of width {encoder.dim} as in this {encoder.family}, found "
            f"{len(layers)} of width {width}"
        )
    encoder.noise_aware = layers.to(encoder.device).eval()
    return encoder


def save(path: str | os.PathLike, layers: NoiseAwareLayers, base: str, **metadata: Any) -> None:
    """Writes layers as safetensors.

    Args:
        path: file to write.
        layers: the layers.
        base: ``checkpoints.weights_hash`` of the encoder without layers that they were trained on.
        **metadata: further facts to store.
    """
    checkpoints.save(path, layers.state_dict(), {"noise_aware": layers.kind, "base": base, **metadata})


def load(encoder: "Encoder", path: str | os.PathLike) -> "Encoder":
    """Gives an encoder the layers in a file: one that ``save`` wrote, or a published one.

    Args:
        encoder: with the weights that the layers were trained on; for a published file, that is for the user to know.
        path: file.

    Returns:
        The encoder itself.

    Raises:
        WheeltapperError: the file has no such layers, is damaged, or does not fit the encoder.
    """
    loaded = checkpoints.load_file(path, inert=True)
    metadata = loaded.get("metadata")
    base = metadata.get("base", "") if isinstance(metadata, Mapping) else ""
    if base and base != (own := checkpoints.weights_hash(encoder)):
        raise WheeltapperError(f"{path}: expected the encoder that it was trained on, weights {base}, found {own}")
    tensors = dict(_tensors(loaded))
    up = tensors.get("0.ffn.up_proj.weight")
    if not isinstance(up, Tensor) or up.dim() != 2:
        raise WheeltapperError(f"{path}: expected noise-aware layers (fusion_layers.0. ...), found none")
    kind = "film" if f"0.{_MARK}" in tensors else "cross_attention"
    depth = len({name.split(".")[0] for name in tensors})
    with building_shapes():
        layers = NoiseAwareLayers(kind, up.shape[1], depth, hidden=up.shape[0])
    checkpoints.load_strict(layers, tensors, path)
    return attach(encoder, layers, path)


def _tensors(loaded: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names as in ``NoiseAwareLayers`` and tensors. In published files they are in ``state_dict``, which has the moving
    average; ``current_model_state``, the raw ones, and the teacher's weights are passed over."""
    if isinstance(loaded.get("metadata"), Mapping) and "noise_aware" in loaded["metadata"]:
        yield from loaded["model"].items()
        return
    inside = next((loaded[key] for key in ("state_dict", "model") if isinstance(loaded.get(key), Mapping)), loaded)
    for name, tensor in inside.items():
        if match := _PUBLISHED.fullmatch(str(name)):
            yield f"{match[1]}.{match[2]}", tensor


def _zero(*linears: nn.Module) -> None:
    """Makes a new layer the identity."""
    for linear in linears:
        for parameter in linear.parameters():
            nn.init.zeros_(parameter)
