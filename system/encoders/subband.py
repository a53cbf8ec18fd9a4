"""The transformer over sub-bands that FISHER and EAT have in common: EAT is the case of one band.

Rows of a batch are sub-bands: row ``b * bands + k`` is band k of recording b, low to high.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders import checkpoints
from system.encoders.base import Encoder, Tokens, heads_of
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
    target_length: int = 1024  # frames that one forward pass takes at most


# Settings that the released code can express and this module does not build: value that is accepted.
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
# The same without the modality; model hubs, which keep EAT so, call the norm otherwise.
_BARE = {published.removeprefix(_PREFIX): own for own, published in _PUBLISHED.items()}
_HUB = {name.replace("context_encoder.norm", "pre_norm"): own for name, own in _BARE.items()}
_OWN = {published: own for own, published in _PUBLISHED.items()} | _BARE | _HUB


class SubbandEncoder(Encoder):
    """The network; FISHER and EAT add their front ends."""

    defaults: ClassVar[dict[str, Any]] = {}  # what a published cfg means where it does not say it
    fixed: ClassVar[dict[str, Any]] = {}  # values that tell the family from its sibling
    left_out: ClassVar[tuple[str, ...]] = ()  # parts of a published file that inference has no use for

    positions: Tensor

    def __init__(self, config: SubbandConfig):
        super().__init__(config)
        self.patch_embed = nn.Conv2d(1, config.embed_dim, config.patch_size, config.patch_size)
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
        """(B, T, F) to sub-bands (B * bands, T, band_width).

        Bins above the last whole band are dropped, a spectrum narrower than a band is filled with zeros on the right,
        as are clips shorter than one patch in time.
        """
        spectrogram, width = self._fill(spectrogram), self.config.band_width
        batch, frames, bins = spectrogram.shape
        if bins < width:
            spectrogram, bins = F.pad(spectrogram, (0, width - bins)), width
        count = bins // width
        rows = spectrogram[..., : count * width].reshape(batch, frames, count, width)
        return rows.transpose(1, 2).reshape(batch * count, frames, width)

    def embed_patches(self, rows: Tensor) -> Tensor:
        """Sub-bands (R, T, band_width) to patch vectors with positions (R, N, D), time-major, frequency fastest.

        The position of a token is its number in the sequence, as in the released code. In FISHER the table's rows are
        50 wide and the grid is 6: a quirk that trained weights depend on.
        """
        patches = self.patch_embed(rows.unsqueeze(1)).flatten(2).transpose(1, 2)
        if patches.shape[1] > self.positions.shape[1]:
            raise WheeltapperError(
                f"a clip of {rows.shape[1]} frames: expected at most "
                f"{self.positions.shape[1] // self.patches_per_band * self.config.patch_size} in one pass"
            )
        return patches + self.positions[:, : patches.shape[1]]

    def encode(self, patches: Tensor, *, depth: int | None = None, keep: str = "") -> tuple[Tensor, list[Tensor]]:
        """Runs the blocks over [CLS, patches].

        Args:
            patches: (R, N, D).
            depth: number of blocks to run; all where None.
            keep: what to return of each block: ``mlp`` or ``block`` (see ``run_blocks``).

        Returns:
            tokens (R, 1 + N, D) and, per block, what is kept (R, 1 + N, D).
        """
        x = self.norm(torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1))
        return run_blocks(self.blocks[:depth], x, keep)

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        batch = len(spectrogram)
        rows = self.split_bands(spectrogram)
        tokens = 1 + rows.shape[1] // self.patch_frames * self.patches_per_band
        x = self._passes(lambda part: self.encode(self.embed_patches(part), depth=depth)[0], rows, tokens)
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
        """The released dict of ``cfg`` and ``model``; or the tensors alone, under whatever prefix, as model hubs keep
        them: then shapes and ``settings`` decide."""
        expected = f"a {cls.family} checkpoint (dict with cfg.model and model, or its tensors)"
        tensors = checkpoints.find_tensors(loaded, ["extra_tokens"], expected, path, cls.left_out, _PREFIX)
        own = cls.from_published(tensors)
        given = _flat(loaded["cfg"], cls.family, path) if "cfg" in loaded else _shapes(own)
        found = {**_table_length(own, cls.defaults), **cls.defaults, **given, **settings}
        if "band_width" not in found and "_name" in found:  # EAT's: it names its class and knows no bands
            raise WheeltapperError(f"{path}: cfg.band_width: expected a width as {cls.family} has it, found none")
        for name, accepted in (_FIXED | cls.fixed).items():
            if found.get(name, accepted) != accepted:
                raise WheeltapperError(f"{path}: cfg.{name}: expected {accepted}, found {found[name]!r}")
        return cls.make_config(found, path), own

    @classmethod
    def is_possible(cls, config: SubbandConfig) -> bool:
        return super().is_possible(config) and config.patch_size <= min(config.band_width, config.target_length)


def _flat(cfg: Any, family: str, path: str | os.PathLike) -> dict[str, Any]:
    """Fields of a published cfg: flat ones under ``model``, more under its modality."""
    model = cfg.get("model") if isinstance(cfg, dict) else None
    if not isinstance(model, dict):
        raise WheeltapperError(f"{path}: expected a {family} checkpoint with cfg.model, found none")
    modalities = model.get("modalities")
    image = modalities.get("image") if isinstance(modalities, dict) else None
    return {**(image if isinstance(image, dict) else {}), **model}


def _shapes(tensors: Mapping[str, Any]) -> dict[str, int]:
    """Sizes that the tensors tell where there is no configuration."""
    dim = tensors["cls_token"].numel()
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    return {"embed_dim": dim, "depth": depth, "num_heads": heads_of(dim)}


def _table_length(tensors: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, int]:
    """``max_length`` of files that do not say it: their position table may end where the training clips did."""
    table = tensors.get("positions")
    if not isinstance(table, Tensor) or table.dim() != 3:
        return {}
    return {"max_length": table.shape[1] // defaults.get("max_freq", SubbandConfig.max_freq)}
