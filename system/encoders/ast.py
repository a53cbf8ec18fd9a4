"""AST: a ViT over overlapping patches of a filter-bank spectrogram, trained on AudioSet's labels (Gong et al. 2021).

Checkpoints are those of the authors and those of Hugging Face's transformers.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from system.encoders import checkpoints, wrapped
from system.encoders.base import Encoder, Mode, Tokens
from system.encoders.configs import heads_of
from system.encoders.eat import AUDIOSET_DEVIATION, AUDIOSET_MEAN
from system.encoders.transformer import PreNormBlock, SeparateAttention, init_linear, init_patches
from system.errors import WheeltapperError
from system.frontends.kaldi import BINS, FILTERBANKS, fbank


@dataclass(frozen=True)
class AstConfig:
    """Sizes of the network; defaults are the published ones."""

    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-12
    patch_size: int = 16
    frequency_stride: int = 10
    time_stride: int = 10
    bins: int = BINS
    target_length: int = 1024  # frames that the position table covers

    @property
    def grid(self) -> tuple[int, int]:
        """Patches over all bins and over ``target_length`` frames."""
        rows = (self.bins - self.patch_size) // self.frequency_stride + 1
        return rows, (self.target_length - self.patch_size) // self.time_stride + 1


# Field names of transformers to ours.
_SETTINGS = {
    "hidden_size": "embed_dim",
    "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads",
    "layer_norm_eps": "norm_eps",
    "num_mel_bins": "bins",
    "max_length": "target_length",
}
# Options of transformers that this module does not implement, with the accepted value.
_FIXED = {"hidden_act": "gelu", "qkv_bias": True}
_OUTER = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    "positions": "embeddings.position_embeddings",
    "patch_embed.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
# Parts of a block: our name, the name in transformers 5, the name in files on the hub.
_INNER = (
    ("norm1", "layernorm_before", "layernorm_before"),
    ("attn.q_proj", "attention.q_proj", "attention.attention.query"),
    ("attn.k_proj", "attention.k_proj", "attention.attention.key"),
    ("attn.v_proj", "attention.v_proj", "attention.attention.value"),
    ("attn.out_proj", "attention.o_proj", "attention.output.dense"),
    ("norm2", "layernorm_after", "layernorm_after"),
    ("mlp.fc1", "mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "mlp.fc2", "output.dense"),
)
# The authors' names, below their prefix ``module.v.``; parts of a block that have other names than here.
_AUTHORS = {"pos_embed": "positions", "patch_embed.proj.weight": "patch_embed.weight"}
_AUTHORS |= {"patch_embed.proj.bias": "patch_embed.bias"}
_QKV = re.compile(r"(blocks\.\d+\.attn)\.(qkv|proj)\.(weight|bias)")
# Stride of the patches by their number over 1024 frames: the authors published these four.
_STRIDES = {1212: 10, 850: 12, 657: 14, 512: 16}
_LAYER = re.compile(r"(layers|encoder\.layer)\.(\d+)\.(.+)\.(weight|bias)")
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")


class Ast(Encoder):
    """AST encoder. Summary and embedding are the mean of the CLS token and the distillation token.

    ``forward`` applies the final norm to the output of the last block only, because it was not trained for earlier
    ones. Clips shorter than the position table are not padded; they get its first columns.
    """

    family = "AST"
    rate = 16000
    lora_targets = ("q_proj", "v_proj")
    filterbanks = FILTERBANKS
    modes = {
        "official": Mode("transformers: first 1024 frames, padded with zeros", "pad"),
        "chunks": Mode("recordings of any length, without padding", "tail"),
    }
    # base is published; nano is our own.
    SIZES = {
        "nano": AstConfig(embed_dim=128, depth=4, num_heads=2),
        "base": AstConfig(),
    }
    pad_value = -AUDIOSET_MEAN / (2.0 * AUDIOSET_DEVIATION)  # zero before normalisation

    def __init__(self, config: AstConfig):
        super().__init__(config)
        dim, (rows, columns) = config.embed_dim, config.grid
        strides = (config.frequency_stride, config.time_stride)
        self.patch_embed = nn.Conv2d(1, dim, config.patch_size, strides)  # over (frequency, time)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, 2 + rows * columns, dim))
        self.blocks = nn.ModuleList(
            PreNormBlock(dim, SeparateAttention(dim, config.num_heads), config.mlp_ratio, config.norm_eps)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.apply(init_linear)
        init_patches(self.patch_embed)
        for table in (self.cls_token, self.dist_token, self.positions):
            nn.init.normal_(table, std=0.02)

    def grid_bands(self, rate: int) -> int:
        return self.config.grid[0]

    def layers(self) -> list[list[nn.Module]]:
        """See ``Encoder.layers``: the blocks, the last one with the final norm."""
        last, *others = reversed(self.blocks)
        return [[last, self.norm], *([block] for block in others)]

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        energies = fbank(wave, rate, "hanning", self.filterbank, self.config.bins)
        return energies.sub_(AUDIOSET_MEAN).div_(2.0 * AUDIOSET_DEVIATION)

    def encode(self, spectrogram: Tensor, depth: int | None = None) -> Tensor:
        """Tokens (B, 2 + N, D) after ``depth`` blocks, without the final norm.

        The CLS token comes first, then the distillation token, then the patches, time varying fastest.

        Args:
            spectrogram: (B, T, bins) with patch_frames <= T <= frame_limit.
            depth: number of blocks to run; None for all.
        """
        patches = self.patch_embed(spectrogram.transpose(1, 2).unsqueeze(1))
        rows, columns = self.config.grid
        table = self.positions[:, 2:].unflatten(1, (rows, columns))[:, :, : patches.shape[-1]]
        patches = patches.flatten(2).transpose(1, 2) + table.flatten(1, 2)
        first = torch.cat([self.cls_token, self.dist_token], 1) + self.positions[:, :2]
        x = torch.cat([first.expand(len(patches), -1, -1), patches], 1)
        for block in self.blocks[:depth]:
            x = block(x)
        return x

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        rows = self.config.grid[0]
        columns = (spectrogram.shape[1] - self.patch_frames) // self.config.time_stride + 1
        x = self._passes(lambda part: self.encode(part, depth), spectrogram, 2 + rows * columns)
        if depth in (None, self.depth):
            x = self.norm(x)
        return Tokens(x[:, 2:].unflatten(1, (rows, columns)).transpose(1, 2), x[:, :2].mean(1, keepdim=True))

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Renames tensors to the names in transformers 5."""
        parts = {own: published for own, published, _ in _INNER}
        names = {}
        for name in state:
            match = _BLOCK.fullmatch(name)
            names[name] = f"layers.{match[1]}.{parts[match[2]]}.{match[3]}" if match else _OUTER[name]
        return {names[name]: tensor for name, tensor in state.items()}

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outer = {published: own for own, published in _OUTER.items()}
        styles = {"layers": {new: own for own, new, _ in _INNER}, "encoder.layer": {old: own for own, _, old in _INNER}}
        names = {}
        for name in tensors:
            match = _LAYER.fullmatch(name)
            part = styles[match[1]].get(match[3]) if match else None
            names[name] = f"blocks.{match[2]}.{part}.{match[4]}" if match and part else outer.get(name, name)
        return {names[name]: tensor for name, tensor in tensors.items()}

    @classmethod
    def published(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike):
        """See ``Encoder.published``. Accepts the names of the authors, of transformers 5 and of files on the hub.

        Any prefix is accepted, and the classifier is ignored. Strides, lengths and heads come from ``config.json``;
        without it they are those of the published checkpoints, with 64 channels per head.
        """
        expected = "an AST checkpoint (tensors as transformers or its authors name them)"
        if any(f".{name}".endswith(".dist_token") for name in loaded["model"]):
            needs = ["dist_token", "cls_token", "pos_embed", "patch_embed.proj.weight"]
            own = _from_authors(wrapped.find_tensors(loaded, needs, expected, path))
        else:
            needs = ["embeddings.distillation_token"]
            own = cls.from_published(wrapped.find_tensors(loaded, needs, expected, path, (".classifier.",)))
        given = {own: settings[name] for name, own in _SETTINGS.items() if name in settings} | settings
        for name, accepted in _FIXED.items():
            if given.get(name, accepted) != accepted:
                raise WheeltapperError(f"{path}: {name}: expected {accepted}, found {given[name]!r}")
        statistics = checkpoints.read_config_beside(path, "preprocessor_config.json")
        for name, accepted in (("mean", AUDIOSET_MEAN), ("std", AUDIOSET_DEVIATION)):
            if statistics.get(name, accepted) != accepted:  # other statistics belong to other weights
                found = statistics[name]
                raise WheeltapperError(
                    f"{path}: preprocessor_config.json: {name}: expected AudioSet's {accepted}, found {found!r}"
                )
        return cls.make_config({**_shapes(own), **given}, path), own

    @classmethod
    def is_possible(cls, config: AstConfig) -> bool:
        return super().is_possible(config) and config.patch_size <= min(config.bins, config.target_length)


