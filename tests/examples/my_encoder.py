"""Example of an encoder: pieces of a log-mel spectrogram, each processed by a few layers."""

from dataclasses import dataclass

from torch import Tensor, nn

from system.encoders import FAMILIES
from system.encoders.base import Encoder, Mode, Tokens
from system.errors import WheeltapperError
from system.frontends.logmel import BANDS, mel_decibels


@dataclass(frozen=True)
class PocketConfig:
    embed_dim: int = 32
    depth: int = 2
    patch_size: int = 8  # frames per token
    target_length: int = 1024  # frames per pass; longer recordings are split


class Block(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.gelu(self.fc(self.norm(x)))


class Pocket(Encoder):
    family = "Pocket"
    rate = 16000  # sampling rate in Hz that recordings are resampled to; 0 to keep their own
    modes = {"official": Mode("its author", "split")}  # how recordings are split into pieces, see Mode
    lora_targets = ("fc",)  # layers that get low-rank adapters
    SIZES = {"nano": PocketConfig(), "small": PocketConfig(embed_dim=128, depth=4)}

    def __init__(self, config: PocketConfig):
        super().__init__(config)
        self.patches = nn.Linear(config.patch_size * BANDS // self.grid_bands(self.rate), config.embed_dim)
        self.blocks = nn.ModuleList(Block(config.embed_dim) for _ in range(config.depth))

    def grid_bands(self, rate: int) -> int:
        return 4

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        return (mel_decibels(wave, rate) + 40.0) / 40.0  # (B, T, 128)

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        size, bands = self.config.patch_size, self.grid_bands(self.rate)
        x = spectrogram[:, : spectrogram.shape[1] // size * size].unflatten(1, (-1, size)).unflatten(3, (bands, -1))
        x = nn.Sequential(self.patches, *self.blocks[:depth])(x.transpose(2, 3).flatten(3))
        return Tokens(x, x.mean((1, 2)).unsqueeze(1))  # (B, T / size, bands, embed_dim), (B, 1, embed_dim)

    @classmethod
    def published(cls, loaded, settings, path):
        raise WheeltapperError(f"{path}: expected a file that Pocket.save wrote")


FAMILIES["pocket"] = Pocket
