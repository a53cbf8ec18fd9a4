"""FISHER: a ViT over sub-bands of the spectrogram, for signals of any sampling rate (FISHER paper, section 3)."""

from torch import Tensor

from system.encoders.base import Mode
from system.encoders.subband import SubbandConfig, SubbandEncoder
from system.frontends.stft import FISHER_SCALE, fisher_spectrogram

FisherConfig = SubbandConfig


class Fisher(SubbandEncoder):
    """FISHER; summary and embedding are the CLS of every band, low to high."""

    family = "FISHER"
    neper = 1.0 / FISHER_SCALE
    modes = {
        "official": Mode("the authors' read-me", "cut"),
        "rmis": Mode("the RMIS benchmark", "pad"),
        "chunks": Mode("the SIREN benchmark", "tail"),
    }
    # Published sizes; nano is our own, small enough to train on two CPU cores, its position table as wide as the grid.
    SIZES = {
        "nano": FisherConfig(embed_dim=128, depth=4, num_heads=2, max_freq=6),
        "tiny": FisherConfig(embed_dim=192, depth=12, num_heads=3),
        "mini": FisherConfig(embed_dim=256, depth=12, num_heads=4),
        "small": FisherConfig(embed_dim=384, depth=12, num_heads=6),
    }

    def bands(self, rate: int) -> int:
        """Sub-bands at a rate in Hz: what fits in half the rate, at least one."""
        return max(1, (25 * rate // 1000 // 2 + 1) // self.config.band_width)

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        return fisher_spectrogram(wave, rate)
