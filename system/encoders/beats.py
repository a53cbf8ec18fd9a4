"""BEATs: a transformer over patches with gated relative position bias (Chen et al. 2023).

Query, key, value and output are separate linear layers; low-rank adapters go to ``q_proj`` and ``v_proj`` by default,
as in the challenge's toolkit.
"""

import math
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from system.encoders import wrapped
from system.encoders.base import Encoder, Mode, Tokens
from system.encoders.beats_network import BeatsConfig, Stack
from system.encoders.linear import Linear
from system.encoders.noise_aware_layers import After, run_with_far
from system.errors import WheeltapperError
from system.frontends.kaldi import BINS, FILTERBANKS, FLOOR, fbank

MEAN, DEVIATION = 15.41663, 6.55582  # of filter-bank energies of 16-bit samples, over AudioSet
FULL_SCALE = 2.0**15
SIREN_SAMPLES, SIREN_FRAMES = 160000, 998  # 10 s
FRAME_LIMIT = 3008  # 30 s, 188 patches: the cost of attention grows with the square of the length


# Our field names to those of a published cfg, if they differ.
_FIELDS = {
    "embed_dim": "encoder_embed_dim",
    "depth": "encoder_layers",
    "num_heads": "encoder_attention_heads",
    "hidden_dim": "encoder_ffn_embed_dim",
    "patch_dim": "embed_dim",
    "patch_size": "input_patch_size",
}
_SAME = ("conv_pos", "conv_pos_groups", "num_buckets", "max_distance")
# Options of the released code that this module does not implement: the accepted value, and the released code's default
# if a cfg does not contain the option.
_FIXED = {
    "activation_fn": ("gelu", "gelu"),
    "layer_norm_first": (False, False),
    "conv_bias": (False, False),
    "relative_position_embedding": (True, False),
    "gru_rel_pos": (True, False),
    "deep_norm": (True, False),
}
_CONV = "encoder.pos_conv."
_PUBLISHED = {f"{_CONV}{name}": f"{_CONV}0.{name}" for name in ("bias", "weight_g", "weight_v")}
_OWN = {published: own for own, published in _PUBLISHED.items()} | {  # and names written by newer versions of torch
    f"{_CONV}0.parametrizations.weight.original0": f"{_CONV}weight_g",
    f"{_CONV}0.parametrizations.weight.original1": f"{_CONV}weight_v",
}
_TABLE = "encoder.relative_attention_bias.weight"  # stored once here, but once per layer in published files


def _table_of(layer: int | str) -> str:
    return f"encoder.layers.{layer}.self_attn.relative_attention_bias.weight"


