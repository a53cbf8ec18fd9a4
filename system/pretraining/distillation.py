"""Teacher-student self-distillation on sub-bands: the common part of the objectives of FISHER and ECHO.

A batch contains recordings and the random numbers of each (masks, positions of ECHO's bands), so the result does not
depend on the process or the part of a batch that a recording belongs to.

Where the FISHER paper (section 3.2, eqs. 2-4) leaves details open, the official code of EAT, on which it builds,
decides: targets are the outputs of the MLPs before the residual connection, normalised per layer over the tokens,
averaged, and normalised over the channels. One choice is ours: EAT sums the band loss over all rows of a batch, so that
its weight grows with the batch; here both losses are means with the paper's weights 1 : 1.

Two band targets are ours. EAT's is the mean of patch targets that were normalised over the tokens, which is nearly zero
for a stationary sound. With ``positions`` a linear layer predicts from the CLS token the time mean of the patch targets
at each frequency position of its band, each channel standardised over the corpus. With ``whitened`` the CLS token
predicts the mean of the layers over all tokens, minus the part that the position codes of the tokens predict, whitened
(``Whitening``). Patch targets can be whitened likewise (``target.norm``): ECHO's tokens mostly consist of such codes,
which other normalisations leave in the target.
"""

import copy
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from system import audio
from system.config import DecoderConfig, PretrainConfig
from system.errors import WheeltapperError
from system.pretraining.published import PublishedTeacher
from system.pretraining.whitening import Whitening
from system.training.crops import fit_length

if TYPE_CHECKING:
    from system.encoders.echo import Echo
    from system.encoders.subband import SubbandEncoder

Batch = dict[str, Any]
SILENCE = 1e-8


