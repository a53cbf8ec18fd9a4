"""What a package says of an encoder and its adaptation, in words."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from system.config import AugmentConfig, EncoderBranchConfig, EncoderConfig
from system.config.package import ExternalResource
from system.encoders.cards import CARDS

TUNED = {"lora": "with low-rank adapters", "full": "fine-tuned as a whole", "frozen": "frozen"}
LOSSES = {"arcface": "an additive-angular-margin loss", "adacos": "sub-cluster AdaCos", "adaproj": "AdaProj"}


def family(config: EncoderConfig, name: str) -> str:
    """Name of an encoder as its authors write it, with the size where that decides what the encoder is.

    Args:
        config: settings of the encoder.
        name: of the family, from the branch's card.
    """
    foreign = config.checkpoint and not (config.checkpoint in CARDS and CARDS[config.checkpoint].learned)
    return name if foreign else f"{name}-{config.size}"


def resources(config: EncoderConfig, family: str) -> list[ExternalResource]:
    """What an encoder takes from outside: published weights, or the recordings that our own have learned from."""
    if not config.checkpoint:
        return []
    card = CARDS.get(config.checkpoint)
    layers = [ExternalResource(f"noise-aware layers ({Path(config.noise_aware).name})")] * bool(config.noise_aware)
    if card and card.learned:
        return [*layers, *(ExternalResource(name, url) for name, url in card.learned.items())]
    whole = ExternalResource(f"{family} ({config.checkpoint})", card.source) if card else ExternalResource(family)
    return [*layers, whole]


def augmentation(config: AugmentConfig, two_channels: bool) -> Iterator[str]:
    """Names of the augmentations that take place: strength above zero, and two channels where they need them."""
    for name, strength in (
        ("channel swap", config.channel_swap * two_channels),
        ("channel gain", config.gain_db),
        ("channel dropout", config.channel_drop * two_channels),
        ("mixup", config.mixup),
        ("SpecAugment", config.time_mask + config.frequency_mask),
    ):
        if strength > 0:
            yield name


def attributes(config: EncoderBranchConfig) -> str:
    """How attributes are used; empty where they are not."""
    if config.heads.attribute_weight <= 0:
        return ""
    return f"classes of {LOSSES.get(config.heads.kind, config.heads.kind)}"


def simam(card: Mapping[str, Any]) -> str:
    """SimAM of a branch, machine by machine where machines differ; empty where there is none."""
    choices = card["simam_choices"]
    if not choices:
        return "" if card["simam"] == "none" else f"SimAM ({card['simam']})"
    by_kind: dict[str, list[str]] = {}
    for machine, choice in choices.items():
        by_kind.setdefault(choice["kind"], []).append(machine)
    kinds = "; ".join(f"{kind}: {', '.join(machines)}" for kind, machines in sorted(by_kind.items()))
    ways = dict.fromkeys(
        "by hand" if choice["by_hand"] else "from normal training clips" for choice in choices.values()
    )
    return f"SimAM ({kinds}), chosen {' and '.join(ways)}"


def system_lines(
    name: str, config: EncoderBranchConfig, family: str, card: Mapping[str, Any], subtraction: str, simam: str
) -> list[str]:
    """Inputs, network and front end of a branch, one sentence each."""
    lines = [f"Inputs of branch {name}: {', '.join(config.inputs)}; {subtraction}."] if subtraction else []
    blocks = f" (first {config.depth} blocks)" if config.depth else ""
    lines.append(
        f"Branch {name}: {family}{blocks}, {config.pool} pooling, embedding of {config.embedding_dim}, "
        f"{card['total_parameters']:,} parameters."
    )
    if config.encoder and config.encoder.noise_aware:
        lines.append(f"In branch {name} tokens of the near microphone attend to the far one after every block.")
    if card["filterbank"] != "mel" or simam:
        bank = "evenly spaced" if card["filterbank"] == "even" else card["filterbank"]
        lines.append(f"Front end of branch {name}: {bank} filter bank{f', {simam}' if simam else ''}.")
    return lines


def training_line(name: str, config: EncoderBranchConfig, card: Mapping[str, Any]) -> str:
    """What of a branch is trained, and for how long."""
    source = " of the source domain" if config.learn_from == "source" else ""
    return (
        f"Branch {name}: {_tuning(config, card)}; {card['trainable_parameters']:,} trainable parameters; "
        f"{config.loop.steps} steps of {config.loop.batch_size} clips{source}."
    )


def _tuning(config: EncoderBranchConfig, card: Mapping[str, Any]) -> str:
    if config.tune == "full":
        return f"the encoder's own weights, at {config.encoder_learning_rate:g} of the learning rate"
    if config.tune == "frozen":
        return "the encoder's weights as they are"
    layers = ", ".join(card["adapted_layers"]) or "no layer"
    lora = config.lora
    return f"low-rank adapters of rank {lora.rank} (alpha {lora.alpha}, dropout {lora.dropout}) on {layers}"
