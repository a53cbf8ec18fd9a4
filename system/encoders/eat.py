"""EAT: a ViT over 16 x 16 patches of a filter-bank spectrogram, trained by self-distillation (Chen et al. 2024).

The network is FISHER's with one band of 128 bins, a position table as wide as the grid, and another front end.
"""

from torch import Tensor

from system.encoders.base import Mode
from system.encoders.subband import SubbandConfig, SubbandEncoder
from system.frontends.kaldi import BINS, FILTERBANKS, fbank

# Mean and deviation over AudioSet: the authors' rounded figures, and the digits that RMIS writes out.
MEAN, DEVIATION = -4.268, 4.569
RMIS_MEAN, RMIS_DEVIATION = -4.2677393, 4.5689974
TABLE = {"band_width": BINS, "max_length": 768, "max_freq": 8}


class Eat(SubbandEncoder):
    """EAT; summary and embedding are the CLS."""

    family = "EAT"
    rate = 16000
    filterbanks = FILTERBANKS
    modes = {
        "official": Mode("the authors: first 1024 frames, silence up to there", "pad"),
        "rmis": Mode("the RMIS benchmark: mean and deviation with more digits", "pad"),
        "chunks": Mode("recordings of any length, nothing filled in", "tail"),
    }
    SIZES = {
        "nano": SubbandConfig(embed_dim=128, depth=4, num_heads=2, **TABLE),
        "base": SubbandConfig(embed_dim=768, depth=12, num_heads=12, **TABLE),
        "large": SubbandConfig(embed_dim=1024, depth=24, num_heads=16, **TABLE),
    }
    defaults = {**TABLE, "embed_dim": 768, "num_heads": 12}
    left_out = ("._ema", ".decoder.")  # teacher and decoder of the pre-training
    pad_value = -MEAN / (2.0 * DEVIATION)  # what a zero before normalisation becomes

    def bands(self, rate: int) -> int:
        return 1

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        mean, deviation = (RMIS_MEAN, RMIS_DEVIATION) if mode == "rmis" else (MEAN, DEVIATION)
        wave = wave - wave.mean(-1, keepdim=True)
        return fbank(wave, rate, "hanning", self.filterbank).sub_(mean).div_(2.0 * deviation)
