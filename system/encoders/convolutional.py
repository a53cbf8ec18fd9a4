"""What all CNNs share: feature maps as tokens, and batch normalisation that keeps its statistics."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from system.encoders.base import Encoder, Tokens


class ConvolutionalEncoder(Encoder):
    """Base class of CNNs. The grid is a feature map; summary and embedding are its mean.

    ``depth`` counts the modules of ``stages``. ``dim``, ``grid_bands`` and ``patch_frames`` are those of the last one;
    earlier ones have other numbers of channels, and more vectors in time and in frequency. Batch normalisation keeps
    its statistics in training too, because a few machine clips cannot replace those of the data that the weights were
    trained with.

    A subclass also implements ``stages`` and ``feature_map``.
    """

    shown: ClassVar[Sequence[int]]  # stages that pages explain, the last one at the end
    padded = True  # whether spectrograms shorter than ``patch_frames`` are padded to that length

    def stages(self) -> list[nn.Module]:
        """Modules that return feature maps (B, channels, bands, frames), from first to last."""
        raise NotImplementedError

    def feature_map(self, spectrogram: Tensor, depth: int | None = None) -> Tensor:
        """Feature map (B, channels, bands, frames) of (B, T, F) after ``depth`` stages (None for all)."""
        raise NotImplementedError

    @property
    def depth(self) -> int:
        """Number of stages that ``forward`` can run."""
        return len(self.stages())

    def train(self, mode: bool = True) -> "ConvolutionalEncoder":
        """Sets training mode, except for batch normalisation, which stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def _fill(self, spectrogram: Tensor, frames: int = 0) -> Tensor:
        return super()._fill(spectrogram, frames) if self.padded else spectrogram

    def _forward_piece(self, spectrogram: Tensor, depth: int | None) -> Tokens:
        features = self._passes(lambda part: self.feature_map(part, depth), spectrogram, spectrogram.shape[1])
        return Tokens(features.permute(0, 3, 2, 1), features.mean((2, 3)).unsqueeze(1))
