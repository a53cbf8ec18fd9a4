"""The adapted encoder: adapters, gate, pooling, projection and training heads (Wang and Liu 2026, section 3)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from system.adaptation import augment
from system.adaptation.fusion import GatedFusion
from system.adaptation.heads import Head, build_head
from system.adaptation.lora import add_lora
from system.config import SIMAM, EncoderBranchConfig
from system.encoders.base import Encoder, Tokens
from system.encoders.pooling import Pooling, pool_tokens, select
from system.frontends.simam import enhance_rows


class Views(NamedTuple):
    """Embeddings (B, E) of both views, and the mean weight of the first input over time (B, T)."""

    two_channel: Tensor
    near_only: Tensor
    gate: Tensor


class AdaptedEncoder(nn.Module):
    """Embeds one input, or two inputs fused by a gate.

    Args:
        encoder: shared by both inputs. ``config.tune`` selects what is trained: LoRA adapters, all weights, or nothing.
        config: settings of the branch.
        rate: sampling rate of the waveforms in Hz; it determines the number of bands that the projection receives.
        simam: kind of SimAM by machine, applied after the encoder's front end.

    Example:
        >>> model = AdaptedEncoder(encoder, EncoderBranchConfig(inputs=["near", "far"]), rate=16000)
        >>> model.views(torch.randn(1, 2, 160000)).two_channel.shape
        torch.Size([1, 256])
    """

    def __init__(
        self, encoder: Encoder, config: EncoderBranchConfig, rate: int, simam: Mapping[str, str] | None = None
    ):
        super().__init__()
        self.config, self.rate, self.simam = config, rate, dict(simam or {})
        with torch.no_grad():  # a second of silence gives the sizes at this rate and depth
            silence = encoder.spectrogram(torch.zeros(1, rate), rate)
            tokens = select(encoder(silence, config.depth or None), config.pool)
            self.pooling = Pooling(config.pool, config.pool_power, tokens.shape[-1])
            width = self.pooling(tokens).shape[1]
        self.encoder = _tunable(encoder, config, silence)
        self.fusion = GatedFusion(tokens.shape[-1], config.gate_bias) if len(config.inputs) > 1 else None
        self.projection = nn.Linear(width, config.embedding_dim)

    @torch.no_grad()
    def align_projection(self, pooled: Tensor) -> None:
        """Initialises the projection with the principal directions of pooled tokens.

        Adaptation then starts from an embedding that keeps lengths and angles; a random projection would lose part of
        them.

        Args:
            pooled: pooled tokens (N, width) of normal clips. If N is smaller than the embedding dimension, random
                orthogonal directions are added; if the width is smaller, the remaining rows are zero.
        """
        directions = torch.linalg.svd(pooled.double(), full_matrices=False).Vh
        random = torch.randn(self.projection.weight.shape, dtype=torch.float64)
        basis = torch.linalg.qr(torch.cat([directions, random]).T).Q.T[: len(self.projection.weight)]
        self.projection.weight.zero_()
        self.projection.weight[: len(basis)] = basis.to(self.projection.weight.dtype)
        self.projection.bias.zero_()

    def spectrogram(self, wave: Tensor, simam: Sequence[str] = ()) -> Tensor:
        """Spectrograms (B, T, F) of waveforms (B, samples); ``simam`` lists the kind of SimAM of each row."""
        spectrogram = self.encoder.spectrogram(wave, self.rate)
        return enhance_rows(spectrogram, simam) if simam else spectrogram

    def simam_of(self, machine: str) -> str:
        """Kind of SimAM that is applied to a machine's recordings after the encoder's front end."""
        return self.simam.get(machine, "none")

    def tokens(self, spectrogram: Tensor) -> Tensor:
        """Tokens to be pooled (B, T', bands, D) of spectrograms (B, T, F)."""
        return select(self.all_tokens(spectrogram), self.config.pool)

    def all_tokens(self, spectrogram: Tensor) -> Tokens:
        """Grid and summary tokens of spectrograms (B, T, F) at the depth of the branch."""
        return self.encoder(spectrogram, self.config.depth or None)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Embeddings (B, E) of the spectrograms of all inputs (B, inputs, T, F)."""
        tokens = self.tokens(spectrograms.flatten(0, 1)).unflatten(0, spectrograms.shape[:2])
        if self.fusion is None:
            return self.project(tokens[:, 0])
        fused, _ = self.fusion(tokens[:, 0], tokens[:, 1])
        return self.project(fused)

    def project(self, tokens: Tensor) -> Tensor:
        return self.projection(self.pooling(tokens))

    def encode_inputs(self, wave: Tensor, machine: str = "") -> tuple[Tokens, Tokens, Tensor]:
        """Encodes the inputs of clips of one machine.

        Args:
            wave: (B, 1 or 2 inputs, samples) at ``rate`` Hz. A single waveform is used for both inputs.
            machine: selects the kind of SimAM.

        Returns:
            Fused tokens of both inputs; tokens of the first input, which are also the output of the gate if it gets
            that input twice; mean weight of the first input over time (B, T).
        """
        simam = [self.simam_of(machine)] * len(wave)
        first = self.all_tokens(self.spectrogram(wave[:, 0], simam))
        second = first if wave.shape[1] == 1 else self.all_tokens(self.spectrogram(wave[:, 1], simam))
        if self.fusion is None:
            return first, first, torch.ones_like(select(first, self.config.pool)[..., 0, 0])
        fused, weights = zip(*(self.fusion(*pair) for pair in zip(first, second, strict=True)), strict=True)
        alpha = select(Tokens(*(weight.unsqueeze(-1) for weight in weights)), self.config.pool)
        return Tokens(*fused), first, alpha.mean((2, 3))

    def views(self, wave: Tensor, machine: str = "") -> Views:
        """Embeddings of waveforms (B, 1 or 2 inputs, samples) in both views; see ``encode_inputs``."""
        both, first, alpha = self.encode_inputs(wave, machine)
        return Views(self.readout(both), self.readout(first), alpha)

    def readout(self, tokens: Tokens, readout: str = "projection", power: float = 0.0) -> Tensor:
        """Embeds tokens: the projection gives (B, E), other readouts (B, D), or (B, bands, D) with bands kept apart."""
        if readout == "projection":
            return self.project(select(tokens, self.config.pool))
        grid = select(tokens, readout)
        pooled = pool_tokens(grid, readout, power)
        return pooled if readout == "mean" else pooled.unflatten(1, grid.shape[2:])


class AdaptationTask(nn.Module):
    """Training objective L = L_attribute + L_domain on normal clips (Wang and Liu 2026, section 3.5)."""

    def __init__(self, model: AdaptedEncoder, attribute_classes: int, domain_classes: int):
        super().__init__()
        self.model, self.config = model, model.config
        heads = self.config.heads
        self.attribute = build_head(heads, self.config.embedding_dim, max(1, attribute_classes))
        self.domain = build_head(heads, self.config.embedding_dim, domain_classes)

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            batch: "wave" (B, inputs, samples), "attribute" (B,) and "domain" (B,), where -1 means no class, and
                optionally "simam" (B,), the index of each clip's kind in SIMAM. A mixture is enhanced with the kind of
                the clip that has the larger share.

        Returns:
            "loss", "loss_attribute" and "loss_domain", each a scalar.
        """
        settings = self.config.augment
        waves, partner, share = augment.mix(augment.augment_waves(batch["wave"], settings), settings)
        with torch.no_grad():
            simam = [SIMAM[kind] for kind in batch["simam"].tolist() for _ in waves[0]] if "simam" in batch else ()
            spectrogram = self.model.spectrogram(waves.flatten(0, 1), simam)
            spectrogram = augment.mask_spectrogram(spectrogram, settings).unflatten(0, waves.shape[:2])
        embedding = self.model(spectrogram)
        losses = {
            name: self._mixed(head, embedding, batch[name], partner, share)
            for name, head in (("attribute", self.attribute), ("domain", self.domain))
        }
        known = (batch["attribute"] >= 0).sum().clamp_min(1)
        attribute, domain = losses["attribute"].sum() / known, losses["domain"].mean()
        heads = self.config.heads
        total = heads.attribute_weight * attribute + heads.domain_weight * domain
        return {"loss": total, "loss_attribute": attribute, "loss_domain": domain}

    def learning_rate_factor(self, name: str) -> float:
        """Factor of the learning rate of a parameter (see ``training.loop.fit``)."""
        whole = self.config.tune == "full" and name.startswith("model.encoder.")
        return self.config.encoder_learning_rate if whole else 1.0

    def extra_state(self) -> list[str]:
        """Names of tensors without gradient that change in training and belong to its saved state."""
        adaptive = self.config.heads.kind != "arcface" and self.config.heads.adaptive_scale
        return ["attribute.scale", "domain.scale"] if adaptive else []

    def _mixed(self, head: Head, embedding: Tensor, labels: Tensor, partner: Tensor, share: Tensor) -> Tensor:
        share = share.to(embedding.device)
        if self.training:
            head.adapt_scale(embedding, labels, labels[partner], share)
        own = head(embedding, labels)
        if bool((share == 1.0).all()):
            return own
        return share * own + (1.0 - share) * head(embedding, labels[partner])


def _tunable(encoder: Encoder, config: EncoderBranchConfig, spectrogram: Tensor) -> Encoder:
    """Enables gradients for the part of the encoder that ``config.tune`` selects.

    ``full`` selects the weights that influence the pooled tokens; others, such as blocks above ``config.depth``, would
    be stored and counted for nothing.
    """
    if config.tune == "lora":
        add_lora(encoder, config.lora)
        return encoder
    encoder.requires_grad_(False)
    if config.tune == "full":
        parameters = [p for p in encoder.parameters() if p.is_floating_point()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        tokens = select(encoder(spectrogram, config.depth or None), config.pool)
        gradients = torch.autograd.grad(tokens.square().sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)
    return encoder
