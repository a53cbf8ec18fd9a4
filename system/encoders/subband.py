"""The transformer over sub-bands of FISHER and EAT; EAT is the case of one band.

Rows of a batch are sub-bands: row ``b * bands + k`` is band k of recording b, low to high.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders import wrapped
from system.encoders.base import Encoder, Tokens
from system.encoders.configs import heads_of
from system.encoders.noise_aware_layers import After, run_with_far
from system.encoders.transformer import PostNormBlock, grid_positions, init_linear, init_patches, run_blocks
from system.errors import WheeltapperError


@dataclass(frozen=True)
class SubbandConfig:
    """Sizes of the network; defaults are those of FISHER's released code."""

    embed_dim: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    band_width: int = 100  # bins of 40 Hz: 4 kHz
    patch_size: int = 16
    max_length: int = 128
    max_freq: int = 50
    target_length: int = 1024  # largest number of frames in one pass
    stem: int = 0  # channels of the first of two convolutions before the patches; 0: none, as published


# Options of the released code that this module does not implement, with the accepted value.
_FIXED = {
    "layer_norm_first": False,
    "flatten": "freq",
    "num_extra_tokens": 1,
    "in_chans": 1,
    "prenet_depth": 0,
    "norm_affine": True,
    "use_alibi_encoder": False,
}
_PREFIX = "modality_encoders.IMAGE."
_PUBLISHED = {
    "cls_token": f"{_PREFIX}extra_tokens",
    "patch_embed.weight": f"{_PREFIX}local_encoder.proj.weight",
    "patch_embed.bias": f"{_PREFIX}local_encoder.proj.bias",
    "positions": f"{_PREFIX}fixed_positional_encoder.positions",
    "norm.weight": f"{_PREFIX}context_encoder.norm.weight",
    "norm.bias": f"{_PREFIX}context_encoder.norm.bias",
}
# The same names without the modality prefix, as in EAT's files on model hubs, where the norm has another name.
_BARE = {published.removeprefix(_PREFIX): own for own, published in _PUBLISHED.items()}
_HUB = {name.replace("context_encoder.norm", "pre_norm"): own for name, own in _BARE.items()}
_OWN = {published: own for own, published in _PUBLISHED.items()} | _BARE | _HUB


STEM_STRIDE = 4  # frames and bins per output of the stem
STEM_WIDENING = 2  # of the second convolution of the stem


def stem(channels: int) -> nn.Module:
    """Two convolutions of stride 2 with GELU, before the patches; nothing with 0 channels. Ours.

    A patch is linear in its spectrum, so that its mean over time says nothing about knocks, whose place in the patch is
    random. Means of rectified local differences do.
    """
    if not channels:
        return nn.Identity()
    convolutions = [nn.Conv2d(1, channels, 3, 2, 1), nn.Conv2d(channels, STEM_WIDENING * channels, 3, 2, 1)]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolutions[0], nn.GELU(), convolutions[1], nn.GELU())


