"""FISHER: a ViT over sub-bands of the spectrogram, for signals of any sampling rate (FISHER paper, section 3).

Tensor names inside this module are short; ``to_official`` and ``from_official`` translate to the published layout, in
which our own checkpoints are written too.
"""

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders import checkpoints
from system.errors import WheeltapperError
from system.frontends.stft import fisher_spectrogram

MODES = ("official", "rmis", "chunks")


@dataclass(frozen=True)
class FisherConfig:
    """Sizes of the network; defaults are those of the released code."""

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


# Published sizes; nano is our own, small enough to train in minutes on two CPU cores.
SIZES = {
    "nano": FisherConfig(embed_dim=128, depth=4, num_heads=2),
    "tiny": FisherConfig(embed_dim=192, depth=12, num_heads=3),
    "mini": FisherConfig(embed_dim=256, depth=12, num_heads=4),
    "small": FisherConfig(embed_dim=384, depth=12, num_heads=6),
}

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
_OFFICIAL = {
    "cls_token": f"{_PREFIX}extra_tokens",
    "patch_embed.weight": f"{_PREFIX}local_encoder.proj.weight",
    "patch_embed.bias": f"{_PREFIX}local_encoder.proj.bias",
    "positions": f"{_PREFIX}fixed_positional_encoder.positions",
    "norm.weight": f"{_PREFIX}context_encoder.norm.weight",
    "norm.bias": f"{_PREFIX}context_encoder.norm.bias",
}


class Tokens(NamedTuple):
    """What an encoder gives: ``grid`` (B, T, bands, D), tokens over time and frequency; ``summary`` (B, n, D)."""

    grid: Tensor
    summary: Tensor


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for query, key and value."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, dim = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.num_heads, dim // self.num_heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(rows, length, dim))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Post-norm transformer block; returns its output and the output of its MLP before the residual."""

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


