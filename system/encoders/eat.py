"""EAT: a ViT over 16 x 16 patches of a filter-bank spectrogram, trained by self-distillation (Chen et al. 2024).

The network is FISHER's with one band of 128 bins, a position table as wide as the grid, and another front end.
"""

import torch.nn.functional as F
from torch import Tensor

from system.encoders.base import Mode
from system.encoders.subband import SubbandConfig, SubbandEncoder
from system.frontends.kaldi import BINS, FILTERBANKS, fbank

# Mean and deviation of the filter-bank energies over AudioSet: as rounded by EAT's authors, and with all digits as in
# AudioMAE, AST and RMIS.
MEAN, DEVIATION = -4.268, 4.569
AUDIOSET_MEAN, AUDIOSET_DEVIATION = -4.2677393, 4.5689974
TOOLKIT_FRAMES = 32  # ASDKit pads clips to a multiple of this
TABLE = {"band_width": BINS, "max_length": 768, "max_freq": 8}  # one band; 768 patches in time, 8 in frequency


class Eat(SubbandEncoder):
    """EAT encoder. Summary and embedding are the CLS token."""

    family = "EAT"
    rate = 16000
    log_gain_per_neper = 1.0 / DEVIATION  # 2 nepers of power, divided by twice the deviation
    filterbanks = FILTERBANKS
    modes = {
        "official": Mode("the authors: first 1024 frames, padded with zeros", "pad"),
        "rmis": Mode("the RMIS benchmark: mean and deviation with more digits", "pad"),
        "toolkit": Mode("ASDKit: the whole clip at once, padded with zeros to a multiple of 32 frames", "whole"),
        "chunks": Mode("recordings of any length, without padding", "tail"),
    }
    SIZES = {
        "nano": SubbandConfig(embed_dim=128, depth=4, num_heads=2, **TABLE),
        "base": SubbandConfig(embed_dim=768, depth=12, num_heads=12, **TABLE),
        "large": SubbandConfig(embed_dim=1024, depth=24, num_heads=16, **TABLE),
    }
    fixed = {"band_width": BINS, "max_freq": 8}
    defaults = {**fixed, "embed_dim": 768, "num_heads": 12}
    left_out = ("._ema", ".decoder.", ".fc_norm.", ".head.")  # teacher, decoder, classifier of fine-tuned files
    pad_value = -MEAN / (2.0 * DEVIATION)  # zero before normalisation

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        mean, deviation = (AUDIOSET_MEAN, AUDIOSET_DEVIATION) if mode == "rmis" else (MEAN, DEVIATION)
        wave = wave - wave.mean(-1, keepdim=True)
        return fbank(wave, rate, "hanning", self.filterbank).sub_(mean).div_(2.0 * deviation)

    def _embed_spectrogram(self, spectrogram: Tensor, mode: str, rate: int) -> Tensor:
        if mode == "toolkit":  # limited by the position table: 123 s in published checkpoints
            rows, patch = self.positions.shape[1] // self.patches_per_band, self.config.patch_size
            spectrogram = spectrogram[:, : rows * patch].to(self.dtype)
            frames = -(-spectrogram.shape[1] // TOOLKIT_FRAMES) * TOOLKIT_FRAMES
            return self._embed_piece(self._fill(spectrogram, frames), mode).float()
        if mode == "rmis":  # other digits of the mean, so zero is normalised to another value
            missing = max(0, self.frame_limit - spectrogram.shape[1])
            spectrogram = F.pad(spectrogram, (0, 0, 0, missing), value=-AUDIOSET_MEAN / (2.0 * AUDIOSET_DEVIATION))
        return super()._embed_spectrogram(spectrogram, mode, rate)
