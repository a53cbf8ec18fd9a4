"""MobileNetV3 of EfficientAT (Schmid et al. 2023): small CNNs that were taught audio tagging by transformers.

Own names of tensors say what a layer does; ``to_published`` has those of the published files.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.encoders import wrapped
from system.encoders.base import Mode
from system.encoders.convolutional import ConvolutionalEncoder
from system.frontends.kaldi import PREEMPHASIS, filters_of

BANDS = 128
N_FFT = 1024
WINDOW = 800  # samples of the window in the middle of ``N_FFT``
HOP = 320
LOW_HZ, HIGH_HZ = 0.0, 15000.0
FLOOR, SHIFT, SCALE = 1e-5, 4.5, 5.0  # a spectrogram is (ln(energy + FLOOR) + SHIFT) / SCALE
STRIDE = 32  # frames and bands per vector of the last block
NORM_EPS = 1e-3
STEM = 16  # channels before the first block
WIDENING = 6  # of the last convolution
WIDEST = 8.0


class Row(NamedTuple):
    """An inverted residual block of width 1."""

    kernel: int
    expanded: int  # channels
    out: int  # channels
    squeezed: bool  # whether it has squeeze-and-excitation
    hard_swish: bool  # otherwise ReLU
    stride: int


TABLE = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 2),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 2),
    Row(5, 960, 160, True, True, 1),
    Row(5, 960, 160, True, True, 1),
)
DEPTH = len(TABLE) + 1  # with the last convolution


@dataclass(frozen=True)
class MobileNetConfig:
    """Sizes of the network."""

    width: float = 1.0  # multiplies all numbers of channels

    @property
    def last(self) -> int:
        """Channels of the last convolution."""
        return WIDENING * channels(TABLE[-1].out * self.width)


def channels(count: float) -> int:
    """A number of channels as a multiple of 8, at least 8 and at least nine tenths of ``count``."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * count else rounded + 8


class Squeeze(nn.Module):
    """Squeeze-and-excitation: channels are weighted by what their means over the whole piece say."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, channels(width // 4))
        self.fc2 = nn.Linear(self.fc1.out_features, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, bands, frames) to the same shape."""
        weight = self.fc2(self.fc1(x.mean((2, 3))).relu()).sigmoid()
        return x * weight[:, :, None, None]


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, convolution of each channel, 1x1 convolution to few channels."""

    def __init__(self, row: Row, entering: int, width: float):
        super().__init__()
        expanded, out = channels(row.expanded * width), channels(row.out * width)
        self.activation = F.hardswish if row.hard_swish else F.relu
        self.expand = None
        if expanded != entering:
            self.expand, self.expand_norm = _convolution(entering, expanded, 1)
        self.depthwise, self.depthwise_norm = _convolution(expanded, expanded, row.kernel, row.stride, expanded)
        self.squeeze = Squeeze(expanded) if row.squeezed else None
        self.project, self.project_norm = _convolution(expanded, out, 1)
        self.is_residual = row.stride == 1 and entering == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, bands, frames) to the block's channels and stride."""
        entering = x
        if self.expand is not None:
            x = self.activation(self.expand_norm(self.expand(x)))
        x = self.activation(self.depthwise_norm(self.depthwise(x)))
        if self.squeeze is not None:
            x = self.squeeze(x)
        x = self.project_norm(self.project(x))
        return x + entering if self.is_residual else x

    @property
    def parts(self) -> list[str]:
        """Names of the parts in the order of the published files."""
        found = {"expand": self.expand, "depthwise": True, "squeeze": self.squeeze, "project": True}
        return [name for name, part in found.items() if part is not None]


