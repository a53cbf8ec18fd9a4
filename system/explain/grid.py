"""Where tokens lie on a spectrogram: centres of patches in frames and bins, frequencies of bins, maps at full size."""

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
from system.encoders.subband import SubbandEncoder
from system.errors import WheeltapperError
from system.frontends.kaldi import BINS, band_centres
from system.frontends.logmel import hz_to_mel, mel_to_hz
from system.frontends.stft import frame_sizes


@dataclass(frozen=True)
class PatchGrid:
    """The tokens of one sequence, which spans ``width`` bins; a recording of several bands is several sequences.

    ``special`` tokens stand first. ``times`` (columns,) and ``bins`` (rows,) are the patches' centres in frames and
    bins, the first frame or bin lying at 0; tokens follow one another in time where ``frequency_first``, else in
    frequency.
    """

    special: int
    times: np.ndarray
    bins: np.ndarray
    width: int
    frequency_first: bool = False

    def unfold(self, values: Tensor) -> Tensor:
        """Numbers of the patches (..., N) to (..., columns, rows)."""
        if self.frequency_first:
            return values.unflatten(-1, (len(self.bins), len(self.times))).transpose(-1, -2)
        return values.unflatten(-1, (len(self.times), len(self.bins)))

    def distances(self) -> Tensor:
        """Euclidean distance between the centres of any two patches (N, N) in pixels: a frame or a bin is one."""
        rows, columns = len(self.bins), len(self.times)
        if self.frequency_first:
            places = np.stack([np.tile(self.times, rows), np.repeat(self.bins, columns)], 1)
        else:
            places = np.stack([np.repeat(self.times, rows), np.tile(self.bins, columns)], 1)
        centres = torch.from_numpy(places)
        return torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist").float()


def patch_grid(encoder: Encoder, frames: int) -> PatchGrid:
    """The grid of one pass over ``frames`` frames, at least a patch; WheeltapperError for a network without tokens."""
    config, first, special = encoder.config, False, 1
    if isinstance(encoder, Echo):
        size = (config.patch_frames, config.band_width)
        strides, width = (config.patch_stride, config.band_width), config.band_width
        frames = -(-frames // config.patch_stride) * config.patch_stride  # filled up with zeros
    elif isinstance(encoder, Ast):
        size, strides = (config.patch_size,) * 2, (config.time_stride, config.frequency_stride)
        width, first, special = config.bins, True, 2
    elif isinstance(encoder, SubbandEncoder | AudioMae | Beats):
        size = strides = (config.patch_size,) * 2
        width = config.band_width if isinstance(encoder, SubbandEncoder) else BINS
        special = 0 if isinstance(encoder, Beats) else 1
    else:
        raise WheeltapperError(f"attention: expected a transformer, found {encoder.family}, which has none")
    times, bins = (
        np.arange((length - patch) // stride + 1) * stride + (patch - 1) / 2
        for length, patch, stride in zip((max(frames, size[0]), width), size, strides, strict=True)
    )
    return PatchGrid(special, times, bins, width, first)


def pieces(encoder: Encoder, spectrogram: Tensor, mode: str = "") -> list[Tensor]:
    """A spectrogram (1, T, F) as the encoder's passes take it.

    Args:
        mode: of the encoder. Those that see the first ``frame_limit`` frames alone, filled up or not, give these; all
            others, and none, give what ``forward`` makes of the recording: pieces of that length, what is left over as
            a shorter one, nothing that is shorter than a patch but a whole recording.

    Raises WheeltapperError for an unknown mode, another shape, no frames, or values that are not finite.
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
    """Values (columns, rows) at centres ``times`` and ``bins`` to every frame and bin of ``shape``: linear between
    centres, constant beyond the outermost. Returns float32 (frames, bins)."""
    frames, width = shape
    wide = np.stack([np.interp(np.arange(width), bins, row) for row in values])
    return np.stack([np.interp(np.arange(frames), times, column) for column in wide.T], 1).astype(np.float32)


def frequencies(encoder: Encoder, bins: int, rate: int) -> np.ndarray:
    """Centre frequency in Hz of each of the spectrogram's bins (bins,); ``rate`` of the recording in Hz."""
    rate = encoder.rate or rate
    if isinstance(encoder, ResNeXt):
        return mel_to_hz(np.linspace(0.0, hz_to_mel(rate / 2.0), bins + 2))[1:-1]
    if encoder.filterbanks:
        return band_centres(encoder.filterbank, rate, bins)
    return np.arange(bins) * (rate / frame_sizes(rate)[0])


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Holds a network as in inference, without dropout; every part gets its own state back."""
    states = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, state in states:
            part.training = state
