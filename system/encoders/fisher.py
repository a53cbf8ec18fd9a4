"""FISHER: a ViT over sub-bands of the spectrogram, for signals of any sampling rate (FISHER paper, section 3)."""

from torch import Tensor

from system.encoders.base import Mode
from system.encoders.subband import SubbandConfig, SubbandEncoder
from system.frontends.stft import FISHER_SCALE, fisher_spectrogram

FisherConfig = SubbandConfig


class Fisher(SubbandEncoder):
    """FISHER encoder. Summary and embedding are the CLS tokens of all sub-bands, low to high."""

    family = "FISHER"
    log_gain_per_neper = 1.0 / FISHER_SCALE
    modes = {
        "official": Mode("the authors' read-me", "cut"),
        "rmis": Mode("the RMIS benchmark", "pad"),
        "chunks": Mode("the SIREN benchmark", "tail"),
    }
    # Published sizes, and our own nano, small enough to train on two CPU cores, with convolutions before the patches
    # and a position table as wide as the grid.
    SIZES = {
        "nano": FisherConfig(embed_dim=128, depth=4, num_heads=2, max_freq=6, stem=16),
        "tiny": FisherConfig(embed_dim=192, depth=12, num_heads=3),
        "mini": FisherConfig(embed_dim=256, depth=12, num_heads=4),
        "small": FisherConfig(embed_dim=384, depth=12, num_heads=6),
    }

    def bands(self, rate: int) -> int:
        """Number of whole sub-bands below half the sampling rate in Hz, at least one."""
        return max(1, (25 * rate // 1000 // 2 + 1) // self.config.band_width)

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        return fisher_spectrogram(wave, rate)
