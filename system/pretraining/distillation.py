"""Teacher-student self-distillation of the sub-band encoder (FISHER paper, section 3.2, eqs. 2-4).

Where the paper is silent the official code of EAT, on which it builds, decides: targets are the outputs of the MLPs
before the residual, normalised per layer over the tokens, averaged, and normalised over the channels. One choice is
ours: EAT sums the band term over all rows of a batch, so that its weight grows with the batch; here both terms are
means, the weights 1 : 1 of the paper.
"""

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.config import DecoderConfig, PretrainConfig
from system.encoders.subband import SubbandEncoder
from system.errors import WheeltapperError
from system.pretraining.masks import clone_count, inverse_block_mask


class Decoder(nn.Module):
    """Shallow CNN over the patch grid: grouped convolutions, channel norm without weights, GELU, residuals."""

    def __init__(self, dim: int, config: DecoderConfig):
        super().__init__()
        dims = [dim] + [config.dim] * config.layers
        self.blocks = nn.ModuleList(
            nn.Conv2d(a, b, config.kernel, padding=config.kernel // 2, groups=config.groups)
            for a, b in itertools.pairwise(dims)
        )
        self.proj = nn.Linear(config.dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(R, H, W, D) to (R, H * W, D)."""
        x = x.permute(0, 3, 1, 2)
        for conv in self.blocks:
            y = conv(x)
            y = F.gelu(F.layer_norm(y.permute(0, 2, 3, 1), y.shape[1:2]).permute(0, 3, 1, 2))
            x = x + y if x.shape == y.shape else y
        return self.proj(x.flatten(2).transpose(1, 2))


class SelfDistillation(nn.Module):
    """Student, decoder and the teacher that follows the student as a moving average."""

    def __init__(self, student: SubbandEncoder, config: PretrainConfig):
        super().__init__()
        self.config = config
        self.student = student
        self.decoder = Decoder(student.dim, config.decoder)
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()

    def extra_state(self) -> list[str]:
        """The teacher is no parameter to train, yet part of what a resumed run needs."""
        return [f"teacher.{name}" for name, _ in self.teacher.named_parameters()]

    def train(self, mode: bool = True) -> "SelfDistillation":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """Losses of a batch ``{"wave": (B, samples), "rate": Hz}``; random masks from torch's global state.

        Returns:
            loss = loss_band + loss_patch, and the spread over the tokens of targets and predictions.
        """
        with torch.no_grad():
            rows = self.student.split_bands(self.student.spectrogram(batch["wave"], batch["rate"]))
        height = rows.shape[1] // self.student.config.patch_size
        width = self.student.patches_per_band
        clones = clone_count(len(rows), self.config.mask)
        visible = inverse_block_mask(len(rows) * clones, height, width, self.config.mask).to(rows.device)

        target = self._target(rows).repeat_interleave(clones, 0)
        patches = self.student.embed_patches(rows).repeat_interleave(clones, 0)
        index = visible.unsqueeze(-1).expand(-1, -1, self.student.dim)
        encoded, _ = self.student.encode(patches.gather(1, index))
        filled = torch.randn_like(patches) * self.config.mask.noise_std
        filled = filled.scatter(1, index, encoded[:, 1:].to(filled.dtype))
        predicted = self.decoder(filled.unflatten(1, (height, width)))

        hidden = torch.ones(visible.shape[0], height * width, dtype=torch.bool, device=rows.device)
        hidden.scatter_(1, visible, False)
        root = self.student.dim**0.5
        loss_patch = (predicted[hidden] - target[hidden]).float().square().sum(-1).mean() / root
        loss_band = (encoded[:, 0] - target.mean(1)).float().square().sum(-1).mean() / root
        return {
            "loss": loss_band + loss_patch,
            "loss_band": loss_band,
            "loss_patch": loss_patch,
            "target_std": _spread(target),
            "prediction_std": _spread(predicted.detach()),
        }

    @torch.no_grad()
    def _target(self, rows: Tensor) -> Tensor:
        """Teacher's view of the unmasked sub-bands: (R, H * W, D)."""
        _, updates = self.teacher.encode(self.teacher.embed_patches(rows))
        layers = [F.instance_norm(update[:, 1:].float().transpose(1, 2)).transpose(1, 2) for update in updates]
        return F.layer_norm(torch.stack(layers).mean(0), (self.teacher.dim,))

    @torch.no_grad()
    def update_teacher(self, step: int) -> float:
        """Moves the teacher towards the student (eq. 2); returns the decay, which rises linearly over the steps."""
        share = min(1.0, step / max(1, self.config.ema_steps))
        decay = self.config.ema_start + share * (self.config.ema_end - self.config.ema_start)
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast.to(slow.dtype), 1.0 - decay)
        return decay

    def check_alive(self, step: int, target_std: float, prediction_std: float) -> None:
        """Raises WheeltapperError when targets or predictions have become the same everywhere."""
        for name, found, least in (
            ("targets", target_std, self.config.min_target_std),
            ("predictions", prediction_std, self.config.min_prediction_std),
        ):
            if found < least:
                raise WheeltapperError(
                    f"pre-training collapsed at step {step}: expected a spread of the {name} of at least {least}, "
                    f"found {found:.2g}; a slower teacher (ema_start nearer to 1) or a lower learning rate may help"
                )


def _spread(x: Tensor) -> Tensor:
    """Standard deviation over all tokens, averaged over the channels."""
    return x.float().flatten(0, 1).std(0).mean()
