"""Low-rank adapters (LoRA, by peft) of the encoder (Wang and Liu 2026, section 3.3)."""

import os
import threading
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

from system.adaptation.augment import WHOLE, Part
from system.config import LoraConfig
from system.encoders import checkpoints
from system.errors import WheeltapperError
from system.training import streams


class _Here(threading.local):
    """The part of a batch that each thread computes."""

    part = WHOLE

    def __reduce__(self) -> tuple:
        return _Here, ()  # copies of a network start afresh


class BatchDropout(nn.Dropout):
    """Dropout whose choice for a part of a batch is that for the whole batch.

    ``part`` says which part of the batch the rows are that this thread computes; the thread's generator
    (``streams.generator``) must be in the same state for every part.
    """

    def __init__(self, share: float):
        super().__init__(share)
        self.here = _Here()

    @property
    def part(self) -> Part:
        return self.here.part

    @part.setter
    def part(self, part: Part) -> None:
        self.here.part = part

    def forward(self, x: Tensor) -> Tensor:
        """Sets random values of x (rows, ...) to zero in training; the rows of a clip are neighbours."""
        if not self.training:
            return x
        part = self.part
        whole = len(x) * part.total
        kept = torch.empty(whole, *x.shape[1:], dtype=x.dtype, device=x.device)
        kept.bernoulli_(1.0 - self.p, generator=streams.generator())
        return x * kept[part.rows(whole)].div_(1.0 - self.p)


def add_lora(encoder: nn.Module, config: LoraConfig) -> nn.Module:
    """Freezes the encoder and adds adapters W + (alpha / rank) B A to its linear layers, in place.

    Afterwards only the matrices A and B require gradients. B is initialised with zeros, so the output is unchanged.

    Args:
        encoder: network to adapt.
        config: rank, alpha, dropout, and ``targets``, the layers to adapt (default: the family's ``lora_targets``).

    Returns:
        The encoder.

    Raises:
        WheeltapperError: a name in ``targets`` is no layer of the encoder.
    """
    encoder.requires_grad_(False)
    targets = _targets(encoder, config)
    if not targets:
        return encoder
    unknown = [t for t in targets if not _matching(encoder, [t])]
    if unknown:
        layers = _named(encoder, (nn.Linear, nn.Conv2d))
        raise WheeltapperError(f"lora.targets: expected names among {', '.join(layers)}, found {', '.join(unknown)}")
    import peft  # imports transformers, which takes seconds and is not needed for inference

    settings = asdict(config)
    lora = peft.LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=targets,
        bias="none",
    )
    try:
        encoder = peft.inject_adapter_in_model(lora, encoder)
    except ValueError as error:
        raise WheeltapperError(f"lora.targets: {', '.join(targets)}: {error}") from error
    for layer in encoder.modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer) and config.dropout:
            for name in layer.lora_dropout:
                layer.lora_dropout[name] = BatchDropout(config.dropout)
    return encoder


def _named(encoder: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[str]:
    return sorted({name.split(".")[-1] for name, module in encoder.named_modules() if isinstance(module, kinds)})


def _targets(encoder: nn.Module, config: LoraConfig) -> list[str]:
    if config.targets:
        return list(config.targets)
    return list(getattr(encoder, "lora_targets", ()))


def _matching(encoder: nn.Module, targets: list[str]) -> dict[str, nn.Module]:
    """The layers that ``targets`` match by peft's rule: the full name or its last part."""
    named = encoder.named_modules()
    return {name: layer for name, layer in named if any(name == t or name.endswith(f".{t}") for t in targets)}


def merge_lora(encoder: nn.Module) -> nn.Module:
    """Merges the adapters into the weights, in place: the same output without the cost of the adapters."""
    import peft

    for module in encoder.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()
    return encoder


def all_linear(encoder: nn.Module, config: LoraConfig) -> bool:
    """Whether all adapted layers are linear, as ``merge_tensors`` requires."""
    return all(isinstance(layer, nn.Linear) for layer in _matching(encoder, _targets(encoder, config)).values())


@torch.no_grad()
def merge_tensors(
    encoder: nn.Module, config: LoraConfig, tensors: Mapping[str, Tensor], path: str | os.PathLike
) -> nn.Module:
    """Merges trained adapters into the linear layers of an encoder without adapters, in place and without peft.

    The result equals ``add_lora``, loading and ``merge_lora``, bit for bit.

    Args:
        encoder: network without adapters.
        config: settings with which the adapters were trained.
        tensors: matrices A (rank, inputs) and B (outputs, rank) under peft's names within the encoder.
        path: file of the tensors, for error messages.

    Returns:
        The encoder.

    Raises:
        WheeltapperError: the tensors do not belong to the layers that ``config`` selects.
    """
    matching = _matching(encoder, _targets(encoder, config))
    layers = {name: layer for name, layer in matching.items() if isinstance(layer, nn.Linear)}
    pairs = nn.ParameterDict()
    for name, layer in layers.items():
        pairs[_key(name, "A")] = torch.empty(config.rank, layer.in_features)
        pairs[_key(name, "B")] = torch.empty(layer.out_features, config.rank)
    checkpoints.load_strict(pairs, {name.replace(".", "/"): tensor for name, tensor in tensors.items()}, path)
    for name, layer in layers.items():
        layer.weight += (pairs[_key(name, "B")] @ pairs[_key(name, "A")]) * (config.alpha / config.rank)
    return encoder


def _key(layer: str, matrix: str) -> str:
    return f"{layer}.lora_{matrix}.default.weight".replace(".", "/")