class Beats(Encoder):
    """BEATs encoder. Summary and embedding are the mean of all tokens.

    Recordings of up to 30 s are one pass; of longer ones, passes of 30 s are averaged. Some benchmarks remove the mean
    of the waveform first; this has no effect, because the filter bank removes the mean of every frame.
    """

    family = "BEATs"
    rate = 16000
    filterbanks = FILTERBANKS
    stacks = ("encoder.layers",)
    lora_targets = ("q_proj", "v_proj")
    takes_far = True
    modes = {
        "official": Mode("the authors", "split"),
        "rmis": Mode("the RMIS benchmark: as the authors", "split"),
        "siren": Mode("the SIREN benchmark: pieces of 10 s, the last one being the last 10 s", "tail"),
        "twice": Mode("RMIS's preprocess() followed by its copy of the network: both normalise", "split"),
        "chunks": Mode("recordings of any length: pieces of 30 s, the last one being the last 30 s", "tail"),
    }
    # base is published; nano is our own, small enough to train in minutes on two CPU cores.
    SIZES = {
        "nano": BeatsConfig(embed_dim=128, depth=4, num_heads=2, hidden_dim=512, patch_dim=64),
        "base": BeatsConfig(),
    }
    pad_value = (math.log(FLOOR) - MEAN) / (2.0 * DEVIATION)  # silence

    def __init__(self, config: BeatsConfig):
        super().__init__(config)
        self.patch_embedding = nn.Conv2d(1, config.patch_dim, config.patch_size, config.patch_size, bias=False)
        self.layer_norm = nn.LayerNorm(config.patch_dim)
        same = config.patch_dim == config.embed_dim  # the released code has no projection then
        self.post_extract_proj = nn.Identity() if same else Linear(config.patch_dim, config.embed_dim)
        self.encoder = Stack(config)

    @property
    def frame_limit(self) -> int:
        return FRAME_LIMIT // self.config.patch_size * self.config.patch_size

    def grid_bands(self, rate: int) -> int:
        return BINS // self.config.patch_size

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        pieces = [wave]
        if mode == "siren" and wave.shape[-1] > SIREN_SAMPLES:
            whole = wave.shape[-1] // SIREN_SAMPLES * SIREN_SAMPLES
            pieces = [*wave[:, :whole].split(SIREN_SAMPLES, 1)]
            if whole < wave.shape[-1]:
                pieces.append(wave[:, -SIREN_SAMPLES:])
        spectrograms = [fbank(piece * FULL_SCALE, rate, "povey", self.filterbank) for piece in pieces]
        for _ in range(2 if mode == "twice" else 1):
            spectrograms = [spectrogram.sub_(MEAN).div_(2.0 * DEVIATION) for spectrogram in spectrograms]
        return spectrograms[0] if len(spectrograms) == 1 else torch.cat(spectrograms, 1)

    def _embed_spectrogram(self, spectrogram: Tensor, mode: str, rate: int) -> Tensor:
        # In mode siren, the front end has concatenated the spectrograms of pieces of 10 s.
        if mode != "siren":
            return super()._embed_spectrogram(spectrogram, mode, rate)
        pieces = spectrogram.to(self.dtype).split(SIREN_FRAMES, 1)
        return torch.stack([self._embed_piece(piece, mode).float() for piece in pieces]).mean(0)

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        return self._tokens(depth, self._fill(spectrogram))

    def _forward_pair(self, near: Tensor, far: Tensor, depth: int | None) -> Tokens:
        return self._tokens(depth, self._fill(near), self._fill(far))

    def _tokens(self, depth: int | None, spectrogram: Tensor, *far: Tensor) -> Tokens:
        def blocks(part: Tensor, after: After | None) -> Tensor:
            return self.encoder(self.embed_patches(part), depth, after)

        bands = self.grid_bands(self.rate)
        tokens = spectrogram.shape[1] // self.patch_frames * bands
        x = self._passes(partial(run_with_far, blocks, self.noise_aware), spectrogram, tokens, *far)
        return Tokens(x.unflatten(1, (-1, bands)), x.mean(1, keepdim=True))

    def embed_patches(self, spectrogram: Tensor) -> Tensor:
        """Patch vectors (B, N, D) of a spectrogram (B, T, F); frequency varies fastest."""
        patches = self.patch_embedding(spectrogram.unsqueeze(1)).flatten(2).transpose(1, 2)
        return self.post_extract_proj(self.layer_norm(patches))

    # Published layout.

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        published: dict[str, Tensor] = {}
        for name, tensor in state.items():
            if name == _TABLE:  # copies, because a safetensors file must not share tensors
                published |= {_table_of(layer): tensor.clone() for layer in range(self.depth)}
            elif name == _CONV + "weight_v":
                published[_PUBLISHED[name]] = tensor.permute(0, 3, 2, 1).flatten(0, 1)
            else:
                published[_PUBLISHED.get(name, name)] = tensor
        return published

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of ``to_published``.

        A relative-position table that differs from the first one is kept under a name that explains the problem, so
        that the strict load reports it.
        """
        own: dict[str, Tensor] = {}
        first = ""
        for name, tensor in tensors.items():
            if name == _table_of(_layer(name)):
                first = first or name
                if not _same(own.setdefault(_TABLE, tensor), tensor):
                    own[f"{name} (shared by all layers, yet not equal to {first})"] = tensor
            else:
                own[_OWN.get(name, name)] = tensor
        if _CONV + "weight_v" in own:
            own[_CONV + "weight_v"] = _by_group(own[_CONV + "weight_v"])
        return own

    @classmethod
    def published(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike):
        """See ``Encoder.published``. Accepts the released dict of ``cfg`` and ``model``, or the tensors alone.

        Without a cfg, sizes come from the tensor shapes, and ``max_distance`` from ``settings`` (in the names of the
        released cfg). The classifier of fine-tuned files is ignored.
        """
        cfg = loaded.get("cfg", {})
        if not isinstance(cfg, dict):
            raise WheeltapperError(f"{path}: expected a {cls.family} checkpoint with a cfg, found no dict there")
        left_out = (".predictor.",) if "cfg" not in loaded or cfg.get("finetuned_model") else ()
        tensors = wrapped.find_tensors(
            loaded,
            ["patch_embedding.weight", "encoder.layer_norm.weight"],
            f"a {cls.family} checkpoint (dict with cfg and model, or its tensors)",
            path,
            left_out,
        )
        found = {**settings, **cfg}
        for name, (accepted, default) in _FIXED.items():
            value = found.get(name, default if "cfg" in loaded else accepted)
            if value != accepted:
                said = "" if name in found else ", the default of the released code if the cfg has none"
                raise WheeltapperError(f"{path}: cfg.{name}: expected {accepted}, found {value!r}{said}")
        own = cls.from_published(tensors)
        sizes = {name: found.get(_FIELDS.get(name, name)) for name in (*_FIELDS, *_SAME)}
        if "cfg" not in loaded:
            sizes |= _shapes(own)
        config = cls.make_config(sizes, path)
        lacking = [name for name in map(_table_of, range(config.depth)) if name not in tensors]
        if "cfg" in loaded and lacking:  # files with tensors alone may store shared tables once
            raise WheeltapperError(f"{path}: does not fit {cls.__name__}: missing {'; '.join(lacking[:8])}")
        return config, own

    @classmethod
    def is_possible(cls, config: BeatsConfig) -> bool:
        return (
            super().is_possible(config)
            and config.embed_dim % config.conv_pos_groups == 0
            and config.patch_size <= BINS
            and 1 <= config.num_buckets // 4 < config.max_distance
        )


def _layer(name: str) -> str:
    """Layer number in a tensor's name, or empty."""
    parts = name.split(".")
    return parts[2] if len(parts) > 2 and parts[1] == "layers" and parts[2].isdecimal() else ""


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or first.shape != second.shape:
        return False
    return first.is_meta or torch.equal(first, second)


