"""AudioMAE: a ViT over 16 x 16 patches of a filter bank, trained as a masked autoencoder (Huang et al. 2022)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders import wrapped
from system.encoders.base import Encoder, Mode, Tokens
from system.encoders.configs import heads_of
from system.encoders.eat import AUDIOSET_DEVIATION, AUDIOSET_MEAN
from system.encoders.transformer import Attention, PreNormBlock, grid_positions, init_linear, init_patches
from system.errors import WheeltapperError
from system.frontends.kaldi import BINS, FILTERBANKS, fbank


@dataclass(frozen=True)
class AudioMaeConfig:
    """Sizes of the network; defaults are the published ones."""

    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    patch_size: int = 16
    target_length: int = 1024  # frames that the position table covers


_PUBLISHED = {
    "patch_embed.weight": "patch_embed.proj.weight",
    "patch_embed.bias": "patch_embed.proj.bias",
    "norm.weight": "fc_norm.weight",
    "norm.bias": "fc_norm.bias",
}
_OWN = {published: own for own, published in _PUBLISHED.items()}


class AudioMae(Encoder):
    """AudioMAE encoder. The summary is the CLS token; the embedding is the normalised mean of the patch tokens.

    There is one final norm. In the authors' pre-trained file it is called ``norm`` and applied to every token; in
    fine-tuned files and in timm it is called ``fc_norm`` and applied to the mean. ``forward`` applies it to the tokens
    of the last block only, because it was not trained for earlier ones. Clips shorter than the position table are not
    padded; they get its first rows.
    """

    family = "AudioMAE"
    rate = 16000
    filterbanks = FILTERBANKS
    modes = {
        "official": Mode("the authors and timm: first 1024 frames, padded with zeros, mean, norm", "pad"),
        "rmis": Mode("the RMIS benchmark: the norm without its trained weights", "pad"),
        "chunks": Mode("recordings of any length, without padding", "tail"),
    }
    # base is published; nano is our own.
    SIZES = {
        "nano": AudioMaeConfig(embed_dim=128, depth=4, num_heads=2),
        "base": AudioMaeConfig(),
    }
    pad_value = -AUDIOSET_MEAN / (2.0 * AUDIOSET_DEVIATION)  # zero before normalisation

    def __init__(self, config: AudioMaeConfig):
        super().__init__(config)
        dim, patch = config.embed_dim, config.patch_size
        self.patch_embed = nn.Conv2d(1, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        table = grid_positions(config.target_length // patch, BINS // patch, dim)
        self.pos_embed = nn.Parameter(F.pad(table, (0, 0, 1, 0)))  # row 0 is for the CLS token
        self.blocks = nn.ModuleList(
            PreNormBlock(dim, Attention(dim, config.num_heads), config.mlp_ratio, config.norm_eps)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.apply(init_linear)
        init_patches(self.patch_embed)
        nn.init.normal_(self.cls_token, std=0.02)

    def grid_bands(self, rate: int) -> int:
        return BINS // self.config.patch_size

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        wave = wave - wave.mean(-1, keepdim=True)
        energies = fbank(wave, rate, "hanning", self.filterbank)
        return energies.sub_(AUDIOSET_MEAN).div_(2.0 * AUDIOSET_DEVIATION)

    def encode(self, spectrogram: Tensor, depth: int | None = None) -> Tensor:
        """Tokens (B, 1 + N, D) after ``depth`` blocks, without the final norm.

        The CLS token comes first, then the patches, frequency varying fastest.

        Args:
            spectrogram: (B, T, 128) with patch_frames <= T <= frame_limit.
            depth: number of blocks to run; None for all.
        """
        patches = self.patch_embed(spectrogram.unsqueeze(1)).flatten(2).transpose(1, 2)
        patches = patches + self.pos_embed[:, 1 : 1 + patches.shape[1]]
        cls = self.cls_token + self.pos_embed[:, :1]
        x = torch.cat([cls.expand(len(patches), -1, -1), patches], 1)
        for block in self.blocks[:depth]:
            x = block(x)
        return x

    def _tokens(self, spectrogram: Tensor, depth: int | None) -> Tensor:
        count = 1 + spectrogram.shape[1] // self.patch_frames * self.grid_bands(self.rate)
        return self._passes(lambda part: self.encode(part, depth), spectrogram, count)

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        x = self._tokens(spectrogram, depth)
        if depth in (None, self.depth):
            x = self.norm(x)
        return Tokens(x[:, 1:].unflatten(1, (-1, self.grid_bands(self.rate))), x[:, :1])

    def _embed_piece(self, spectrogram: Tensor, mode: str) -> Tensor:
        mean = self._tokens(spectrogram, None)[:, 1:].mean(1)
        return F.layer_norm(mean, (self.dim,), eps=self.norm.eps) if mode == "rmis" else self.norm(mean)

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Renames tensors to the names in timm's port, with ``fc_norm``."""
        return {_PUBLISHED.get(name, name): tensor for name, tensor in state.items()}

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # A file with both norms has an unknown layout: the second norm keeps its name, and the strict load refuses it.
        taken = {name: _OWN.get(name, name) for name in tensors}
        return {name if own in tensors else own: tensors[name] for name, own in taken.items()}

    @classmethod
    def published(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike):
        """See ``Encoder.published``. Accepts the authors' dict with ``model``, or timm's tensors with any prefix.

        The decoder of pre-trained files and the classifier of fine-tuned files are ignored. Sizes come from shapes;
        ``num_heads`` from ``settings`` or timm's ``model_args``, otherwise 64 channels per head.
        """
        expected = "an AudioMAE checkpoint (dict with model, or its tensors)"
        needs = ["pos_embed", "cls_token", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"]
        left_out = (".decoder_", ".mask_token", ".head.")
        own = cls.from_published(wrapped.find_tensors(loaded, needs, expected, path, left_out))
        arguments = settings.get("model_args")
        given = {**(arguments if isinstance(arguments, dict) else {}), **settings}
        try:
            return cls.make_config({**_shapes(own), **given}, path), own
        except (IndexError, TypeError, ZeroDivisionError) as error:
            raise WheeltapperError(f"{path}: expected {expected}, found misshapen tensors ({error})") from error

    @classmethod
    def is_possible(cls, config: AudioMaeConfig) -> bool:
        return super().is_possible(config) and config.patch_size <= min(BINS, config.target_length)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """Sizes of the network, read from tensor shapes."""
    dim = tensors["cls_token"].numel()
    patch = tensors["patch_embed.weight"].shape[-1]
    rows = tensors["pos_embed"].shape[-2] - 1
    return {
        "embed_dim": dim,
        "depth": len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        "num_heads": heads_of(dim),
        "mlp_ratio": len(tensors["blocks.0.mlp.fc1.weight"]) / dim,
        "patch_size": patch,
        "target_length": rows // (BINS // patch) * patch,
    }
