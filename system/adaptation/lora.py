"""Low-rank adapters by peft, on the encoder alone (Wang and Liu 2026, section 3.3)."""

import os
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

from system.config import LoraConfig
from system.encoders import checkpoints
from system.errors import WheeltapperError


def add_lora(encoder: nn.Module, config: LoraConfig) -> nn.Module:
    """Freezes the encoder and puts adapters W + (alpha / rank) B A into the linear layers that ``targets`` names, into
    those of the encoder's ``lora_targets`` where it names none. A family whose ``lora_targets`` are empty gets
    adapters only where ``targets`` asks for them.

    Changes the module in place and returns it; only the adapters' matrices require gradients afterwards. B starts at
    zero, so that the encoder computes what it did before. Raises WheeltapperError for a name that no layer has.
    """
    encoder.requires_grad_(False)
    targets = _targets(encoder, config)
    if not targets:
        return encoder
    unknown = [t for t in targets if not _matching(encoder, [t])]
    if unknown:
        layers = _named(encoder, nn.Linear) or _named(encoder, nn.Conv2d)
        raise WheeltapperError(f"lora.targets: expected names among {', '.join(layers)}, found {', '.join(unknown)}")
    import peft  # brings transformers: seconds that inference does not need

    settings = asdict(config)
    lora = peft.LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=targets,
        bias="none",
    )
    try:
        return peft.inject_adapter_in_model(lora, encoder)
    except ValueError as error:
        raise WheeltapperError(f"lora.targets: {', '.join(targets)}: {error}") from error


def _named(encoder: nn.Module, kind: type[nn.Module]) -> list[str]:
    return sorted({name.split(".")[-1] for name, module in encoder.named_modules() if isinstance(module, kind)})


def _targets(encoder: nn.Module, config: LoraConfig) -> list[str]:
    if config.targets:
        return list(config.targets)
    return list(getattr(encoder, "lora_targets", ()))


def _matching(encoder: nn.Module, targets: list[str]) -> dict[str, nn.Module]:
    """The layers that names mean, as peft reads them: the whole path or its end."""
    named = encoder.named_modules()
    return {name: layer for name, layer in named if any(name == t or name.endswith(f".{t}") for t in targets)}


def merge_lora(encoder: nn.Module) -> nn.Module:
    """Adds the adapters into the weights (in place): the same output without their cost."""
    import peft

    for module in encoder.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()
    return encoder


def all_linear(encoder: nn.Module, config: LoraConfig) -> bool:
    """Whether the adapters are all of linear layers, as ``merge_tensors`` takes them."""
    return all(type(layer) is nn.Linear for layer in _matching(encoder, _targets(encoder, config)).values())


@torch.no_grad()
def merge_tensors(
    encoder: nn.Module, config: LoraConfig, tensors: Mapping[str, Tensor], path: str | os.PathLike
) -> nn.Module:
    """Adds trained adapters of linear layers into the weights of an encoder that has none (in place): what
    ``add_lora``, loading and ``merge_lora`` give, to the bit, without peft.

    Args:
        tensors: the matrices A (rank, inputs) and B (outputs, rank), named as peft names them within the encoder.
        path: of their file, for messages.

    Raises WheeltapperError where they are not those of the layers that ``config`` means.
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
