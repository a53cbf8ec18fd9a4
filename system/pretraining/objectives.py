"""The objectives of FISHER and ECHO: which sub-bands of a recording are used, and how they are masked."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from system.config import PretrainConfig
from system.encoders.base import Encoder
from system.encoders.echo import Echo, centre_code
from system.encoders.subband import SubbandEncoder
from system.errors import WheeltapperError
from system.frontends.stft import frame_sizes
from system.pretraining.distillation import Batch, SelfDistillation
from system.pretraining.masks import clone_count, inverse_block_mask, random_mask
from system.pretraining.published import PublishedTeacher


class FisherObjective(SelfDistillation):
    """All whole sub-bands of a recording, each with several inverse block masks (FISHER paper, section 3.2).

    Also used for EAT, whose network has one band.
    """

    student: SubbandEncoder

    def __init__(self, student: SubbandEncoder, config: PretrainConfig):
        self.patches_per_band = student.patches_per_band
        super().__init__(student, config)
        if config.teacher.checkpoint:
            self.published = PublishedTeacher(student, config.teacher)

    def draw(self, rate: int, frames: int, generator: Generator) -> Batch:
        bands = self.student.bands(rate)
        rows = bands * clone_count(bands, self.config.mask)
        height = max(1, frames // self.student.patch_frames)
        visible = inverse_block_mask(rows, height, self.patches_per_band, self.config.mask, generator)
        return {"visible": visible, **self.draw_gain(bands, generator)}

    def rows(self, spectrogram: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        return (self.student.split_bands(spectrogram),)


class EchoObjective(SelfDistillation):
    """A few bands of a recording at any position of its spectrum, with random masks over time (ECHO paper, section
    3.3).

    Number and positions of the bands follow the released code: 2 to 5, each starting at a random bin.
    """

    student: Echo
    patches_per_band = 1

    def draw(self, rate: int, frames: int, generator: Generator) -> Batch:
        width, stride = self.student.config.band_width, self.student.config.patch_stride
        bins = frame_sizes(rate)[0] // 2 + 1
        count = int(torch.randint(self.config.fewest_bands, self.config.most_bands + 1, (), generator=generator))
        clones = clone_count(self.config.most_bands, self.config.mask)  # the same for all recordings of a batch
        patches = max(1, -(-frames // stride))
        first = torch.randint(0, max(1, bins - width), (count,), generator=generator)
        return {
            "first_bin": first,
            "code": self.codes(first, rate),
            "bands": torch.tensor([count]),
            "visible": random_mask(count * clones, patches, self.config.mask, generator),
            **self.draw_gain(count, generator),
        }

    def codes(self, first: Tensor, rate: int) -> Tensor:
        """Codes (R, 1, D) of the centres of bands that start at the bins ``first`` (R,), at ``rate`` Hz."""
        window = frame_sizes(rate)[0]
        last = (first + self.student.config.band_width - 1).clamp(max=window // 2)
        return centre_code(first, last, window, self.student.dim).float()

    def rows(self, spectrogram: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        width, bins, first = self.student.config.band_width, spectrogram.shape[-1], batch["first_bin"]
        recordings = torch.arange(len(spectrogram), device=first.device)
        recording = recordings.repeat_interleave(batch["bands"], output_size=len(first))
        index = (first[:, None] + torch.arange(width, device=first.device)).clamp(max=bins - 1)
        rows = spectrogram[recording].gather(2, index[:, None].expand(-1, spectrogram.shape[1], -1))
        return self.student.split_patches(rows), batch["code"].to(rows.dtype)


def build_objective(student: Encoder, config: PretrainConfig) -> SelfDistillation:
    """Builds the objective of a configuration; raises WheeltapperError if it does not fit the encoder."""
    kinds: dict[str, tuple[type, Callable]] = {
        "fisher": (SubbandEncoder, FisherObjective),
        "echo": (Echo, EchoObjective),
    }
    network, objective = kinds[config.objective]
    if not isinstance(student, network):
        names = "FISHER or EAT" if config.objective == "fisher" else "ECHO"
        raise WheeltapperError(
            f"pretrain.objective: {config.objective} expects an encoder of the family {names}, found {student.family}; "
            "pretrain.loop.steps: 0 uses its weights without pre-training"
        )
    if config.teacher.checkpoint and config.objective == "echo":
        raise WheeltapperError("pretrain.teacher.checkpoint: expected none with the objective echo, found a network")
    return objective(student, config)