class Convolution(nn.Module):
    """Convolution, batch normalisation and hard swish."""

    def __init__(self, entering: int, out: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv, self.norm = _convolution(entering, out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, bands, frames) to ``out`` channels."""
        return F.hardswish(self.norm(self.conv(x)))


def _convolution(
    entering: int, out: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(entering, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")  # untrained blocks all count, and their sums stay small
    return conv, nn.BatchNorm2d(out, NORM_EPS)


class MobileNet(ConvolutionalEncoder):
    """EfficientAT's MobileNetV3. Blocks have the numbers of the published files, ``features.1`` to ``features.16``.

    Recordings are resampled to 32 kHz by torchaudio's default kernel, which belongs to the model: the logarithm hears
    what a resampler leaves above the band of the recording. The blocks with squeeze-and-excitation see the whole piece,
    so that features of a part of a recording are not a part of its features: cut windows before they are encoded.
    """

    family = "EfficientAT"
    rate = 32000
    log_gain_per_neper = 2.0 / SCALE  # of energy
    lora_targets = ()  # none by default; a configuration can name layers, such as expand and project
    modes = {
        "official": Mode("the authors' example: the whole recording at once", "whole"),
        "chunks": Mode(
            "recordings of any length: pieces of 10 s as in training, the last one being the last 10 s", "tail"
        ),
    }
    # nano is our own.
    SIZES = {
        "nano": MobileNetConfig(0.05),
        "mn04": MobileNetConfig(0.4),
        "mn01": MobileNetConfig(0.1),
        "mn02": MobileNetConfig(0.2),
        "mn05": MobileNetConfig(0.5),
        "mn10": MobileNetConfig(1.0),
        "mn20": MobileNetConfig(2.0),
        "mn30": MobileNetConfig(3.0),
        "mn40": MobileNetConfig(4.0),
    }
    patch_frames = STRIDE
    frame_limit = 10 * rate // HOP
    padded = False
    shown = (10, 12, DEPTH)

    def __init__(self, config: MobileNetConfig):
        super().__init__(config)
        widths = [channels(count * config.width) for count in (STEM, *(row.out for row in TABLE))]
        self.stem = Convolution(1, widths[0], 3, 2)
        blocks: list[nn.Module] = [
            InvertedResidual(row, entering, config.width) for row, entering in zip(TABLE, widths, strict=False)
        ]
        self.blocks = nn.ModuleList([*blocks, Convolution(widths[-1], config.last, 1)])

    @property
    def dim(self) -> int:
        return self.config.last

    def grid_bands(self, rate: int) -> int:
        return BANDS // STRIDE

    def stages(self) -> list[nn.Module]:
        """See ``ConvolutionalEncoder``: the blocks."""
        return list(self.blocks)

    def layers(self) -> list[list[nn.Module]]:
        """See ``Encoder.layers``: the blocks, from the last one on."""
        return [[block] for block in reversed(self.blocks)]

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        """Natural logarithms of the energies in 128 mel bands from 0 to 15 kHz, shifted and scaled.

        A sample is lost in pre-emphasis. Recordings of less than half a window are padded with zeros.
        """
        wave = wave[:, 1:] - PREEMPHASIS * wave[:, :-1]
        wave = F.pad(wave, (0, max(0, N_FFT // 2 + 1 - wave.shape[1])))
        spectrum = torch.stft(
            wave, N_FFT, HOP, WINDOW, _window(wave.device), center=True, pad_mode="reflect", return_complex=True
        )
        energy = spectrum.real.square().add_(spectrum.imag.square())
        filters = filters_of("mel", rate, N_FFT, BANDS, wave.device, LOW_HZ, HIGH_HZ)
        mel = energy.transpose(1, 2) @ filters.T
        return mel.add_(FLOOR).log_().add_(SHIFT).div_(SCALE)

    def feature_map(self, spectrogram: Tensor, depth: int | None = None) -> Tensor:
        """See ``ConvolutionalEncoder.feature_map``; (B, T, 128)."""
        return self.feature_maps(spectrogram, [depth or self.depth])[0]

    def feature_maps(self, spectrogram: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Feature maps (B, channels, bands, frames) of (B, T, 128) after each of some blocks, in ascending order."""
        x, found = self.stem(spectrogram.transpose(1, 2).unsqueeze(1)), []
        for number, block in enumerate(self.blocks[: max(blocks)], 1):
            x = block(x)
            if number in blocks:
                found.append(x)
        return found

    def _embed_spectrogram(self, spectrogram: Tensor, mode: str, rate: int) -> Tensor:
        if mode == "official":
            return self._embed_piece(spectrogram.to(self.dtype), mode).float()
        return super()._embed_spectrogram(spectrogram, mode, rate)

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = {
            f"{part}.{layer}": f"features.{number}.{place}"
            for part, number in (("stem", 0), (f"blocks.{DEPTH - 1}", DEPTH))
            for layer, place in (("conv", 0), ("norm", 1))
        }
        for number, block in enumerate(self.blocks):
            for place, part in enumerate(block.parts if isinstance(block, InvertedResidual) else ()):
                own, published = f"blocks.{number}.{part}", f"features.{number + 1}.block.{place}"
                names |= {f"{own}.fc{layer}": f"{published}.conc_se_layers.0.fc{layer}" for layer in (1, 2)}
                names |= {own: f"{published}.0", f"{own}_norm": f"{published}.1"}
        return {f"{names[layer]}.{kind}": tensor for layer, kind, tensor in _split(state)}

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        places: dict[str, set[int]] = {}  # of the convolutions of each block: two or three
        for name in tensors:
            if (match := _NAME.fullmatch(name)) and match["place"] and match["layer"]:
                places.setdefault(match["block"], set()).add(int(match["place"]))
        order = {block: sorted(found) for block, found in places.items()}
        return {_own_name(name, order): tensor for name, tensor in tensors.items()}

    @classmethod
    def published(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike):
        """See ``Encoder.published``. The classifier is ignored; the width comes from shapes, not from ``settings``.

        The front end is that of the files without ``hop`` or ``mels`` in their names, which the tensors do not tell.
        """
        last = f"features.{DEPTH}.0.weight"
        needs = [last, "features.0.0.weight", "features.1.block.0.0.weight"]
        tensors = wrapped.find_tensors(
            loaded, needs, "an EfficientAT checkpoint (features.0 to features.16)", path, (".classifier.",)
        )
        count = len(tensors[last]) if tensors[last].dim() else 0
        known = (config.width for config in cls.SIZES.values() if config.last == count)
        width = next(known, count / (WIDENING * TABLE[-1].out))
        return cls.make_config({"width": width}, path), cls.from_published(tensors)

    @classmethod
    def is_possible(cls, config: MobileNetConfig) -> bool:
        """Whether a network with the sizes of the configuration can be built."""
        return 0.0 < config.width <= WIDEST


_NAME = re.compile(
    r"features\.(?P<block>\d+)\.(?:block\.(?P<place>\d+)\.)?(?:(?P<layer>[01])|conc_se_layers\.0)\.(?P<kind>.+)"
)


def _own_name(name: str, order: Mapping[str, list[int]]) -> str:
    """Own name of a published tensor; ``order`` has the places of the convolutions of each block. Others stay."""
    match = _NAME.fullmatch(name)
    if not match:
        return name
    number, place, layer, kind = int(match["block"]), match["place"], match["layer"], match["kind"]
    if place is None:
        part = "stem" if number == 0 else f"blocks.{number - 1}"
        return f"{part}.{'norm' if layer == '1' else 'conv'}.{kind}"
    if layer is None:
        return f"blocks.{number - 1}.squeeze.{kind}"
    found = order[match["block"]]
    parts = ("expand", "depthwise", "project")[-len(found) :]
    part = parts[min(found.index(int(place)), len(parts) - 1)]
    return f"blocks.{number - 1}.{part}{'_norm' * (layer == '1')}.{kind}"


def _split(state: Mapping[str, Tensor]) -> list[tuple[str, str, Tensor]]:
    """Name of the layer, kind of tensor, tensor."""
    return [(*name.rsplit(".", 1), tensor) for name, tensor in state.items()]  # type: ignore[misc]


@lru_cache(maxsize=4)
def _window(device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # cached tensors are used in training too
        return torch.hann_window(WINDOW, periodic=False, device=device)
