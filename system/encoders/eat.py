"""EAT: a ViT over 16 x 16 patches of a filter-bank spectrogram, trained by self-distillation (Chen et al. 2024).

The network is FISHER's with one band of 128 bins, a position table as wide as the grid, and another front end.
"""

import torch.nn.functional as F
from torch import Tensor

from system.encoders.base import Mode
from system.encoders.subband import SubbandConfig, SubbandEncoder
from system.frontends.kaldi import BINS, FILTERBANKS, fbank

# Mean and deviation of the filter banks over AudioSet: as EAT's authors round them, and with all digits, as AudioMAE,
# AST and RMIS have them.
MEAN, DEVIATION = -4.268, 4.569
AUDIOSET_MEAN, AUDIOSET_DEVIATION = -4.2677393, 4.5689974
TOOLKIT_FRAMES = 32  # of which ASDKit makes a clip a multiple
TABLE = {"band_width": BINS, "max_length": 768, "max_freq": 8}  # one band; 768 patches in time, 8 in frequency


class Eat(SubbandEncoder):
    """EAT; summary and embedding are the CLS."""

    family = "EAT"
    rate = 16000
    neper = 1.0 / DEVIATION  # of a power, over twice the deviation
    filterbanks = FILTERBANKS
    modes = {
        "official": Mode("the authors: first 1024 frames, silence up to there", "pad"),
        "rmis": Mode("the RMIS benchmark: mean and deviation with more digits", "pad"),
        "toolkit": Mode("ASDKit: the whole clip at once, silence up to a multiple of 32 frames", "whole"),
        "chunks": Mode("recordings of any length, nothing filled in", "tail"),
    }
    SIZES = {
        "nano": SubbandConfig(embed_dim=128, depth=4, num_heads=2, **TABLE),
        "base": SubbandConfig(embed_dim=768, depth=12, num_heads=12, **TABLE),
        "large": SubbandConfig(embed_dim=1024, depth=24, num_heads=16, **TABLE),
    }
    fixed = {"band_width": BINS, "max_freq": 8}
    defaults = {**fixed, "embed_dim": 768, "num_heads": 12}
    left_out = ("._ema", ".decoder.", ".fc_norm.", ".head.")  # teacher and decoder, classifier of fine-tuned ones
    pad_value = -MEAN / (2.0 * DEVIATION)  # what a zero before normalisation becomes

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        mean, deviation = (AUDIOSET_MEAN, AUDIOSET_DEVIATION) if mode == "rmis" else (MEAN, DEVIATION)
        wave = wave - wave.mean(-1, keepdim=True)
        return fbank(wave, rate, "hanning", self.filterbank).sub_(mean).div_(2.0 * deviation)

    def _embed_spectrogram(self, spectrogram: Tensor, mode: str, rate: int) -> Tensor:
        """As every encoder's. ``toolkit`` sees at most what the position table reaches, 123 s in published ones."""
        if mode == "toolkit":
            rows, patch = self.positions.shape[1] // self.patches_per_band, self.config.patch_size
            spectrogram = spectrogram[:, : rows * patch].to(self.dtype)
            frames = -(-spectrogram.shape[1] // TOOLKIT_FRAMES) * TOOLKIT_FRAMES
            return self._embed_piece(self._fill(spectrogram, frames), mode).float()
        if mode == "rmis":  # its own zero: the digits of the mean differ
            missing = max(0, self.frame_limit - spectrogram.shape[1])
            spectrogram = F.pad(spectrogram, (0, 0, 0, missing), value=-AUDIOSET_MEAN / (2.0 * AUDIOSET_DEVIATION))
        return super()._embed_spectrogram(spectrogram, mode, rate)