class SubbandEncoder(Encoder):
    """Base of FISHER and EAT, which add their front ends."""

    defaults: ClassVar[dict[str, Any]] = {}  # values if a published cfg does not contain a field
    fixed: ClassVar[dict[str, Any]] = {}  # values that distinguish EAT from FISHER
    takes_far = True
    left_out: ClassVar[tuple[str, ...]] = ()  # parts of tensor names that inference does not need

    positions: Tensor

    def __init__(self, config: SubbandConfig):
        super().__init__(config)
        self.stem, inputs, side = stem(config.stem), 1, config.patch_size
        if config.stem:
            inputs, side = STEM_WIDENING * config.stem, config.patch_size // STEM_STRIDE
        self.patch_embed = nn.Conv2d(inputs, config.embed_dim, side, side)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.register_buffer("positions", grid_positions(config.max_length, config.max_freq, config.embed_dim))
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.blocks = nn.ModuleList(
            PostNormBlock(config.embed_dim, config.num_heads, config.mlp_ratio, config.norm_eps)
            for _ in range(config.depth)
        )
        self.apply(init_linear)
        init_patches(self.patch_embed)
        nn.init.normal_(self.cls_token)

    @property
    def patches_per_band(self) -> int:
        return self.config.band_width // self.config.patch_size

    def grid_bands(self, rate: int) -> int:
        return self.bands(rate) * self.patches_per_band

    def split_bands(self, spectrogram: Tensor) -> Tensor:
        """Splits spectrograms (B, T, F) into sub-bands (B * bands, T, band_width).

        Bins above the last whole band are dropped. A spectrum narrower than a band, or a clip shorter than a patch, is
        padded with zeros at the end.
        """
        spectrogram, width = self._fill(spectrogram), self.config.band_width
        batch, frames, bins = spectrogram.shape
        if bins < width:
            spectrogram, bins = F.pad(spectrogram, (0, width - bins)), width
        count = bins // width
        rows = spectrogram[..., : count * width].reshape(batch, frames, count, width)
        return rows.transpose(1, 2).reshape(batch * count, frames, width)

    def embed_patches(self, rows: Tensor) -> Tensor:
        """Patch vectors with positions (R, N, D) of sub-bands (R, T, band_width); frequency varies fastest.

        The position of a token is its index in the sequence, as in the released code. In FISHER the position table has
        50 columns but the grid only 6; the published weights depend on this quirk.
        """
        whole = rows.shape[1] // self.patch_frames * self.patch_frames
        patches = self.patch_embed(self.stem(rows[:, :whole].unsqueeze(1))).flatten(2).transpose(1, 2)
        if patches.shape[1] > self.positions.shape[1]:
            raise WheeltapperError(
                f"clip of {rows.shape[1]} frames: expected at most "
                f"{self.positions.shape[1] // self.patches_per_band * self.config.patch_size} in one pass"
            )
        return patches + self.positions[:, : patches.shape[1]]

    def encode(
        self, patches: Tensor, *, depth: int | None = None, keep: str = "", after: After | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs the blocks over [CLS, patches].

        Args:
            patches: (R, N, D).
            depth: number of blocks to run; None for all.
            keep: activations to return from each block: ``mlp`` or ``block`` (see ``run_blocks``); empty for none.
            after: see ``run_blocks``.

        Returns:
            Tokens (R, 1 + N, D), and a list of activations (R, 1 + N, D), one per block.
        """
        x = self.norm(torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1))
        return run_blocks(self.blocks[:depth], x, keep, after)

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        return self._tokens(depth, len(spectrogram), self.split_bands(spectrogram))

    def _forward_pair(self, near: Tensor, far: Tensor, depth: int | None) -> Tokens:
        return self._tokens(depth, len(near), self.split_bands(near), self.split_bands(far))

    def _tokens(self, depth: int | None, batch: int, rows: Tensor, *far: Tensor) -> Tokens:
        """Tokens of ``batch`` recordings, whose sub-bands are rows; a band attends to the same band of ``far``."""

        def blocks(part: Tensor, after: After | None) -> Tensor:
            return self.encode(self.embed_patches(part), depth=depth, after=after)[0]

        tokens = 1 + rows.shape[1] // self.patch_frames * self.patches_per_band
        x = self._passes(partial(run_with_far, blocks, self.noise_aware), rows, tokens, *far)
        bands, per_band = len(x) // batch, self.patches_per_band
        grid = x[:, 1:].reshape(batch, bands, -1, per_band, self.dim).transpose(1, 2).flatten(2, 3)
        return Tokens(grid, x[:, 0].reshape(batch, bands, self.dim))

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {_PUBLISHED.get(name, name): tensor for name, tensor in state.items()}

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {_OWN.get(name, name): tensor for name, tensor in tensors.items()}

    @classmethod
    def published(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike):
        """See ``Encoder.published``. Accepts the released dict of ``cfg`` and ``model``, or the tensors alone.

        Model hubs store the tensors alone, with any prefix. Sizes then come from shapes and ``settings``.
        """
        expected = f"a {cls.family} checkpoint (dict with cfg.model and model, or its tensors)"
        tensors = wrapped.find_tensors(loaded, ["extra_tokens"], expected, path, cls.left_out, _PREFIX)
        own = cls.from_published(tensors)
        given = _flat(loaded["cfg"], cls.family, path) if "cfg" in loaded else _shapes(own)
        found = {**_table_length(own, cls.defaults), **cls.defaults, **given, **settings}
        if "band_width" not in found and "_name" in found:  # EAT's cfg: it has a class name and no bands
            raise WheeltapperError(f"{path}: cfg.band_width: expected a number as in {cls.family}, found none")
        for name, accepted in (_FIXED | cls.fixed).items():
            if found.get(name, accepted) != accepted:
                raise WheeltapperError(f"{path}: cfg.{name}: expected {accepted}, found {found[name]!r}")
        return cls.make_config(found, path), own

    @classmethod
    def is_possible(cls, config: SubbandConfig) -> bool:
        fits = config.patch_size <= min(config.band_width, config.target_length)
        return super().is_possible(config) and fits and not (config.stem and config.patch_size % STEM_STRIDE)


def _flat(cfg: Any, family: str, path: str | os.PathLike) -> dict[str, Any]:
    """Fields of a published cfg, which are under ``model`` and under its image modality, in one dict."""
    model = cfg.get("model") if isinstance(cfg, dict) else None
    if not isinstance(model, dict):
        raise WheeltapperError(f"{path}: expected a {family} checkpoint with cfg.model, found none")
    modalities = model.get("modalities")
    image = modalities.get("image") if isinstance(modalities, dict) else None
    return {**(image if isinstance(image, dict) else {}), **model}


def _shapes(tensors: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of the network, read from tensor shapes."""
    dim = tensors["cls_token"].numel()
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    return {"embed_dim": dim, "depth": depth, "num_heads": heads_of(dim)}


def _table_length(tensors: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, int]:
    """``max_length`` by the position table, for files without it; the table may be as short as the training clips."""
    table = tensors.get("positions")
    if not isinstance(table, Tensor) or table.dim() != 3:
        return {}
    return {"max_length": table.shape[1] // defaults.get("max_freq", SubbandConfig.max_freq)}