def _by_group(weight: Any) -> Any:
    """Reshapes a published convolution weight (outputs, inputs, taps) to (groups, taps, inputs, outputs)."""
    if not isinstance(weight, Tensor) or weight.dim() != 3 or not weight.numel() or weight.shape[0] % weight.shape[1]:
        return weight  # the strict load reports it
    return weight.unflatten(0, (-1, weight.shape[1])).permute(0, 3, 2, 1).contiguous()


def _shapes(tensors: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of the network, read from tensor shapes."""
    places = {
        "patch_dim": ("patch_embedding.weight", 0),
        "patch_size": ("patch_embedding.weight", -1),
        "hidden_dim": ("encoder.layers.0.fc1.weight", 0),
        "conv_pos_groups": (_CONV + "weight_v", 0),
        "conv_pos": (_CONV + "weight_v", 1),
        "num_buckets": (_TABLE, 0),
        "num_heads": ("encoder.layers.0.self_attn.grep_a", 1),
    }
    shapes = {name: tensor.shape for name, tensor in tensors.items() if isinstance(tensor, Tensor) and tensor.dim() > 1}
    told = {field: shapes[name][at] for field, (name, at) in places.items() if name in shapes}
    depth = len({_layer(name) for name in tensors} - {""})
    return told | {"embed_dim": tensors["encoder.layer_norm.weight"].numel(), "depth": depth}
