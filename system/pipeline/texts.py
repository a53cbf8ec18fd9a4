"""What a run says of itself in meta files and technical report."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from system import manifest, selection
from system.config import (
    AutoencoderBranch,
    AutoencoderConfig,
    Branch,
    EncoderBranch,
    SharedBranch,
    SpectrumBranch,
    SpectrumConfig,
    SystemConfig,
)
from system.config.package import ExternalResource, PackageConfig
from system.experiment import Experiment
from system.files import read_json

METHODS = {
    "mahalanobis": "Mahalanobis distance",
    "conditional_mahalanobis": "conditional Mahalanobis distance",
    "knn": "k-nearest neighbours",
    "beam": "nearest neighbours in each frequency band",
    "ldn": "nearest neighbours with local density normalisation",
}
TUNED = {"lora": "with low-rank adapters", "full": "fine-tuned as a whole", "frozen": "frozen"}
AUTOENCODER_METHODS = {"mse": "mean squared error", "mahalanobis": "selective Mahalanobis distance"}


def _used(system: SystemConfig) -> list[str]:
    """Names of the branches that count in a system."""
    return [name for name, weight in system.weights.items() if weight > 0]


def description(run: Experiment, system: SystemConfig) -> dict[str, str | None]:
    """Fields of ``system.description`` that follow from the configuration."""
    used = _used(system)
    branches = [run.config.branches[name] for name in used]
    adapted = list(
        dict.fromkeys(run.network_branch(name) for name in used if run.network_branch(name) in run.encoder_branches)
    )
    augment = [run.config.branches[name].augment for name in adapted]
    kinds = {
        "channel swap": any(a.channel_swap > 0 for a in augment),
        "channel gain": any(a.gain_db > 0 for a in augment),
        "channel dropout": any(a.channel_drop > 0 for a in augment),
        "mixup": any(a.mixup > 0 for a in augment),
        "SpecAugment": any(a.time_mask > 0 or a.frequency_mask > 0 for a in augment),
    }
    rate = run.config.data.rate
    families = dict.fromkeys(_family(run, name) for name in adapted)
    tuned = dict.fromkeys(TUNED[run.config.branches[name].tune] for name in adapted)
    methods = dict.fromkeys(_method(branch) for branch in branches)
    external = any(run.encoder_config(name).checkpoint for name in adapted)
    pretrained = run.config.pretrain.loop.steps and any(run.config.branches[name].encoder is None for name in adapted)
    spectra = [branch for branch in branches if isinstance(branch, SpectrumBranch)]
    front_ends = [_subtraction(branch) for branch in branches] + [_simam(run, name) for name in adapted]
    rule = "minimum" if system.fusion == "minimum" else "weighted average"
    weighting = f"{rule} of robust z-scores; " if len(used) > 1 or adapted or spectra else ""
    return _features(branches, bool(adapted)) | {
        "input_sampling_rate": f"{rate / 1000:g}kHz" if rate else "as recorded",
        "data_augmentation": ", ".join(name for name, present in kinds.items() if present) or None,
        "embeddings": f"{', '.join(families)} {' and '.join(tuned)}" if families else None,
        "front_end": "; ".join(dict.fromkeys(filter(None, front_ends))) or None,
        "machine_learning_method": ", ".join([*methods, *(["ensemble"] if len(used) > 1 else [])]),
        "decision_making": f"{weighting}threshold at {_threshold(run, system)}",
        "external_data_usage": "pre-training" if external else None,
        "development_data_usage": ("pre-training, " if pretrained else "")
        + ("fine-tuning" if adapted else "references" if len(spectra) == len(branches) else "training"),
    }


def _method(branch: Branch) -> str:
    name = METHODS.get(branch.scorer.name, branch.scorer.name)
    if not isinstance(branch, AutoencoderBranch):
        return name
    return f"autoencoder, {AUTOENCODER_METHODS.get(branch.autoencoder.score, name)}"


def _threshold(run: Experiment, system: SystemConfig) -> str:
    rate = f"{100 * run.config.false_positive_rate:g} %"
    if system.threshold == "batches":
        return f"{rate} of a gamma distribution fitted to mean losses of training batches"
    branches = [run.config.branches[name] for name in _used(system)]
    own = [branch.autoencoder for branch in branches if isinstance(branch, AutoencoderBranch)]
    known = any(not config.folds for config in own)
    kind = "cross-fitted" if len(own) == len(branches) else "leave-one-out"
    return f"{rate} of {'' if known else f'{kind} '}scores of normal references"


def _features(branches: Sequence[Branch], mixed: bool) -> dict[str, str | None]:
    """What is otherwise in the texts of a system without encoders, and in one that has both (``mixed``)."""
    own = [branch for branch in branches if isinstance(branch, AutoencoderBranch | SpectrumBranch)]
    if not own:
        return {}
    if mixed:
        return {"acoustic_features": "log-amplitude spectrogram, log-mel energies"}
    by_domain = [b for b in own if isinstance(b, AutoencoderBranch) and b.autoencoder.score == "mahalanobis"]
    by_domain += [b for b in own if b.scorer.settings.get("bank") == "domain"]
    return {
        "acoustic_features": "log-mel energies",
        "domain_adaptation_method": "statistics per domain" if by_domain else None,
        "domain_generalization_method": "minimum over the domains" if by_domain else None,
        "attribute_usage": None,
    }


def _subtraction(branch: Branch) -> str:
    """How the far microphone is subtracted for a branch, in words; empty where it is not."""
    if not isinstance(branch, EncoderBranch | SpectrumBranch) or "residual" not in branch.inputs:
        return ""
    config = branch.subtraction
    if config.method == "magnitude":
        return f"magnitude subtraction of the far microphone (window {config.n_fft})"
    details = [f"window {config.n_fft}", f"gains over {config.stretch:g} s" if config.stretch else "one gain a clip"]
    if config.method == "scaled_magnitude":
        return f"scaled magnitude subtraction of the far microphone ({', '.join(details)})"
    details += [f"{config.taps} taps"] * (config.taps > 1) + ["scaled by coherence"] * config.coherence
    details += [f"frames balanced by {config.balance:g}"] * (config.balance > 0)
    return f"complex least-squares subtraction of the far microphone ({', '.join(details)})"


def _simam(run: Experiment, branch: str) -> str:
    """SimAM of a branch in words, machine by machine where they differ; empty where there is none."""
    card = read_json(run.card(branch))
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


def machine_settings(run: Experiment) -> dict[str, dict[str, Any]]:
    """What the configuration says of each machine alone: {machine: {key without its name: value}}."""
    own: dict[str, dict[str, Any]] = {name: {} for name in manifest.machines(manifest.read(run.manifest))}
    for key, value in selection.flatten(asdict(run.config)):
        parts = key.split(".")
        for name in own:
            if name in parts:
                own[name][".".join(part for part in parts if part != name)] = value
    return own


def _family(run: Experiment, branch: str) -> str:
    """Name of a branch's encoder as its authors write it; with the size where that decides what it is."""
    from system.encoders.cards import CARDS

    config, name = run.encoder_config(branch), read_json(run.card(branch))["encoder"]
    foreign = config.checkpoint and not (config.checkpoint in CARDS and CARDS[config.checkpoint].learned)
    return name if foreign else f"{name}-{config.size}"


