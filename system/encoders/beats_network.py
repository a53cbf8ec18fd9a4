"""The network of BEATs (Chen et al. 2023).

Positions come from a convolution over the tokens and from a gated relative position bias in attention. Layers have
scaled residuals (deep norm, Wang et al. 2022).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from system.encoders.linear import Linear, linear_gelu
from system.encoders.noise_aware_layers import After
from system.encoders.transformer import SeparateProjections

BIAS_NUMBERS = 1 << 18  # values of the attention bias that a CPU processes at once, so that they stay in its cache
TAPS = 8  # taps of the position convolution that a CPU multiplies at once


@dataclass(frozen=True)
class BeatsConfig:
    """Sizes of the network; defaults are those of the published checkpoint (``max_distance``: released code)."""

    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072  # width of the feed-forward layers
    patch_dim: int = 512
    patch_size: int = 16
    conv_pos: int = 128  # tokens that the position convolution spans
    conv_pos_groups: int = 16
    num_buckets: int = 320  # buckets of relative positions, half of them for following tokens
    max_distance: int = 1280  # in tokens; larger distances share the last bucket


class PositionConv(nn.Module):
    """Position encoding by a grouped convolution over the sequence, with weight normalisation per tap.

    ``weight_v`` (groups, taps, inputs, outputs) is the published tensor (outputs, inputs, taps), reordered for the
    matrix products below. Tap k is ``weight_g[k] / |weight_v[k]| * weight_v[k]``.
    """

    def __init__(self, dim: int, taps: int, groups: int):
        super().__init__()
        self.weight_g = nn.Parameter(torch.empty(1, 1, taps))
        self.weight_v = nn.Parameter(torch.empty(groups, taps, dim // groups, dim // groups))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.normal_(self.weight_v, std=math.sqrt(4.0 / (taps * dim)))
        with torch.no_grad():
            self.weight_g.copy_(self.norms().view(1, 1, -1))

    def norms(self) -> Tensor:
        """Norm of ``weight_v`` per tap, float32 (taps,)."""
        return torch.linalg.vector_norm(self.weight_v, dim=(0, 2, 3), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """Position encodings (B, N, D) of tokens (B, N, D)."""
        gain = (self.weight_g.flatten() / self.norms()).view(-1, 1, 1)
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
            weight = (self.weight_v * gain).to(x.dtype).permute(0, 3, 2, 1).flatten(0, 1)
            groups, taps = self.weight_v.shape[:2]
            out = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=taps // 2, groups=groups)
            return F.gelu(out[..., : x.shape[1]]).transpose(1, 2)
        return F.gelu(self._products(x, gain).add_(self.bias))

    def _products(self, x: Tensor, gain: Tensor) -> Tensor:
        """The convolution as matrix products over a few taps at a time, which is faster than torch's on CPUs.

        Each row of ``near`` holds a token and its successors, TAPS in all, concatenated.
        """
        groups, taps, width, _ = self.weight_v.shape
        batch, length, _ = x.shape
        step = math.gcd(taps, TAPS)
        x = F.pad(x, (0, 0, taps // 2, (taps - 1) // 2)).unflatten(-1, (groups, width))
        out = x.new_empty(batch, length, groups, width)
        for group in range(groups):
            weight = (self.weight_v[group] * gain).view(taps // step, step * width, width)
            for clip in range(batch):
                near = x[clip, :, group].reshape(-1).unfold(0, step * width, width).contiguous()
                total = near[:length] @ weight[0]
                for part in range(1, len(weight)):
                    torch.addmm(total, near[part * step : part * step + length], weight[part], out=total)
                out[clip, :, group] = total
        return out.flatten(2)


class GatedAttention(SeparateProjections):
    """Self-attention with a relative position bias that is scaled by a gate of every query.

    With ``grep_a`` = 1 the gate is between 1 and 2. All layers share the bias.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__(dim, num_heads)
        self.grep_linear = nn.Linear(dim // num_heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, num_heads, 1, 1))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attends (B, N, D) with the bias of ``Stack.relative_bias``; returns (B, N, D)."""
        backwards = x.flip(1)  # keys in the order of the bias; attention does not depend on their order
        q = self.q_proj(x)
        k, v = self.heads(self.k_proj(backwards)), self.heads(self.v_proj(backwards))
        attended = _attend(self.heads(q), k, v, self.gate(q), bias)
        return self.out_proj(attended.flatten(2))

    def gate(self, q: Tensor) -> Tensor:
        """Gate (B, heads, N, 1) of queries (B, N, D)."""
        opened = self.grep_linear(q.unflatten(-1, (self.num_heads, -1))).unflatten(-1, (2, 4)).sum(-1).sigmoid()
        first, second = opened.transpose(1, 2).split(1, -1)
        return first * (second * self.grep_a - 1.0) + 2.0


def _attend(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, bias: Tensor) -> Tensor:
    """Attention (B, H, N, d) with logits q k / sqrt(d) + gate * bias, gate (B, H, N, 1), bias (H, N, N): (B, N, H, d).

    The gated bias is the largest activation. In training it is computed again for the gradients instead of being kept
    for every layer. At inference on a CPU only a few heads are computed at a time.
    """
    if torch.is_grad_enabled():
        return checkpoint(_attend_at_once, q, k, v, gate, bias, use_reentrant=False, preserve_rng_state=False)
    if q.device.type != "cpu":
        return _attend_at_once(q, k, v, gate, bias)
    batch, heads, length, width = q.shape
    step = min(heads, max(1, BIAS_NUMBERS // length**2))
    out = q.new_empty(batch, length, heads, width)
    buffer = q.new_empty(1, step, length, length)
    for clip in range(batch):
        for head in range(0, heads, step):
            part = slice(clip, clip + 1), slice(head, head + step)
            mask = buffer[:, : min(step, heads - head)]
            torch.mul(gate[part], bias[part[1]], out=mask)
            out[clip, :, part[1]] = F.scaled_dot_product_attention(q[part], k[part], v[part], mask)[0].transpose(0, 1)
    return out


def _attend_at_once(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, bias: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, (gate * bias).to(q.dtype)).transpose(1, 2)


def position_buckets(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket indices of relative positions (key minus query), in tokens.

    The upper half of the buckets is for keys after the query. Within each half, the first half of the buckets holds one
    distance each, and the others widen logarithmically up to ``max_distance``. Computed in single precision as in the
    released code, which matters at the edges of the buckets.
    """
    half = num_buckets // 2
    exact = half // 2
    far = distance.abs()
    octaves = torch.log(far.clamp_min(exact).float() / exact) / math.log(max_distance / exact)
    coarse = (exact + (octaves * (half - exact)).long()).clamp_max(half - 1)
    return torch.where(far < exact, far, coarse) + half * (distance > 0)


class BeatsLayer(nn.Module):
    """Attention and feed-forward layer, each followed by a scaled residual and a norm (deep norm)."""

    def __init__(self, config: BeatsConfig):
        super().__init__()
        self.alpha = (2.0 * config.depth) ** 0.25
        self.self_attn = GatedAttention(config.embed_dim, config.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.embed_dim)
        self.fc1 = Linear(config.embed_dim, config.hidden_dim)
        self.fc2 = Linear(config.hidden_dim, config.embed_dim)
        self.final_layer_norm = nn.LayerNorm(config.embed_dim)
        gain = (8.0 * config.depth) ** -0.25  # for encoders in Wang et al. 2022
        for name, linear in self.named_modules():
            if isinstance(linear, nn.Linear):
                small = name.rsplit(".", 1)[-1] in ("v_proj", "out_proj", "fc1", "fc2")
                nn.init.xavier_normal_(linear.weight, gain if small else 1.0)
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(torch.add(self.self_attn(x, bias), x, alpha=self.alpha))
        return self.final_layer_norm(torch.add(self.fc2(linear_gelu(self.fc1, x)), x, alpha=self.alpha))


class Stack(nn.Module):
    """The transformer: position encoding, then layers."""

    def __init__(self, config: BeatsConfig):
        super().__init__()
        self.config = config
        self.pos_conv = PositionConv(config.embed_dim, config.conv_pos, config.conv_pos_groups)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.relative_attention_bias = nn.Embedding(config.num_buckets, config.num_heads)
        self.layers = nn.ModuleList(BeatsLayer(config) for _ in range(config.depth))
        nn.init.xavier_normal_(self.relative_attention_bias.weight)

    def relative_bias(self, length: int) -> Tensor:
        """Bias (heads, N, N) of query i and the j-th key from the end.

        It depends on i + j only, so it is a strided view of 2 N - 1 numbers, without a copy.
        """
        distance = torch.arange(length - 1, -length, -1, device="cpu")  # on the CPU, so that rounding is the same
        buckets = position_buckets(distance, self.config.num_buckets, self.config.max_distance)
        table = self.relative_attention_bias(buckets.to(self.relative_attention_bias.weight.device))
        return table.T.contiguous().unfold(-1, length, 1)

    def forward(self, x: Tensor, depth: int | None = None, after: After | None = None) -> Tensor:
        """Tokens (B, N, D) after ``depth`` layers (None for all) of tokens (B, N, D); ``after`` each layer if given."""
        bias = self.relative_bias(x.shape[1])
        x = self.layer_norm(x + self.pos_conv(x))
        for number, layer in enumerate(self.layers[:depth]):
            x = layer(x, bias)
            if after:
                x = after(number, x)
        return x
