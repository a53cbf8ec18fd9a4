"""Positions of tokens on a spectrogram: patch centres in frames and bins, frequencies of bins, maps at full size."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders.ast import Ast
from system.encoders.audiomae import AudioMae
from system.encoders.base import Encoder
from system.encoders.beats import Beats
from system.encoders.cnn import ResNeXt
from system.encoders.echo import Echo
from system.encoders.mn import HIGH_HZ, LOW_HZ, MobileNet
from system.encoders.subband import SubbandEncoder
from system.errors import WheeltapperError
from system.frontends.kaldi import BINS, band_centres
from system.frontends.logmel import hz_to_mel, mel_to_hz
from system.frontends.stft import frame_sizes


@dataclass(frozen=True)
class PatchGrid:
    """The tokens of one sequence of ``width`` bins; a recording of several bands has several sequences.

    Attributes:
        special: number of special tokens, which come first.
        times: centres of the patches in frames, (columns,); the first frame is at 0.
        bins: centres of the patches in bins, (rows,); the first bin is at 0.
        width: number of bins.
        frequency_first: consecutive tokens are neighbours in frequency; the default is in time.
    """

    special: int
    times: np.ndarray
    bins: np.ndarray
    width: int
    frequency_first: bool = False

    def unfold(self, values: Tensor) -> Tensor:
        """Values of the patches (..., N) as (..., columns, rows)."""
        if self.frequency_first:
            return values.unflatten(-1, (len(self.bins), len(self.times))).transpose(-1, -2)
        return values.unflatten(-1, (len(self.times), len(self.bins)))

    def distances(self) -> Tensor:
        """Euclidean distances between the centres of all patches, (N, N), in pixels (a frame or a bin)."""
        rows, columns = len(self.bins), len(self.times)
        if self.frequency_first:
            places = np.stack([np.tile(self.times, rows), np.repeat(self.bins, columns)], 1)
        else:
            places = np.stack([np.repeat(self.times, rows), np.tile(self.bins, columns)], 1)
        centres = torch.from_numpy(places)
        return torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist").float()


def patch_grid(encoder: Encoder, frames: int) -> PatchGrid:
    """The grid of one pass over ``frames`` frames, at least one patch; WheeltapperError for a network without
    tokens.
    """
    config, first, special = encoder.config, False, 1
    if isinstance(encoder, Echo):
        size = (config.patch_frames, config.band_width)
        strides, width = (config.patch_stride, config.band_width), config.band_width
        frames = -(-frames // config.patch_stride) * config.patch_stride  # padded with zeros
    elif isinstance(encoder, Ast):
        size, strides = (config.patch_size,) * 2, (config.time_stride, config.frequency_stride)
        width, first, special = config.bins, True, 2
    elif isinstance(encoder, SubbandEncoder | AudioMae | Beats):
        size = strides = (config.patch_size,) * 2
        width = config.band_width if isinstance(encoder, SubbandEncoder) else BINS
        special = 0 if isinstance(encoder, Beats) else 1
    else:
        raise WheeltapperError(f"attention: expected a transformer, found {encoder.family}, which has no attention")
    times, bins = (
        np.arange((length - patch) // stride + 1) * stride + (patch - 1) / 2
        for length, patch, stride in zip((max(frames, size[0]), width), size, strides, strict=True)
    )
    return PatchGrid(special, times, bins, width, first)


def pieces(encoder: Encoder, spectrogram: Tensor, mode: str = "") -> list[Tensor]:
    """Divides a spectrogram (1, T, F) into the inputs of the encoder's passes.

    Args:
        encoder: any family.
        spectrogram: (1, T, F).
        mode: of the encoder. Modes that use the first ``frame_limit`` frames only, padded or not, give these. All
            others, and none, give consecutive pieces of that length and a shorter one for the remainder; a remainder
            shorter than a patch is dropped.

    Raises:
        WheeltapperError: unknown mode, wrong shape, no frames, or values that are not finite.
    """
    if spectrogram.dim() != 3 or spectrogram.shape[0] != 1 or 0 in spectrogram.shape:
        raise WheeltapperError(f"a spectrogram: expected (1, frames, bins), found shape {tuple(spectrogram.shape)}")
    bad = int((~torch.isfinite(spectrogram)).sum())
    if bad:
        raise WheeltapperError(f"a spectrogram: expected finite values, found {bad} that are NaN or infinite")
    if mode:
        encoder.check_mode(mode)
    parts, seen = list(spectrogram.split(encoder.frame_limit, 1)), encoder.modes[mode].frames if mode else ""
    if seen == "pad":
        missing = encoder.frame_limit - parts[0].shape[1]
        return [F.pad(parts[0], (0, 0, 0, missing), value=encoder.pad_value)]
    longer = [part for part in parts if part.shape[1] >= encoder.patch_frames]
    return longer if longer and seen != "cut" else parts[:1]


def resize(values: np.ndarray, times: np.ndarray, bins: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolates values to every frame and bin: linearly between the centres, constant outside.

    Args:
        values: (columns, rows).
        times: centres of the columns in frames.
        bins: centres of the rows in bins.
        shape: (frames, bins).

    Returns:
        float32 (frames, bins).
    """
    frames, width = shape
    wide = np.stack([np.interp(np.arange(width), bins, row) for row in values])
    return np.stack([np.interp(np.arange(frames), times, column) for column in wide.T], 1).astype(np.float32)


def frequencies(encoder: Encoder, bins: int, rate: int) -> np.ndarray:
    """Centre frequency in Hz of each bin of the spectrogram, (bins,); ``rate`` of the recording in Hz."""
    rate = encoder.rate or rate
    if isinstance(encoder, ResNeXt):
        return mel_to_hz(np.linspace(0.0, hz_to_mel(rate / 2.0), bins + 2))[1:-1]
    if isinstance(encoder, MobileNet):
        return band_centres("mel", rate, bins, LOW_HZ, HIGH_HZ)
    if encoder.filterbanks:
        return band_centres(encoder.filterbank, rate, bins)
    return np.arange(bins) * (rate / frame_sizes(rate)[0])


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Context in which a network is in evaluation mode; afterwards every module has its previous mode."""
    states = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, state in states:
            part.training = state