def _resources(run: Experiment, branch: str) -> list[ExternalResource]:
    """What a branch uses from outside: published weights, or the recordings that our own have learned from."""
    from system.encoders.cards import CARDS

    if run.network_branch(branch) not in run.encoder_branches:
        return []
    checkpoint = run.encoder_config(branch).checkpoint
    if not checkpoint:
        return []
    card = CARDS.get(checkpoint)
    if card and card.learned:
        return [ExternalResource(name, url) for name, url in card.learned.items()]
    family = _family(run, branch)
    return [ExternalResource(f"{family} ({checkpoint})", card.source)] if card else [ExternalResource(family)]


def external(run: Experiment, system: SystemConfig) -> list[str]:
    """Names of what a system uses from outside; the meta file must declare them."""
    named = (resource.name.split(" (")[0] for name in _used(system) for resource in _resources(run, name))
    return list(dict.fromkeys(named))


def declared(run: Experiment) -> PackageConfig:
    """The configured package with what the branches use from outside among its external data.

    Weights of the user's own, a file, have no address that could be declared for them.
    """
    found = {r.name: r for name in run.config.branches for r in _resources(run, name) if r.url}
    return replace(run.config.package, external_datasets=[*run.config.package.external_datasets, *found.values()])


def summary(run: Experiment, system: SystemConfig) -> str:
    """A system in a sentence."""
    total = sum(system.weights.values())
    shares = " and ".join(f"{name} {weight / total:.2f}" for name, weight in system.weights.items() if weight > 0)
    fusion = f"minimum of {' and '.join(_used(system))}" if system.fusion == "minimum" else f"weights {shares}"
    heard = "both channels" if system.view == "two_channel" else "the near channel given to both inputs"
    own = [run.config.branches[run.network_branch(name)] for name in _used(system)]
    inputs = [branch.inputs for branch in own if isinstance(branch, EncoderBranch | SpectrumBranch)]
    if all(each == ["near"] for each in inputs):
        heard = "the near channel"
    elif any("residual" in each for each in inputs):
        first = dict.fromkeys(each[0] for each in inputs)
        if system.view != "two_channel":
            heard = f"the first input alone ({', '.join(first)})"
    return f"{system.name or 'System'}: {fusion}, inference with {heard}."


