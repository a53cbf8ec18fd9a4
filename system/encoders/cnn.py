"""ResNeXt over a log-mel spectrogram as an image: the CNN of the MIMII paper that compares AST and CNN embeddings.

The network is timm's; tensors have torchvision's names.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from system.encoders import wrapped
from system.encoders.base import Mode
from system.encoders.convolutional import ConvolutionalEncoder
from system.errors import WheeltapperError
from system.frontends.logmel import BANDS, mel_decibels

N_FFT = 2048  # librosa's default, used in the paper
HOP = 128
# Limits of librosa's power_to_db.
FLOOR_DB = -100.0
RANGE_DB = 80.0
LEAST_DEVIATION_DB = 1e-3  # smallest divisor of the normalisation, so that silence becomes zeros
STAGES = 4
STRIDE = 32  # frames and bands per vector of the last stage
_PREFIX = "network."


@dataclass(frozen=True)
class ResNeXtConfig:
    """Sizes of the network; defaults are those of ResNeXt101-32x8d."""

    layers: tuple = (3, 4, 23, 3)  # blocks per stage
    cardinality: int = 32  # groups of the 3 x 3 convolutions
    base_width: int = 8  # channels per group in the first stage, if ``planes`` is 64
    planes: int = 64  # width of the first stage, doubled in every further one; outputs have four times as many channels


class ResNeXt(ConvolutionalEncoder):
    """ResNeXt encoder; its embedding is the mean of the last feature map (penultimate features).

    Each earlier stage has half the channels and twice as many vectors in time and in frequency.
    """

    family = "ResNeXt"
    rate = 16000
    stacks = tuple(f"network.layer{number}" for number in range(1, STAGES + 1))
    lora_targets = ()  # none by default; a configuration can name layers
    modes = {"official": Mode("the MIMII paper, whose clips have 10 s; longer ones are split", "split")}
    # 101-32x8d is published; nano is our own.
    SIZES = {
        "nano": ResNeXtConfig(layers=(1, 1, 1, 1), cardinality=4, base_width=64, planes=4),
        "101-32x8d": ResNeXtConfig(),
    }
    patch_frames = STRIDE
    shown = (2, 3, STAGES)
    frame_limit = 1 + 10 * rate // HOP  # 10 s

    def __init__(self, config: ResNeXtConfig):
        super().__init__(config)
        self.network = ResNet(
            Bottleneck,
            config.layers,
            num_classes=0,
            cardinality=config.cardinality,
            base_width=config.base_width,
            channels=tuple(config.planes << stage for stage in range(STAGES)),
            zero_init_last=False,  # otherwise untrained blocks would be the identity
        )

    @property
    def dim(self) -> int:
        return Bottleneck.expansion * self.config.planes << STAGES - 1

    def grid_bands(self, rate: int) -> int:
        return BANDS // STRIDE

    def stages(self) -> list[nn.Module]:
        """See ``ConvolutionalEncoder``."""
        return [self.get_submodule(name) for name in self.stacks]

    def layers(self) -> list[list[nn.Module]]:
        """See ``Encoder.layers``: the bottleneck blocks, from the last one on, in the order of the MIMII paper."""
        return [[block] for stage in reversed(self.stages()) for block in reversed(list(stage.children()))]

    def _front_end(self, wave: Tensor, rate: int, mode: str) -> Tensor:
        """Levels of 128 mel bands in dB, at most 80 dB below the maximum, normalised to mean 0 and deviation 1.

        The paper says "normalized" without details; normalising each recording is our interpretation.
        """
        level = mel_decibels(wave, rate, N_FFT, HOP, BANDS).clamp(min=FLOOR_DB)
        level = torch.maximum(level, level.amax((1, 2), keepdim=True) - RANGE_DB)
        level = level - level.mean((1, 2), keepdim=True)
        return level / level.square().mean((1, 2), keepdim=True).sqrt().clamp(min=LEAST_DEVIATION_DB)

    def feature_map(self, spectrogram: Tensor, depth: int | None = None) -> Tensor:
        """See ``ConvolutionalEncoder.feature_map``; (B, T, 128)."""
        network = self.network
        image = spectrogram.transpose(1, 2).unsqueeze(1).expand(-1, 3, -1, -1)
        x = network.conv1(image.contiguous(memory_format=torch.channels_last))  # the faster layout
        x = network.maxpool(network.act1(network.bn1(x)))
        for stage in self.stages()[:depth]:
            x = stage(x)
        return x

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {_PREFIX + name: tensor for name, tensor in tensors.items()}

    @classmethod
    def published(cls, loaded: dict[str, Any], settings: dict[str, Any], path: str | os.PathLike):
        """See ``Encoder.published``. Accepts the tensor names of timm and torchvision, with any prefix.

        The classifier is ignored. Counters of training steps, which older files lack, are set to zero. Sizes come from
        shapes; ``settings`` are not used.
        """
        tensors = wrapped.find_tensors(
            loaded,
            [f"layer1.0.conv{number}.weight" for number in (1, 2, 3)],
            "a ResNeXt checkpoint (tensors as timm names them)",
            path,
            (".fc.",),
        )
        norms = [name.removesuffix("running_mean") for name in tensors if name.endswith(".running_mean")]
        counters = {f"{norm}num_batches_tracked": torch.zeros((), dtype=torch.int64) for norm in norms}
        return cls.make_config(_sizes(tensors, path), path), cls.from_published(counters | tensors)

    @classmethod
    def is_possible(cls, config: ResNeXtConfig) -> bool:
        """Whether a network with the sizes of the configuration can be built."""
        sizes = asdict(config)
        layers = sizes.pop("layers")
        counts = [*layers, *sizes.values()]
        return (
            len(layers) == STAGES
            and all(isinstance(count, int) and 0 < count <= 1024 for count in counts)
            and config.planes * config.base_width >= 64  # otherwise a group would have no channel
        )


def _sizes(tensors: Mapping[str, Tensor], path: str | os.PathLike) -> dict[str, Any]:
    """Sizes of the network, read from tensor shapes."""
    grouped, last = tensors["layer1.0.conv2.weight"], tensors["layer1.0.conv3.weight"]
    if not (grouped.dim() == last.dim() == 4 and grouped.numel() and len(last) >= Bottleneck.expansion):
        found = f"{tuple(grouped.shape)} and {tuple(last.shape)}"
        raise WheeltapperError(f"{path}: layer1.0: expected kernels (out, in, height, width), found {found}")
    width, per_group = grouped.shape[:2]
    planes = len(last) // Bottleneck.expansion
    blocks = [{name.split(".")[1] for name in tensors if name.startswith(f"layer{stage + 1}.")} for stage in range(4)]
    return {
        "layers": [len(names) for names in blocks],
        "cardinality": width // per_group,
        "base_width": per_group * 64 // planes,
        "planes": planes,
    }