def _from_authors(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors under our own names; the authors' file holds the queries, keys and values of a block in one."""
    own: dict[str, Any] = {}
    for name, tensor in tensors.items():
        match = _QKV.fullmatch(name)
        if match and match[2] == "qkv" and isinstance(tensor, Tensor) and tensor.dim() and len(tensor) % 3 == 0:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                own[f"{match[1]}.{part}_proj.{match[3]}"] = piece
        elif match and match[2] == "proj":
            own[f"{match[1]}.out_proj.{match[3]}"] = tensor
        else:
            own[_AUTHORS.get(name, name)] = tensor
    return own


def _shapes(tensors: Mapping[str, Any]) -> dict[str, float]:
    """Sizes of the network, read from tensor shapes."""
    dim = max(1, tensors["dist_token"].numel())
    found = {
        "embed_dim": dim,
        "depth": len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        "num_heads": heads_of(dim),
    }
    table = tensors.get("positions")
    stride = _STRIDES.get(table.shape[1] - 2) if isinstance(table, Tensor) and table.dim() == 3 else None
    found |= {"frequency_stride": stride, "time_stride": stride} if stride else {}
    first = tensors.get("blocks.0.mlp.fc1.weight")
    return {**found, "mlp_ratio": len(first) / dim} if isinstance(first, Tensor) and first.dim() == 2 else found