class Fisher(nn.Module):
    """The encoder. Rows of a batch are sub-bands: row ``b * bands + k`` is band k of recording b, low to high."""

    def __init__(self, config: FisherConfig):
        super().__init__()
        self.config = config
        self.patch_embed = nn.Conv2d(1, config.embed_dim, config.patch_size, config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.register_buffer("positions", position_table(config.max_length, config.max_freq, config.embed_dim))
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.blocks = nn.ModuleList(
            Block(config.embed_dim, config.num_heads, config.mlp_ratio, config.norm_eps) for _ in range(config.depth)
        )
        self.apply(_init_bert)
        # As released: patches uniform over the flattened kernel, CLS from a unit normal.
        nn.init.xavier_uniform_(self.patch_embed.weight.view(config.embed_dim, -1))
        nn.init.zeros_(self.patch_embed.bias)
        nn.init.normal_(self.cls_token)

    @property
    def dim(self) -> int:
        return self.config.embed_dim

    @property
    def patches_per_band(self) -> int:
        return self.config.band_width // self.config.patch_size

    def bands(self, rate: int) -> int:
        """Sub-bands at a rate in Hz: what fits in half the rate, at least one."""
        return max(1, (25 * rate // 1000 // 2 + 1) // self.config.band_width)

    def grid_bands(self, rate: int) -> int:
        """Frequency positions of the token grid at a rate in Hz."""
        return self.bands(rate) * self.patches_per_band

    def spectrogram(self, wave: Tensor, rate: int) -> Tensor:
        """Front end: waveform (B, samples) at its own rate to normalised log magnitudes (B, T, F)."""
        return fisher_spectrogram(wave, rate)

    def split_bands(self, spectrogram: Tensor) -> Tensor:
        """(B, T, F) to sub-bands (B * bands, T, band_width).

        Bins above the last whole band are dropped, a spectrum narrower than a band is filled with zeros on the right,
        as are clips shorter than one patch in time.
        """
        width = self.config.band_width
        batch, frames, bins = spectrogram.shape
        pad_time, pad_frequency = max(0, self.config.patch_size - frames), max(0, width - bins)
        if pad_time or pad_frequency:
            spectrogram = F.pad(spectrogram, (0, pad_frequency, 0, pad_time))
            batch, frames, bins = spectrogram.shape
        count = bins // width
        rows = spectrogram[..., : count * width].reshape(batch, frames, count, width)
        return rows.transpose(1, 2).reshape(batch * count, frames, width)

    def embed_patches(self, rows: Tensor) -> Tensor:
        """Sub-bands (R, T, band_width) to patch vectors with positions (R, N, D), time-major, frequency fastest.

        The position of a token is its number in the sequence, as in the released code, where the table's rows are
        50 wide and the grid is 6: a quirk that trained weights depend on.
        """
        patches = self.patch_embed(rows.unsqueeze(1)).flatten(2).transpose(1, 2)
        if patches.shape[1] > self.positions.shape[1]:
            raise WheeltapperError(
                f"a clip of {rows.shape[1]} frames: expected at most "
                f"{self.positions.shape[1] // self.patches_per_band * self.config.patch_size} in one pass"
            )
        return patches + self.positions[:, : patches.shape[1]]

    def encode(self, patches: Tensor, depth: int | None = None) -> tuple[Tensor, list[Tensor]]:
        """Runs the blocks over [CLS, patches].

        Args:
            patches: (R, N, D).
            depth: number of blocks to run; all where None.

        Returns:
            tokens (R, 1 + N, D) and, per block, the MLP output before its residual (R, 1 + N, D).
        """
        x = self.norm(torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1))
        updates = []
        for block in self.blocks[:depth]:
            x, update = block(x)
            updates.append(update)
        return x, updates

    def forward(self, spectrogram: Tensor, depth: int | None = None) -> Tokens:
        """Spectrogram (B, T, F) of any length to Tokens.

        Clips longer than ``target_length`` frames go in pieces of that length, each with positions from zero; the rest
        is a shorter piece, dropped where it is shorter than a patch. Tokens of the pieces follow one another in time;
        the summary is their CLS averaged with the pieces' lengths as weights.
        """
        limit = self.config.target_length
        pieces = [piece for piece in spectrogram.split(limit, 1) if piece.shape[1] >= self.config.patch_size]
        outputs = [self._forward_piece(piece, depth) for piece in pieces or [spectrogram]]
        if len(outputs) == 1:
            return outputs[0]
        weights = [piece.shape[1] / sum(p.shape[1] for p in pieces) for piece in pieces]
        summary = sum(weight * output.summary for weight, output in zip(weights, outputs, strict=True))
        return Tokens(torch.cat([output.grid for output in outputs], 1), summary)

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        batch = len(spectrogram)
        x, _ = self.encode(self.embed_patches(self.split_bands(spectrogram)), depth)
        bands, per_band = len(x) // batch, self.patches_per_band
        grid = x[:, 1:].reshape(batch, bands, -1, per_band, self.dim).transpose(1, 2).flatten(2, 3)
        return Tokens(grid, x[:, 0].reshape(batch, bands, self.dim))

    def embed(self, wave: Tensor, rate: int, mode: str = "official") -> Tensor:
        """Frozen embedding of recordings of one length: the bands' CLS in ascending order.

        Args:
            wave: (B, samples) at ``rate`` Hz.
            mode: ``official`` keeps the first 1024 frames (the read-me); ``rmis`` pads or cuts to 1024 frames, zeros
                after normalisation (the RMIS benchmark); ``chunks`` averages pieces of 1024 frames, the last one being
                the last 1024 frames (the SIREN benchmark).

        Returns:
            (B, bands * D).
        """
        spectrogram, limit = self.spectrogram(wave, rate), self.config.target_length
        frames = spectrogram.shape[1]
        if mode == "official":
            chunks = [spectrogram[:, :limit]]
        elif mode == "rmis":
            chunks = [F.pad(spectrogram[:, :limit], (0, 0, 0, max(0, limit - frames)))]
        elif mode == "chunks":
            chunks = [spectrogram[:, start : start + limit] for start in range(0, frames - limit + 1, limit)]
            if frames % limit or not chunks:
                chunks.append(spectrogram[:, -limit:])
        else:
            raise WheeltapperError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
        return torch.stack([self._forward_piece(chunk, None).summary.flatten(1) for chunk in chunks]).mean(0)


def position_table(max_length: int, max_freq: int, dim: int) -> Tensor:
    """Fixed 2-D sine-cosine table (1, max_length * max_freq, dim); first half of a row is frequency, second time."""
    row = torch.arange(max_length * max_freq, dtype=torch.float64)
    omega = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    halves = []
    for position in (row % max_freq, torch.div(row, max_freq, rounding_mode="floor")):
        angles = position[:, None] * omega
        halves += [angles.sin(), angles.cos()]
    return torch.cat(halves, dim=1).float().unsqueeze(0)


def to_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of ``Fisher`` with the tensor names of the published checkpoints."""
    return {_OFFICIAL.get(name, name): tensor for name, tensor in state.items()}


def from_official(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``to_official``; unknown names pass through so that a strict load can list them."""
    names = {official: name for name, official in _OFFICIAL.items()}
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def build(size: str, seed: int) -> Fisher:
    """An untrained encoder of a named size (``SIZES``)."""
    if size not in SIZES:
        raise WheeltapperError(f"FISHER size: expected one of {', '.join(SIZES)}, found {size!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Fisher(SIZES[size]).eval()


def load(path: str | os.PathLike) -> Fisher:
    """Loads a published checkpoint (dict of cfg and model) or one of ours (safetensors); strict, runs no code."""
    loaded = checkpoints.load_file(path)
    settings = _own_settings(loaded["metadata"], path) if "metadata" in loaded else _published_settings(loaded, path)
    tensors = loaded.get("model")
    if not isinstance(tensors, dict):
        raise WheeltapperError(f"{path}: expected tensors under 'model', found the keys {', '.join(map(str, loaded))}")
    config = _config(settings, path)
    with torch.device("meta"):  # shapes alone, until the file is known to have them
        module = Fisher(config)
    checkpoints.load_strict(module, from_official(tensors), path)
    return module.eval()


def save(path: str | os.PathLike, module: Fisher, **metadata) -> None:
    """Writes an encoder as safetensors under the published tensor names, with its config in the metadata."""
    checkpoints.save(path, to_official(module.state_dict()), {"config": asdict(module.config), **metadata})


def _own_settings(metadata: dict, path: str | os.PathLike) -> dict:
    try:
        settings = json.loads(metadata["config"])
    except (KeyError, TypeError, ValueError):
        settings = None
    if not isinstance(settings, dict):
        raise WheeltapperError(f"{path}: expected a FISHER config in its metadata, found none")
    return settings


def _published_settings(loaded: dict, path: str | os.PathLike) -> dict:
    cfg = loaded.get("cfg")
    model = cfg.get("model") if isinstance(cfg, dict) else None
    if not isinstance(model, dict):
        raise WheeltapperError(
            f"{path}: expected a FISHER checkpoint (dict with cfg.model and model), found the keys "
            f"{', '.join(map(str, list(loaded)[:6])) or 'none'}"
        )
    modalities = model.get("modalities")
    image = modalities.get("image") if isinstance(modalities, dict) else None
    return {**(image if isinstance(image, dict) else {}), **model}


def _config(settings: dict, path: str | os.PathLike) -> FisherConfig:
    for name, accepted in _FIXED.items():
        if settings.get(name, accepted) != accepted:
            raise WheeltapperError(f"{path}: cfg.{name}: expected {accepted}, found {settings[name]!r}")
    known = {field.name: field.type for field in fields(FisherConfig)}
    try:
        values = {name: known[name](settings[name]) for name in known if settings.get(name) is not None}
    except (TypeError, ValueError, OverflowError) as error:
        raise WheeltapperError(f"{path}: cfg: expected numbers, found {error}") from error
    config = FisherConfig(**values)
    possible = (
        all(0 < value <= 8192 for value in asdict(config).values())
        and config.embed_dim % config.num_heads == config.embed_dim % 4 == 0
        and config.depth <= 256
        and config.patch_size <= min(config.band_width, config.target_length)
    )
    if not possible:
        raise WheeltapperError(f"{path}: cfg: impossible sizes {asdict(config)}")
    return config


def _init_bert(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def count_multiply_adds(config: FisherConfig, frames: int, bands: int, depth: int | None = None) -> int:
    """Multiply-accumulate operations of one forward pass over ``frames`` frames and ``bands`` sub-bands."""
    dim, patch = config.embed_dim, config.patch_size
    total = 0
    for start in range(0, frames, config.target_length):
        piece = min(config.target_length, frames - start)
        tokens = math.floor(piece / patch) * (config.band_width // patch)
        if tokens == 0:
            continue
        linear = (tokens + 1) * dim * dim * (4 + 2 * config.mlp_ratio)
        attention = 2 * (tokens + 1) ** 2 * dim
        total += bands * int(tokens * patch * patch * dim + (depth or config.depth) * (linear + attention))
    return total
