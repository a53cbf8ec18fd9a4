"""Low-rank adapters by peft, on the encoder alone (Wang and Liu 2026, section 3.3)."""

from dataclasses import asdict

import peft
from torch import nn

from system.config import LoraConfig
from system.errors import WheeltapperError


def add_lora(encoder: nn.Module, config: LoraConfig) -> nn.Module:
    """Freezes the encoder and puts adapters W + (alpha / rank) B A into the linear layers that ``targets`` names, into
    those of the encoder's ``lora_targets`` where it names none. A family whose ``lora_targets`` are empty gets
    adapters only where ``targets`` asks for them.

    Changes the module in place and returns it; only the adapters' matrices require gradients afterwards. B starts at
    zero, so that the encoder computes what it did before. Raises WheeltapperError for a name that no layer has.
    """
    encoder.requires_grad_(False)
    named = [name for name, _ in encoder.named_modules()]
    targets = list(config.targets or getattr(encoder, "lora_targets", ()))
    if not targets:
        return encoder
    unknown = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in named)]
    if unknown:
        layers = _named(encoder, nn.Linear) or _named(encoder, nn.Conv2d)
        raise WheeltapperError(f"lora.targets: expected names among {', '.join(layers)}, found {', '.join(unknown)}")
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


def merge_lora(encoder: nn.Module) -> nn.Module:
    """Adds the adapters into the weights (in place): the same output without their cost."""
    for module in encoder.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()
    return encoder