def lines(run: Experiment) -> dict[str, list[str]]:
    """Facts of the run for the technical report."""
    config = run.config
    system, training, scoring = [], [], []
    for name, branch in config.branches.items():
        card = read_json(run.card(name))
        settings = ", ".join(f"{key} {value}" for key, value in branch.scorer.settings.items())
        scoring.append(f"Branch {name}: {_method(branch)}{f' ({settings})' * bool(settings)}.")
        if isinstance(branch, AutoencoderBranch):
            lines = _autoencoder_lines(name, branch.autoencoder, card)
            for section, line in zip((system, training, scoring), lines, strict=True):
                section.append(line)
            continue
        if isinstance(branch, SharedBranch) and branch.shares not in run.encoder_branches:
            system.append(f"Branch {name}: described as branch {branch.shares}.")
            continue
        if isinstance(branch, SharedBranch):
            how = "projection" if branch.readout == "projection" else f"{branch.readout} pooling without projection"
            system.append(f"Branch {name}: the network of branch {branch.shares}, read by {how}.")
            continue
        if subtraction := _subtraction(branch):
            system.append(f"Inputs of branch {name}: {', '.join(branch.inputs)}; {subtraction}.")
        if isinstance(branch, SpectrumBranch):
            system.append(f"Branch {name}: {_spectrum(branch.spectrum)}; nothing is trained.")
            continue
        simam = _simam(run, name)
        system.append(
            f"Branch {name}: {_family(run, name)}, {branch.pool} pooling, embedding of "
            f"{branch.embedding_dim}, {card['total_parameters']:,} parameters."
        )
        if card["filterbank"] != "mel" or simam:
            bank = "evenly spaced" if card["filterbank"] == "even" else card["filterbank"]
            system.append(f"Front end of branch {name}: {bank} filter bank{f', {simam}' if simam else ''}.")
        training.append(
            f"Branch {name}: {_tuning(branch, card)}; {card['trainable_parameters']:,} trainable "
            f"parameters; {branch.loop.steps} steps of {branch.loop.batch_size} clips"
            f"{' of the source domain' if branch.learn_from == 'source' else ''}."
        )
    if config.encoder.checkpoint and run.has_encoder:
        training.insert(0, f"The encoder starts from the weights {Path(config.encoder.checkpoint).name}.")
    if config.pretrain.loop.steps and run.has_encoder:
        training.insert(0, f"Pre-training of {config.pretrain.loop.steps} steps on the same normal clips.")
    fusion = [
        f"{label}: threshold at {_threshold(run, item)}."
        for label, item in zip(run.labels, config.systems, strict=True)
        if item.threshold == "batches"
    ]
    by_hand = any(run.encoder_config(name).simam_machines for name in run.encoder_branches)
    task = [] if by_hand else ["Every machine is treated with one and the same configuration."]
    return {"task": task, "system": system, "training": training, "scoring": scoring, "fusion": fusion}


def _spectrum(config: SpectrumConfig) -> str:
    statistic = "mean" if config.statistic == "mean" else f"{100 * config.level:g} % quantile"
    merged = f", {config.merge} neighbours averaged" if config.merge > 1 else ""
    return f"{statistic} over time of {config.bands} log-{config.filterbank} bands{merged}"


def _tuning(branch: EncoderBranch, card: dict[str, Any]) -> str:
    """What of an encoder is trained, in words."""
    if branch.tune == "full":
        return f"the encoder's own weights, at {branch.encoder_learning_rate:g} of the learning rate"
    if branch.tune == "frozen":
        return "the encoder's weights as they are"
    layers = ", ".join(card["adapted_layers"]) or "no layer"
    return (
        f"low-rank adapters of rank {branch.lora.rank} (alpha {branch.lora.alpha}, dropout {branch.lora.dropout}) on "
        f"{layers}"
    )


def _autoencoder_lines(name: str, config: AutoencoderConfig, card: dict[str, Any]) -> tuple[str, str, str]:
    sizes = " - ".join(str(size) for size in [*config.hidden, config.bottleneck, *reversed(config.hidden)])
    norm = " with batch normalisation" if config.batch_norm else ""
    references = (
        f"a reference is described by one of {config.folds} networks, the one that did not learn from it"
        if config.folds
        else "the references are described by the network that learned from them"
    )
    return (
        f"Branch {name}: autoencoder of {config.frames} log-mel frames, layers {sizes}{norm}, "
        f"{card['total_parameters']:,} parameters, one network for each machine.",
        f"Branch {name}: Adam at {config.learning_rate:g}, {config.epochs} epochs in batches of {config.batch} "
        f"vectors, {100 * config.validation:g} % of them held out; {card['networks']} networks in all.",
        f"Branch {name}: {references}.",
    )
