"""The adapted encoder: adapters, gate, pooling, projection and training heads (Wang and Liu 2026, section 3)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from system import processes
from system.adaptation import augment
from system.adaptation.augment import WHOLE
from system.adaptation.fusion import GatedFusion
from system.adaptation.heads import Head, build_head
from system.adaptation.lora import BatchDropout, add_lora
from system.config import EncoderBranchConfig
from system.encoders.base import Encoder, Tokens
from system.encoders.pooling import Pooling, pool_tokens, select
from system.frontends.simam import enhance_rows
from system.training import streams


class Views(NamedTuple):
    """Embeddings (B, E) of both views, and the mean weight of the first input over time (B, T)."""

    two_channel: Tensor
    near_only: Tensor
    gate: Tensor


class AdaptedEncoder(nn.Module):
    """Embeds one input, or two inputs fused by a gate or by the encoder's noise-aware layers.

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
        gated = len(config.inputs) > 1 and not encoder.noise_aware
        self.fusion = GatedFusion(tokens.shape[-1], config.gate_bias) if gated else None
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
        directions = torch.linalg.svd(pooled.cpu().double(), full_matrices=False).Vh
        random = torch.randn(self.projection.weight.shape, dtype=torch.float64)
        basis = torch.linalg.qr(torch.cat([directions, random]).T).Q.T[: len(self.projection.weight)]
        self.projection.weight.zero_()
        self.projection.weight[: len(basis)].copy_(basis)
        self.projection.bias.zero_()

    def spectrogram(self, wave: Tensor, simam: Sequence[str] = ()) -> Tensor:
        """Spectrograms (B, T, F) of waveforms (B, samples); ``simam`` lists the kind of SimAM of each row."""
        spectrogram = self.encoder.spectrogram(wave, self.rate)
        return enhance_rows(spectrogram, simam) if simam else spectrogram

    def simam_of(self, machine: str) -> str:
        """Kind of SimAM that is applied to a machine's recordings after the encoder's front end."""
        return self.simam.get(machine, "none")

    def tokens(self, spectrogram: Tensor, far: Tensor | None = None) -> Tensor:
        """Tokens to be pooled (B, T', bands, D) of spectrograms (B, T, F)."""
        return select(self.all_tokens(spectrogram, far), self.config.pool)

    def all_tokens(self, spectrogram: Tensor, far: Tensor | None = None) -> Tokens:
        """Grid and summary tokens of spectrograms (B, T, F) at the branch's depth; ``far`` for noise-aware layers."""
        return self.encoder(spectrogram, self.config.depth or None, far)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Embeddings (B, E) of the spectrograms of all inputs (B, inputs, T, F)."""
        if self.encoder.noise_aware and spectrograms.shape[1] > 1:
            return self.project(self.tokens(spectrograms[:, 0], spectrograms[:, 1]))
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
            that input twice; mean weight of the first input over time (B, T). Noise-aware layers are left out where
            there is one input only: their target is the plain encoder without noise.
        """
        simam = [self.simam_of(machine)] * len(wave)
        near, *others = (self.spectrogram(channel, simam) for channel in wave.unbind(1))
        first = self.all_tokens(near)
        if self.fusion is None:
            both = self.all_tokens(near, others[0]) if others and self.encoder.noise_aware else first
            return both, first, torch.ones_like(select(first, self.config.pool)[..., 0, 0])
        second = self.all_tokens(others[0]) if others else first
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
        self.dropouts = [layer for layer in model.encoder.modules() if isinstance(layer, BatchDropout)]

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """Losses of a batch, or of a part of one: the mean over the parts is that of the whole batch.

        Uses the random generator of the thread (``streams.generator``), whose state must be the same for every part.

        Args:
            batch: of ``CropBatches``: "attribute" and "domain" (B,), where -1 means no class, and optionally "simam"
                a list of B kinds in SIMAM, of the whole batch; "wave" (R, inputs, samples) of its clips "rows", a list
                of R places, all if missing; "part", the whole if missing. A mixture is enhanced with the kind of the
                clip that has the larger share. What is not a tensor stays on the host, which decides by it: a step
                does not wait for the device.

        Returns:
            "loss", "loss_attribute" and "loss_domain", each a scalar.
        """
        part = batch.get("part", WHOLE)
        embedding, draws = self._embed(batch)
        own = part.rows(len(batch["domain"]))
        if self.training and part.total == 1:  # else before_step has done so
            self._adapt_scales([(embedding, batch, draws)])
        losses = {
            name: _mixed(head, embedding, batch[name][own], batch[name][draws.partner], draws.share)
            for name, head in self.heads.items()
        }
        known = (batch["attribute"] >= 0).sum().clamp_min(1)
        attribute, domain = losses["attribute"].sum() * part.total / known, losses["domain"].mean()
        heads = self.config.heads
        total = heads.attribute_weight * attribute + heads.domain_weight * domain
        return {"loss": total, "loss_attribute": attribute, "loss_domain": domain}

    @property
    def heads(self) -> dict[str, Head]:
        """The heads by the names of their labels."""
        return {"attribute": self.attribute, "domain": self.domain}

    def before_step(self, parts: Sequence[dict], seed: int) -> None:
        """Adapts the scales of the heads, which depend on the whole batch, where a step is computed in parts.

        Args:
            parts: this process's parts of the batch.
            seed: from which torch's generator starts for each part.
        """
        if not self.extra_state() or parts[0]["part"].total == 1:
            return
        found = []
        for batch in parts:
            torch.manual_seed(seed)
            embedding, draws = self._embed(batch)  # with gradients, as encoders compute in another order without
            found.append((embedding.detach(), batch, draws))
        self._adapt_scales(found)

    def _embed(self, batch: dict) -> tuple[Tensor, augment.Draws]:
        """Embeddings (B / parts, E) of a part's augmented clips, and their draws."""
        settings, waves, part = self.config.augment, batch["wave"], batch.get("part", WHOLE)
        whole, inputs = len(batch["domain"]), waves.shape[1]
        own = part.rows(whole)
        draws = augment.draw(settings, whole, inputs, streams.generator())
        rows = batch.get("rows", range(whole))
        waves = augment.augment_waves(waves, draws.of(torch.tensor(list(rows))))
        draws = draws.of(own)
        place = {row: number for number, row in enumerate(rows)}
        others = [place.get(row, number) for number, row in enumerate(draws.partner.tolist())]
        waves = augment.mix(waves[: len(others)], waves[torch.tensor(others)], draws.share)
        for layer in self.dropouts:
            layer.part = part
        with torch.no_grad():
            simam = [kind for kind in batch.get("simam", ())[own] for _ in range(inputs)]
            spectrogram = self.model.spectrogram(waves.flatten(0, 1), simam)
            spectrogram = augment.mask_spectrogram(spectrogram, settings, part, streams.generator())
            spectrogram = spectrogram.unflatten(0, waves.shape[:2])
        return self.model(spectrogram), draws

    def _adapt_scales(self, parts: Sequence[tuple[Tensor, dict, augment.Draws]]) -> None:
        """Adapts scales to embeddings, with their batches and draws, of this process and of all others."""
        if not self.extra_state():
            return
        for name, head in self.heads.items():
            rows = []
            for embedding, batch, draws in parts:
                labels, own = batch[name], batch.get("part", WHOLE).rows(len(batch[name]))
                rows.append((embedding, labels[own], labels[draws.partner], draws.share.to(embedding.device)))
            mine = tuple(map(torch.cat, zip(*rows, strict=True)))
            if processes.count() > 1:
                found = processes.gather(tuple(tensor.cpu() for tensor in mine))
                mine = tuple(torch.cat(tensors).to(mine[0].device) for tensors in zip(*found, strict=True))
            head.adapt_scale(*mine)

    @property
    def partly_used(self) -> bool:
        """Whether some trainable weights may contribute to no loss: those of adapters above the depth of the branch."""
        return self.config.tune == "lora" and self.config.depth > 0

    def learning_rate_factor(self, name: str) -> float:
        """Factor of the learning rate of a parameter (see ``training.loop.fit``)."""
        whole = self.config.tune == "full" and name.startswith("model.encoder.")
        return self.config.encoder_learning_rate if whole else 1.0

    def extra_state(self) -> list[str]:
        """Names of tensors without gradient that change in training and belong to its saved state."""
        adaptive = self.config.heads.kind != "arcface" and self.config.heads.adaptive_scale
        return ["attribute.scale", "domain.scale"] if adaptive else []


def _mixed(head: Head, embedding: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Losses (B,) of mixtures of clips with ``labels`` and, by what ``share`` leaves, of clips with ``others``."""
    own = head(embedding, labels)
    if bool((share == 1.0).all()):
        return own
    share = share.to(embedding.device)
    return share * own + (1.0 - share) * head(embedding, others)


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