class Decoder(nn.Module):
    """Shallow CNN on the patch grid: grouped convolutions, channel norm without weights, GELU, residual connections."""

    def __init__(self, dim: int, width: int, config: DecoderConfig):
        super().__init__()
        dims = [dim] + [config.dim] * config.layers
        kernel = (config.kernel, config.kernel if width > 1 else 1)
        self.blocks = nn.ModuleList(
            nn.Conv2d(a, b, kernel, padding=(kernel[0] // 2, kernel[1] // 2), groups=config.groups)
            for a, b in itertools.pairwise(dims)
        )
        self.proj = nn.Linear(config.dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Decodes a patch grid (R, H, W, D) to (R, H * W, D)."""
        x = x.permute(0, 3, 1, 2)
        for conv in self.blocks:
            y = conv(x)
            y = F.gelu(F.layer_norm(y.permute(0, 2, 3, 1), y.shape[1:2]).permute(0, 3, 1, 2))
            x = x + y if x.shape == y.shape else y
        return self.proj(x.flatten(2).transpose(1, 2))


class SelfDistillation(nn.Module):
    """Student, decoder, and the teacher, which is a moving average of the student.

    A subclass defines the rows of a batch (``draw``, ``rows``) and the width of the patch grid.
    """

    patches_per_band: int  # along frequency

    student: "SubbandEncoder | Echo"

    def __init__(self, student: "SubbandEncoder | Echo", config: PretrainConfig):
        super().__init__()
        self.config = config
        self.student = student
        self.decoder = Decoder(student.dim, self.patches_per_band, config.decoder)
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()
        self.head: nn.Module = nn.Identity()
        self.published: PublishedTeacher | None = None  # an objective that can learn from one builds it
        self.whitening = nn.ModuleDict()
        dim, places, floor = student.dim, self.patches_per_band, config.target.floor
        if config.target.norm == "whitened":
            self.whitening["patches"] = Whitening(dim, floor, codes=dim)
        if config.target.band == "whitened":
            self.whitening["band"] = Whitening(dim, floor, codes=dim)
        elif config.target.band == "positions":
            self.whitening["band"] = Whitening(dim, 0.0, places, diagonal=True)
            self.head = nn.Linear(dim, places * dim)

    # To be implemented by an objective.

    def draw(self, rate: int, frames: int, generator: Generator) -> Batch:
        """Random numbers of one recording of ``frames`` frames, among them ``visible`` int64 (rows, patches).

        The tensors of the recordings of a batch are concatenated along their first axis.
        """
        raise NotImplementedError

    def draw_gain(self, bands: int, generator: Generator) -> Batch:
        """Random gains of the student's sub-bands of one recording, if student and teacher receive different levels."""
        if not self.config.gain_db:
            return {}
        nepers = self.config.gain_db * math.log(10.0) / 20.0 * torch.randn(bands, generator=generator)
        return {"gain": nepers * self.student.log_gain_per_neper}

    def rows(self, spectrogram: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        """Sub-bands (R, ...) of spectrograms (B, T, F) and the other arguments of the student's ``embed_patches``."""
        raise NotImplementedError

    # Common to all objectives.

    def extra_state(self) -> list[str]:
        """Names of the teacher's tensors and of the statistics, which a resumed run needs although they are not
        trained.
        """
        names = [f"teacher.{name}" for name, _ in self.teacher.named_parameters()]
        if self.published:
            names += [f"published.{name}" for name in self.published.extra_state()]
        return names + [f"whitening.{name}.moments" for name in self.whitening]

    def train(self, mode: bool = True) -> "SelfDistillation":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch of ``batches.Batches``.

        Returns:
            ``loss``, the weighted sum of ``loss_band`` and ``loss_patch``; the spread of targets and predictions over
            the tokens and, for the band loss, over the rows.
        """
        with torch.no_grad():
            inputs = batch if "spectrograms" in batch else self.inputs(batch, self.student.device)
            rows, *codes = self.rows(inputs["spectrograms"][0], batch)
            student_rows, *_ = self.rows(inputs["spectrograms"][1], batch)
            if "gain" in batch:
                student_rows = student_rows + batch["gain"].view(-1, *[1] * (rows.dim() - 1))
        if self.partly_used:
            taught = self._taught(self.student.embed_patches(student_rows, *codes), codes, inputs, len(batch["snr"]))
            return {"loss": self._weigh(taught), **taught}
        visible = batch["visible"]
        target, band_target = self.targets(rows, *codes)
        clones = len(visible) // len(rows)
        clone_codes = [code.repeat_interleave(clones, 0) for code in codes]
        index = visible.unsqueeze(-1).expand(-1, -1, self.student.dim)
        whole = self.student.embed_patches(student_rows, *codes)
        patches = whole.repeat_interleave(clones, 0)
        encoded, _ = self.student.encode(patches.gather(1, index), *clone_codes)
        filled = self._noise(patches).scatter(1, index, encoded[:, 1:].to(patches.dtype))
        predicted = self.decoder(filled.unflatten(1, (-1, self.patches_per_band)))

        root = self.student.dim**0.5
        weights = _row_weights(batch, len(rows))
        hidden = torch.ones(visible.shape[0], patches.shape[1], device=rows.device).scatter_(1, visible, 0.0)
        squares = (predicted.float().unflatten(0, (-1, clones)) - target.unsqueeze(1)).square().sum(-1)
        hidden = hidden.unflatten(0, (-1, clones))
        loss_patch = ((squares * hidden).sum((1, 2)) / hidden.sum((1, 2)) * weights).sum() / root
        band = self.head(encoded[:, 0]).float()
        errors = (band.unflatten(0, (-1, clones)) - band_target.unsqueeze(1)).square().mean((1, 2))
        loss_band = (errors * weights).sum() * root
        loss = self.config.band_weight * loss_band + self.config.patch_weight * loss_patch
        taught = self._taught(whole, codes, inputs, len(batch["snr"])) if self.published else {}
        if taught:
            loss = loss + self._weigh(taught)
        return {
            "loss": loss,
            "loss_band": loss_band,
            "loss_patch": loss_patch,
            "target_std": _spread(target.flatten(0, 1)),
            "prediction_std": _spread(predicted.detach()[::clones].flatten(0, 1)),
            "band_target_std": _spread(band_target),
            "band_std": _spread(band.detach()),
            **taught,
        }

    @property
    def partly_used(self) -> bool:
        """Whether the student learns from the published network alone, so that decoder and head are not trained."""
        return self.published is not None and not (self.config.band_weight or self.config.patch_weight)

    def _taught(self, patches: Tensor, codes: list[Tensor], inputs: Batch, count: int) -> dict[str, Tensor]:
        """Losses of the published network for patches (R, N, D) of ``count`` recordings."""
        assert self.published is not None
        tokens, _ = self.student.encode(patches, *codes)
        grid = tokens[:, 1:].unflatten(1, (-1, self.patches_per_band)).unflatten(0, (count, -1))
        return self.published(grid.transpose(1, 2), inputs["published"], self.config.copies)

    def _weigh(self, taught: dict[str, Tensor]) -> Tensor:
        weights = self.config.teacher
        return weights.weight * taught["loss_teacher"] + weights.relation_weight * taught["loss_relation"]

    def inputs(self, batch: Batch, device: torch.device) -> Batch:
        """``spectrograms``, those (B, T, F) of the teacher and of the student, and ``published``, what the published
        network gets of the student's crops, if there is one.
        """
        rate, samples, snr = batch["rate"], batch["samples"], torch.from_numpy(batch["snr"])
        count = sum(len(places) for places, _ in batch["waves"].values())
        waves = torch.empty(count, samples, device=device)
        for own, (places, crops) in batch["waves"].items():
            crops = crops.to(device)
            with torch.autocast(crops.device.type, enabled=False):
                resampled = crops if own == rate else audio.official_resampler(own, rate)(crops)
            waves[places.to(device)] = fit_length(resampled, samples)
        waves, others = waves[: len(snr)], waves[len(snr) :]
        spectrogram = self.student.spectrogram(waves, rate)
        if not len(others):
            return {"spectrograms": (spectrogram, spectrogram), **self._published_input(waves, rate)}
        under = snr.isfinite().nonzero()[:, 0]
        ratio = (10.0 ** (-snr[under] / 20.0)).to(device)
        under = under.to(device)
        level = waves[under].std(-1) / others.std(-1).clamp(min=SILENCE) * ratio
        waves[under] += level.unsqueeze(1) * others
        both = spectrogram, self.student.spectrogram(waves, rate)
        return {"spectrograms": both, **self._published_input(waves, rate)}

    def _published_input(self, waves: Tensor, rate: int) -> Batch:
        return {"published": self.published.spectrogram(waves, rate)} if self.published else {}

    def _noise(self, patches: Tensor) -> Tensor:
        """Gaussian noise for masked patches (R, N, D), equal in all rows, so that it does not depend on the number of
        rows of a process.
        """
        return (torch.randn_like(patches[0]) * self.config.mask.noise_std).repeat(len(patches), 1, 1)

    @torch.no_grad()
    def targets(self, rows: Tensor, *codes: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's targets for unmasked sub-bands: patch targets (R, N, D), and the target of ``head`` (R, D or
        more).
        """
        config, dim = self.config.target, (self.teacher.dim,)
        _, kept = self.teacher.encode(self.teacher.embed_patches(rows, *codes), *codes, keep=config.layers)
        layers = [layer[:, 1:].float() for layer in kept]
        mean = torch.stack([F.layer_norm(layer, dim) for layer in layers]).mean(0)
        if "whitened" in (config.norm, config.band):  # position codes that the teacher receives with each patch
            told = self.teacher.embed_patches(torch.zeros_like(rows), *codes).float()
        if config.norm == "instance":
            normed = [F.instance_norm(layer.transpose(1, 2)).transpose(1, 2) for layer in layers]
            target = F.layer_norm(torch.stack(normed).mean(0), dim)
        elif config.norm == "layer":
            target = F.layer_norm(mean, dim)
        else:
            target = self.whitening["patches"](mean.flatten(0, 1)[:, None], told.flatten(0, 1)[:, None]).view_as(mean)
        if config.band == "mean":
            return target, target.mean(1)
        if config.band == "positions":
            means = target.unflatten(1, (-1, self.patches_per_band)).mean(1)
            return target, self.whitening["band"](means).flatten(1)
        return target, self.whitening["band"](mean.mean(1, keepdim=True), told.mean(1, keepdim=True)).squeeze(1)

    def update_statistics(self) -> None:
        """Adds the targets of this step, of all processes, to the running statistics."""
        for module in self.modules():
            if isinstance(module, Whitening):
                module.update()

    @torch.no_grad()
    def update_teacher(self, step: int) -> float:
        """Moves the teacher towards the student (eq. 2); returns the decay, which rises linearly over the steps."""
        share = min(1.0, step / max(1, self.config.ema_steps))
        decay = self.config.ema_start + share * (self.config.ema_end - self.config.ema_start)
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast.to(slow.dtype), 1.0 - decay)
        return decay

    def check_alive(self, step: int, values: Mapping[str, float]) -> None:
        """Raises WheeltapperError if targets or predictions have become constant."""
        for name, figure, least in (
            ("targets", "target_std", self.config.min_target_std),
            ("predictions", "prediction_std", self.config.min_prediction_std),
            ("sub-bands' summaries", "band_std", self.config.min_prediction_std),
        ):
            if values.get(figure, least) < least:
                raise WheeltapperError(
                    f"pre-training collapsed at step {step}: expected a spread of the {name} of at least {least}, "
                    f"found {values[figure]:.2g}; a slower teacher (ema_start nearer to 1) or a lower learning rate "
                    "may help"
                )


def _row_weights(batch: Batch, rows: int) -> Tensor | float:
    """Weight of each row in the mean over recordings, which may have different numbers of rows."""
    if "bands" not in batch:
        return 1.0 / rows
    bands = batch["bands"]
    return (1.0 / (bands * len(bands))).repeat_interleave(bands, output_size=rows)


def _spread(x: Tensor) -> Tensor:
    """Standard deviation over all rows (N, D), averaged over the channels."""
    return x.float().std(0).mean()
