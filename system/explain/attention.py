"""Attention of transformers over a spectrogram: mean attention distance of each head, attention of the summary tokens.

The encoders compute fused attention. The probabilities are computed here from the inputs of each attention layer, so
the networks need no change.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from system.encoders.base import Encoder
from system.encoders.beats_network import GatedAttention
from system.encoders.transformer import Attention, SeparateProjections
from system.explain.grid import PatchGrid, evaluating, patch_grid, pieces, resize


@dataclass(frozen=True)
class AttentionMaps:
    """Attention over a spectrogram of T frames and F bins, for L layers with H heads.

    Attributes:
        distance: mean attention distance, (L, H), in pixels (a frame or a bin).
        even: the same for uniform attention.
        maps: attention of the summary tokens, averaged over the heads, (L, T, F); 1 is the mean of all patches.
        rollout: attention rollout through all layers, (T, F).
    """

    distance: np.ndarray
    even: float
    maps: np.ndarray
    rollout: np.ndarray


def probabilities(layer: Attention | SeparateProjections, x: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Attention probabilities (R, H, N, N) of a layer's input; rows sum to one over the keys.

    Args:
        layer: ``Attention``, ``SeparateAttention`` or BEATs' ``GatedAttention``, which also takes ``bias``.
        x: (R, N, D).
        bias: position bias.
    """
    if isinstance(layer, Attention):
        q, k, _ = layer.qkv(x).unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return _softmax(q, k)
    q = layer.q_proj(x)
    if not isinstance(layer, GatedAttention):
        return _softmax(layer.heads(q), layer.heads(layer.k_proj(x)))
    # Its keys are in reverse order.
    return _softmax(layer.heads(q), layer.heads(layer.k_proj(x.flip(1))), layer.gate(q) * bias).flip(-1)


def _softmax(q: Tensor, k: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    return (q.float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias).softmax(-1)


def attend(encoder: Encoder, spectrogram: Tensor, mode: str = "") -> AttentionMaps:
    """Attention over a recording; for long recordings the maps of several passes are concatenated.

    The mean attention distance of a head is the mean over the query patches of the distance to the attended patches,
    weighted with the attention (ViT paper, appendix D.7); special tokens are excluded and the weights renormalised.
    Summary tokens are the special tokens (CLS, in AST also the distillation token); for BEATs, whose summary is the
    mean of all patches, they are the patches. In rollout, half of each layer's attention is the residual connection
    (Abnar and Zuidema 2020).

    Args:
        encoder: transformer.
        spectrogram: (1, T, F) of ``Encoder.spectrogram``.
        mode: see ``pieces``. Padding frames count in the distances and are removed from the maps; frames that the mode
            ignores are zero in the maps.

    Raises:
        WheeltapperError: the encoder has no attention, the shape is wrong, or values are not finite.
    """
    parts = pieces(encoder, spectrogram, mode)
    found = [_attend_piece(encoder, part) for part in parts]
    lengths = np.array([part.shape[1] for part in parts], float)
    shares = lengths / lengths.sum()
    frames = spectrogram.shape[1]
    maps = np.concatenate([piece.maps for piece in found], 1)[:, :frames]
    rollout = np.concatenate([piece.rollout for piece in found])[:frames]
    rest = (0, frames - len(rollout))
    return AttentionMaps(
        distance=sum(share * piece.distance for share, piece in zip(shares, found, strict=True)),
        even=float(sum(share * piece.even for share, piece in zip(shares, found, strict=True))),
        maps=np.pad(maps, ((0, 0), rest, (0, 0))),
        rollout=np.pad(rollout, (rest, (0, 0))),
    )


@torch.no_grad()
def _attend_piece(encoder: Encoder, piece: Tensor) -> AttentionMaps:
    frames, bins = piece.shape[1:]
    grid = patch_grid(encoder, frames)
    between = grid.distances().to(piece.device)
    layers = [module for module in encoder.modules() if isinstance(module, Attention | SeparateProjections)]
    kept: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}

    def look(layer: Attention | SeparateProjections, inputs: tuple[Tensor, ...]) -> None:
        attention = probabilities(layer, *inputs)
        kept[layer].append((_distance(attention, grid, between), attention.mean(1)))

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with evaluating(encoder):
            encoder(piece)
    finally:
        for hook in hooks:
            hook.remove()
    # An encoder may process the sequences of a recording in several calls.
    distance = torch.stack([torch.cat([part[0] for part in kept[layer]]).mean(0) for layer in layers])
    means = [torch.cat([part[1] for part in kept[layer]]) for layer in layers]
    shape = (frames, bins)
    return AttentionMaps(
        distance=distance.cpu().double().numpy(),
        even=float(between.mean()),
        maps=np.stack([_map(_of_summary(mean, grid), grid, shape) for mean in means]),
        rollout=_map(_rollout(means, grid), grid, shape),
    )


def _distance(attention: Tensor, grid: PatchGrid, between: Tensor) -> Tensor:
    """Mean attention distance (R, H) of attention (R, H, N, N)."""
    among = attention[..., grid.special :, grid.special :]
    return ((among * between).sum(-1) / among.sum(-1)).mean(-1)


def _of_summary(mean: Tensor, grid: PatchGrid) -> Tensor:
    """Attention (R, N) of the summary tokens, from attention (R, N, N)."""
    return mean[:, : grid.special or None].mean(1)


def _rollout(means: list[Tensor], grid: PatchGrid) -> Tensor:
    """Rollout (R, N) of the summary's attention through all layers."""
    mixed = means[-1].lerp(torch.eye(means[-1].shape[-1], device=means[-1].device), 0.5)
    reached = _of_summary(mixed, grid)
    for mean in reversed(means[:-1]):
        reached = 0.5 * (reached + torch.einsum("rn,rnm->rm", reached, mean))
    return reached


def _map(attention: Tensor, grid: PatchGrid, shape: tuple[int, int]) -> np.ndarray:
    """Attention to tokens (R, N) of the sequences, low band first, as a spectrogram of ``shape``."""
    patches = attention[:, grid.special :]
    patches = patches / patches.mean(-1, keepdim=True).clamp_min(torch.finfo(patches.dtype).tiny)
    frames, bins = shape
    bands = grid.unfold(patches).cpu().double().numpy()
    wide = np.concatenate([resize(band, grid.times, grid.bins, (frames, grid.width)) for band in bands], 1)
    return np.pad(wide, ((0, 0), (0, max(0, bins - wide.shape[1]))))[:, :bins]
