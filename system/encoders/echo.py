"""ECHO: a ViT over sub-bands whose tokens encode their frequency in Hz (ECHO paper, section 3).

The released code and checkpoints split time into consecutive windows of 16 frames. The paper describes windows of 32
frames that overlap by half, as in the sizes named ``overlap``. Rows of a batch are sub-bands: row ``b * bands + k`` is
band k of recording b, low to high.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.accelerator import without_autocast
from system.encoders import wrapped
from system.encoders.base import Encoder, Mode, Tokens
from system.encoders.configs import heads_of
from system.encoders.linear import Linear
from system.encoders.pieces import check_wave
from system.encoders.shapes import shapes_alone
from system.encoders.transformer import PostNormBlock, run_blocks, sine_cosine
from system.errors import WheeltapperError
from system.frontends.simam import enhance
from system.frontends.stft import ECHO_SCALE, echo_spectrogram, frame_count, frame_sizes

GAMMA = 25.0  # scale of the frequency encoding; in the released code, not in the paper
SIREN_EPS = 1e-6  # epsilon of the final norm in SIREN
# Window lengths of common sampling rates at which 25 ms are an odd number of samples.
ODD_WINDOWS = frozenset(frame_sizes(rate)[0] for rate in (1000, 5000, 11025, 22050, 88200))


@dataclass(frozen=True)
class EchoConfig:
    """Sizes of the network; defaults are those of the released code."""

    embed_dim: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6  # of the norms in the blocks
    final_eps: float = 1e-5  # of the final norm
    band_width: int = 32  # bins of 40 Hz
    patch_frames: int = 16  # frames per token
    patch_stride: int = 16  # frames from one token to the next
    frame_limit: int = 2000


# Parts of published tensor names to ours.
_NAMES = {
    "patch_embed.proj.": "patch_embed.",
    "pos_embed": "positions",
    "encoder.layers.": "blocks.",
    ".self_attn.in_proj_": ".attn.qkv.",
    ".self_attn.out_proj.": ".attn.proj.",
    ".linear1.": ".mlp.fc1.",
    ".linear2.": ".mlp.fc2.",
}
# Field names of the released code to ours.
_SETTINGS = {"heads": "num_heads", "encoder_depth": "depth", "shift_size": "patch_stride"}


class Echo(Encoder):
    """ECHO encoder. Summary and utterance embedding are the CLS tokens of all sub-bands, low to high.

    The frequency encoding depends on the window length in samples. A spectrogram alone determines it only up to one
    sample; an odd length is assumed if it is the window of a common sampling rate, otherwise an even one. ``embed`` and
    ``segments`` know the sampling rate and are exact.
    """

    family = "ECHO"
    log_gain_per_neper = 1.0 / ECHO_SCALE
    modes = {
        "official": Mode("the authors' code", "tail"),
        "siren": Mode("the SIREN benchmark: another epsilon in the final norm", "tail"),
        "stream": Mode("as on a stream: the mean of each chunk is removed instead of the recording's", "tail"),
    }
    # tiny and small are published, base and large are listed in the released code; nano is our own, small enough to
    # train in minutes on two CPU cores.
    SIZES = {
        "nano": EchoConfig(embed_dim=128, depth=4, num_heads=2),
        "tiny": EchoConfig(embed_dim=192, num_heads=3),
        "small": EchoConfig(embed_dim=384, num_heads=6),
        "base": EchoConfig(embed_dim=768, num_heads=12),
        "large": EchoConfig(embed_dim=1024, depth=24, num_heads=16),
        "tiny-overlap": EchoConfig(embed_dim=192, num_heads=3, patch_frames=32),
        "small-overlap": EchoConfig(embed_dim=384, num_heads=6, patch_frames=32),
    }

    positions: Tensor

    def __init__(self, config: EchoConfig):
        super().__init__(config)
        dim, patches = config.embed_dim, -(-config.frame_limit // config.patch_stride)
        # A convolution in the published files; a matrix product over flattened patches is equivalent and faster.
        self.patch_embed = Linear(config.band_width * config.patch_frames, dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        table = torch.zeros(1, patches + 1, dim)
        if not shapes_alone():
            table[0, 1:] = sine_cosine(torch.arange(patches), dim)
        self.register_buffer("positions", table)  # row 0, for the CLS token, is stored but not used
        self.blocks = nn.ModuleList(
            PostNormBlock(dim, config.num_heads, config.mlp_ratio, config.norm_eps) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=config.final_eps)
        self.blocks.apply(_init_linear)
        nn.init.normal_(self.cls_token, std=0.02)

    @property
    def patch_frames(self) -> int:
        return self.config.patch_frames

    @property
    def frame_limit(self) -> int:
        return self.config.frame_limit

    def bands(self, rate: int) -> int:
        """Number of sub-bands at a sampling rate in Hz; the last one may be padded."""
        return -(-(frame_sizes(rate)[0] // 2 + 1) // self.config.band_width)

    def grid_bands(self, rate: int) -> int:
        return self.bands(rate)

    # Front end.

    @without_autocast
    def spectrogram(self, wave: Tensor, rate: int, mode: str = "official") -> Tensor:
        """See ``Encoder.spectrogram``.

        In mode ``stream`` the spectrograms of the chunks, each without its mean, are concatenated; frames that the last
        two chunks share occur twice.
        """
        check_wave(wave)
        if mode != "stream":
            return self.chunk_spectrogram(wave, rate)
        return torch.cat([self.chunk_spectrogram(part, rate) for part in self._chunk_waves(wave, rate)], 1)

    def chunk_spectrogram(self, wave: Tensor, rate: int, mean: float | Tensor | None = None) -> Tensor:
        """Normalised spectrogram (B, T, F) of waveforms (B, samples) minus ``mean`` (None: their own mean)."""
        return enhance(echo_spectrogram(wave, rate, mean), self.simam)

    def chunk_samples(self, rate: int) -> int:
        """Number of samples in a chunk of ``frame_limit`` frames."""
        window, hop = frame_sizes(rate)
        return (self.frame_limit - 1) * hop + window

    def _chunk_waves(self, wave: Tensor, rate: int) -> Iterator[Tensor]:
        frames, hop, limit = frame_count(wave.shape[-1], rate), frame_sizes(rate)[1], self.frame_limit
        for start in range(0, frames - limit + 1, limit):
            yield wave[:, start * hop : start * hop + self.chunk_samples(rate)]
        if frames % limit or not frames:
            yield wave[:, max(0, frames - limit) * hop :]

    def split_patches(self, spectrogram: Tensor) -> Tensor:
        """Splits (B, T, F) into flattened patches (B * bands, N, band_width * patch_frames), frames varying fastest.

        Time is padded with zeros at the end to a multiple of the stride. The last band is padded with zeros below its
        bins.
        """
        width, size, stride = self.config.band_width, self.config.patch_frames, self.config.patch_stride
        frames, bins = spectrogram.shape[1:]
        spectrogram = F.pad(spectrogram, (0, 0, 0, max(size, -(-frames // stride) * stride) - frames))
        if bins % width:
            whole = bins // width * width
            last = F.pad(spectrogram[..., whole:], (width - bins + whole, 0))
            spectrogram = torch.cat([spectrogram[..., :whole], last], -1)
        windows = spectrogram.unfold(1, size, stride).unflatten(2, (-1, width))  # (B, N, bands, width, size)
        return windows.transpose(1, 2).reshape(-1, windows.shape[1], width * size)

    # Network.

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        return self._tokens(spectrogram, depth, self.norm.eps)

    def _tokens(self, spectrogram: Tensor, depth: int | None, eps: float, rate: int = 0) -> Tokens:
        """Tokens of one pass; the final norm is only applied after the last block."""
        batch, _, bins = spectrogram.shape
        window = frame_sizes(rate)[0] if rate else _likely_window(bins)
        code = frequency_code(bins, window, self.config.band_width, self.dim, spectrogram.device, spectrogram.dtype)
        code = code.repeat(batch, 1, 1)
        patches = self.embed_patches(self.split_patches(spectrogram), code)

        def encode(x: Tensor) -> Tensor:
            x, _ = run_blocks(self.blocks[:depth], x)
            return x if depth not in (None, self.depth) else self._last_norm(x, eps)

        x = torch.cat([self.cls_token + code, patches], 1)
        x = self._passes(encode, x, x.shape[1]).unflatten(0, (batch, -1))
        return Tokens(x[:, :, 1:].transpose(1, 2), x[:, :, 0])

    def embed_patches(self, patches: Tensor, code: Tensor) -> Tensor:
        """Patch vectors (R, N, D) with time and frequency encodings.

        Args:
            patches: (R, N, band_width * patch_frames) flattened patches of sub-bands.
            code: (R, 1, D) frequency encodings of the sub-bands.
        """
        return self.patch_embed(patches) + self.positions[:, 1 : 1 + patches.shape[1]] + code

    def encode(self, patches: Tensor, code: Tensor, *, keep: str = "") -> tuple[Tensor, list[Tensor]]:
        """Runs all blocks over [CLS, patches] of sub-bands.

        Args:
            patches: (R, N, D) as returned by ``embed_patches``.
            code: (R, 1, D) frequency encodings of the sub-bands.
            keep: activations to return from each block: ``mlp`` or ``block`` (see ``run_blocks``); empty for none.

        Returns:
            Tokens (R, 1 + N, D) after the final norm, and a list of activations (R, 1 + N, D), one per block.
        """
        x, kept = run_blocks(self.blocks, torch.cat([self.cls_token + code, patches], 1), keep)
        return self.norm(x), kept

    def _last_norm(self, x: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, (self.dim,), self.norm.weight, self.norm.bias, eps)

    def _eps(self, mode: str) -> float:
        return SIREN_EPS if mode == "siren" else self.norm.eps

    def _embed_spectrogram(self, spectrogram: Tensor, mode: str, rate: int) -> Tensor:
        """Utterance embeddings, float32 (B, bands * D): the mean over chunks."""
        chunks = self._chunks(spectrogram.to(self.dtype))
        summaries = [self._tokens(chunk, None, self._eps(mode), rate).summary.float() for chunk in chunks]
        return torch.stack(summaries).mean(0).flatten(1)

    def segments(self, wave: Tensor, rate: int, mode: str = "official") -> Tensor:
        """Segment embeddings: the tokens of each time step, with the bands concatenated, low to high.

        The chunks are concatenated in time; if the last chunk overlaps the one before, both are included.

        Args:
            wave: (B, samples), full scale 1.
            rate: sampling rate in Hz.
            mode: one of ``modes``.

        Returns:
            Float32 (B, patches, bands * D).
        """
        self.check_mode(mode)
        chunks = self._chunks(self.spectrogram(wave, rate, mode))
        return torch.cat([self.chunk_segments(chunk, rate, mode) for chunk in chunks], 1)

    def chunk_segments(self, spectrogram: Tensor, rate: int, mode: str = "official") -> Tensor:
        """Segment embeddings of the spectrogram of one chunk (B, T, F), T <= frame_limit; see ``segments``."""
        grid = self._tokens(spectrogram.to(self.dtype), None, self._eps(mode), rate).grid
        return grid.flatten(2).float()

    # Weights.

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        shape = (-1, 1, self.config.band_width, self.config.patch_frames)
        named = {}
        for name, tensor in state.items():
            kernel = name == "patch_embed.weight"
            for published, own in _NAMES.items():
                name = name.replace(own, published)
            named[name] = tensor.reshape(shape) if kernel else tensor
        return named

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        named = {}
        for name, tensor in tensors.items():
            kernel = name == "patch_embed.proj.weight" and isinstance(tensor, Tensor) and tensor.dim() == 4
            for published, own in _NAMES.items():
                name = name.replace(published, own)
            named[name] = tensor.flatten(1) if kernel else tensor
        return named

    @classmethod
    def published(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike):
        """See ``Encoder.published``. Accepts the released dict of ``encoder`` and ``model_type``, or the tensors alone.

        Sizes come from shapes, because ``model_type`` is not correct in every file. The number of heads comes from the
        file, from ``settings``, or from the width, in that order.
        """
        needs = ["cls_token", "pos_embed", "patch_embed.proj.weight", "encoder.layers.0.linear1.weight"]
        expected = f"an {cls.family} checkpoint (dict with encoder, or its tensors)"
        tensors = wrapped.find_tensors(loaded, needs, expected, path)
        cls_token, positions, kernel, hidden = (tensors[name] for name in needs)
        dims = [tensor.dim() for tensor in (cls_token, positions, kernel, hidden)]
        if dims != [3, 3, 4, 2] or kernel.shape[1] != 1:
            raise WheeltapperError(
                f"{path}: expected the shapes of an {cls.family} checkpoint, cls_token (1, 1, D) and "
                f"patch_embed.proj.weight (D, 1, 32, 16), found {tuple(cls_token.shape)} and {tuple(kernel.shape)}"
            )
        found = {
            "embed_dim": cls_token.shape[-1],
            "depth": len({name.split(".")[2] for name in tensors if name.startswith("encoder.layers.")}),
            "num_heads": heads_of(cls_token.shape[-1]),
            "mlp_ratio": len(hidden) / cls_token.shape[-1],
            **{_SETTINGS.get(name, name): value for name, value in settings.items()},
            "band_width": kernel.shape[2],
            "patch_frames": kernel.shape[3],
            "frame_limit": EchoConfig.frame_limit,
        }
        if "heads" in loaded:
            found["num_heads"] = loaded["heads"]
        found["frame_limit"] = (positions.shape[1] - 1) * cls.make_config(found, path).patch_stride
        return cls.make_config(found, path), cls.from_published(tensors)

    @classmethod
    def is_possible(cls, config: EchoConfig) -> bool:
        return super().is_possible(config) and config.patch_stride <= config.patch_frames <= config.frame_limit


@lru_cache(maxsize=32)
def frequency_code(
    bins: int, window: int, band_width: int, dim: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Encodings (bands, 1, dim) of the centre frequencies of the sub-bands (ECHO paper, eq. 1).

    p is the centre frequency relative to half the sampling rate. With the centre as the mean of a band's first and last
    bin, p = (first + last) / window; the last band ends with the spectrum. Sines and cosines of GAMMA p
    10000^(-2i / dim) alternate. The result is cached and must not be modified.
    """
    first = torch.arange(0, bins, band_width, device="cpu")
    with torch.inference_mode(False):  # cached tensors are used in training too
        return centre_code(first, (first + band_width).clamp(max=bins) - 1, window, dim).to(device, dtype)


def centre_code(first: Tensor, last: Tensor, window: int, dim: int) -> Tensor:
    """Like ``frequency_code``, for bands with given first and last bins (R,); float64 (R, 1, dim)."""
    omega = 10000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float64, device=first.device) / dim)
    angles = GAMMA * ((first + last).double() / window)[:, None] * omega
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).unsqueeze(1)


def _likely_window(bins: int) -> int:
    odd = 2 * bins - 1
    return odd if odd in ODD_WINDOWS else odd - 1


def _init_linear(module: nn.Module) -> None:
    """Initialises linear layers as the released code (Glorot uniform, zero bias), for ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
