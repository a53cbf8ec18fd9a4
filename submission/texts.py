"""What a package says of its systems: the one place that describes a system in words.

Every branch hands in a ``BranchText``; the functions here make names, descriptions, abstract and report lines of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from system.config import SubtractionConfig, SystemConfig
from system.config.package import ExternalResource, PackageConfig

MAX_ABBREVIATION = 10  # characters that a meta file allows
COUNTS = ("no branches", "one branch", "two branches", "three branches", "four branches")


@dataclass(frozen=True)
class BranchText:
    """What a package says of one branch.

    Args:
        name: in the configuration.
        kind: ``encoder``, ``spectrum`` or ``autoencoder``.
        subject: noun phrase for what describes a clip, as "BEATs with low-rank adapters".
        method: machine-learning method, from the scorer.
        features: acoustic features.
        inputs: channels that are used, of ``near``, ``far`` and ``residual``.
        embedding: name of the encoder; empty without one.
        tuning: how the encoder is fitted, as "with low-rank adapters".
        aggregation: how frames become one vector.
        front_end: further steps before the features.
        augmentation: names of the augmentations.
        attributes: how attributes are used; empty where they are not.
        gate: whether a learned gate joins two inputs.
        bank_per_domain: whether source and target references have banks of their own.
        reference_scores: how the references are scored, for the threshold: ``leave-one-out``, ``cross-fitted``, or
            empty where a network scores its own training clips.
        data_usage: what the normal training clips are used for.
        external: data and weights from outside the challenge.
        system, training, scoring: sentences for these sections of the technical report.
    """

    name: str
    kind: str
    subject: str
    method: str
    features: str
    inputs: tuple[str, ...]
    embedding: str = ""
    tuning: str = ""
    aggregation: str = "average"
    front_end: tuple[str, ...] = ()
    augmentation: tuple[str, ...] = ()
    attributes: str = ""
    gate: bool = False
    bank_per_domain: bool = False
    reference_scores: str = "leave-one-out"
    data_usage: tuple[str, ...] = ()
    external: tuple[ExternalResource, ...] = ()
    system: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    scoring: tuple[str, ...] = ()


def name(system: SystemConfig, branches: Sequence[BranchText], number: int) -> str:
    """Name of a system: the configured one, or what its branches are.

    Args:
        system: settings of the system.
        branches: that count in it.
        number: of the system, from 1, which keeps names apart.
    """
    return system.name or f"{_capital(_listing(_distinct(branch.subject for branch in branches)))} ({number})"


def abbreviation(system: SystemConfig, number: int) -> str:
    """Abbreviation of a system, at most 10 characters: the configured one, or one from its branches.

    Args:
        number: of the system, from 1, which keeps abbreviations apart.
    """
    if system.abbreviation:
        return system.abbreviation
    letters = "".join(letter for letter in "".join(system.branches) if letter.isalnum())
    return f"{letters[: MAX_ABBREVIATION - 1] or 'system'}{number}"


def title(config: PackageConfig, branches: Sequence[BranchText]) -> str:
    """Title of the technical report: the configured one, or what the branches of all systems are."""
    subjects = _listing(_distinct(branch.subject for branch in branches)) or "recordings"
    return config.title or f"{_capital(subjects)}, scored by normal references, for anomalous machine sounds"


def abstract(config: PackageConfig, branches: Sequence[BranchText], systems: Sequence[SystemConfig]) -> str:
    """Abstract of the technical report: the configured one, or what is true of the branches and systems."""
    if config.abstract:
        return config.abstract
    if not branches:
        return "A clip is scored against the normal references of its machine. All calibration comes from normal clips."
    count = COUNTS[len(branches)] if len(branches) < len(COUNTS) else f"{len(branches)} branches"
    subjects = _listing(_distinct(branch.subject for branch in branches))
    sentences = [f"A clip is described by {count}: {subjects}."]
    encoders = [branch for branch in branches if branch.kind == "encoder"]
    if any("fine-tuning" in branch.data_usage for branch in encoders):
        classes = _listing(_distinct(branch.attributes for branch in encoders if branch.attributes))
        usage = f"; attributes serve as {classes}" if classes else ""
        sentences.append(f"Encoders are fitted to normal machine sounds{usage}.")
    if any(branch.gate for branch in encoders):
        sentences.append("A learned gate joins the two inputs of an encoder.")
    if any("residual" in branch.inputs for branch in branches):
        sentences.append("The far microphone serves as a noise reference that is subtracted from the near one.")
    if all(branch.kind == "spectrum" for branch in branches):
        sentences.append("Nothing is trained.")
    methods = _listing(_distinct(branch.method for branch in branches))
    sentences.append(f"A clip is scored against the normal references of its machine ({methods}).")
    if any(len(system.branches) > 1 for system in systems):
        sentences.append("Scores of several branches are brought to robust z-scores and fused.")
    sentences.append("All calibration comes from normal clips.")
    return " ".join(sentences)


def description(
    system: SystemConfig, branches: Sequence[BranchText], rate: int, false_positive_rate: float
) -> dict[str, str | None]:
    """Fields of ``system.description`` in a meta file; None for not applicable.

    Args:
        system: settings of the system.
        branches: that count in it.
        rate: in Hz; 0 for recordings as they are.
        false_positive_rate: share of normal clips that the threshold aims at.
    """
    encoders = [branch for branch in branches if branch.kind == "encoder"]
    per_domain = any(branch.bank_per_domain for branch in branches)
    fused = len(system.branches) > 1
    rule = "minimum" if system.fusion == "minimum" else "weighted average"
    plain = not fused and all(branch.kind == "autoencoder" for branch in branches)
    weighting = "" if plain else f"{rule} of robust z-scores; "
    tuned = " and ".join(_distinct(branch.tuning for branch in encoders))
    return {
        "input_sampling_rate": f"{rate / 1000:g}kHz" if rate else "as recorded",
        "data_augmentation": ", ".join(_merged(branch.augmentation for branch in branches)) or None,
        "front_end": "; ".join(_merged(branch.front_end for branch in branches)) or None,
        "acoustic_features": ", ".join(_distinct(branch.features for branch in branches)),
        "embeddings": f"{', '.join(_distinct(b.embedding for b in encoders))} {tuned}" if encoders else None,
        "machine_learning_method": ", ".join([*_distinct(branch.method for branch in branches), *["ensemble"] * fused]),
        "aggregation_method": ", ".join(_distinct(branch.aggregation for branch in branches)),
        "domain_adaptation_method": "references of each domain apart" if per_domain else None,
        "domain_generalization_method": "minimum over the domains" if per_domain else None,
        "decision_making": f"{weighting}threshold {threshold(system, branches, false_positive_rate)}",
        "attribute_usage": "; ".join(_distinct(b.attributes for b in branches if b.attributes)) or None,
        "external_data_usage": "pre-training" if any(branch.external for branch in branches) else None,
        "development_data_usage": _data_usage(branches),
    }


def threshold(system: SystemConfig, branches: Sequence[BranchText], false_positive_rate: float) -> str:
    """Where the threshold of a system lies, in words."""
    rate = f"{100 * false_positive_rate:g} %"
    if system.threshold == "batches":
        return f"exceeded by {rate} of a gamma distribution fitted to mean losses of training batches"
    kinds = _distinct(branch.reference_scores for branch in branches)
    kind = "" if "" in kinds else "cross-fitted " if kinds == ["cross-fitted"] else "leave-one-out "
    return f"exceeded by {rate} of the {kind}scores of normal references, domains weighted equally"


def summary(system: SystemConfig, branches: Sequence[BranchText], label: str) -> str:
    """A system in one sentence.

    Args:
        label: name of the system.
    """
    total = sum(system.weights.values())
    if system.fusion == "minimum":
        fusion = f"minimum of {' and '.join(system.branches)}"
    else:
        shares = (f"{name} {system.weights[name] / total:.2f}" for name in system.branches)
        fusion = f"weights {' and '.join(shares)}"
    used = "both channels" if system.view == "two_channel" else "the near channel given to both inputs"
    if all(branch.inputs == ("near",) for branch in branches):
        used = "the near channel"
    elif any("residual" in branch.inputs for branch in branches) and system.view != "two_channel":
        first = _distinct(branch.inputs[0] for branch in branches if branch.kind != "autoencoder")
        used = f"the first input alone ({', '.join(first)})"
    return f"{label}: {fusion}, inference with {used}."


def subtraction_text(inputs: Sequence[str], config: SubtractionConfig) -> str:
    """How the far microphone is subtracted from the near one; empty where no input is the residual."""
    if "residual" not in inputs:
        return ""
    if config.method == "magnitude":
        return f"magnitude subtraction of the far microphone (window {config.n_fft})"
    details = [f"window {config.n_fft}", f"gains over {config.stretch:g} s" if config.stretch else "one gain a clip"]
    if config.method == "scaled_magnitude":
        return f"scaled magnitude subtraction of the far microphone ({', '.join(details)})"
    details += [f"{config.taps} taps"] * (config.taps > 1) + ["scaled by coherence"] * config.coherence
    details += [f"frames balanced by {config.balance:g}"] * (config.balance > 0)
    return f"complex least-squares subtraction of the far microphone ({', '.join(details)})"


def external(branches: Iterable[BranchText]) -> list[str]:
    """Names of the external resources that branches use; a meta file must declare them."""
    return _distinct(resource.name.split(" (")[0] for branch in branches for resource in branch.external)


def external_resources(branches: Iterable[BranchText]) -> tuple[ExternalResource, ...]:
    """External resources of branches that have an address; weights of the user's own have none to declare."""
    found = {resource.name: resource for branch in branches for resource in branch.external if resource.url}
    return tuple(found.values())


def report_lines(branches: Sequence[BranchText]) -> Mapping[str, list[str]]:
    """Sentences of all branches for the sections system, training and scoring of the technical report."""
    sections = ("system", "training", "scoring")
    return {section: [line for branch in branches for line in getattr(branch, section)] for section in sections}


def _data_usage(branches: Sequence[BranchText]) -> str:
    used = _merged(branch.data_usage for branch in branches)
    if all(branch.kind == "spectrum" for branch in branches):
        return "references"
    if any(branch.kind == "encoder" for branch in branches):
        return ", ".join(word for word in ("pre-training", "fine-tuning") if word in used) or "references"
    return "training"


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _merged(values: Iterable[Sequence[str]]) -> list[str]:
    return _distinct(value for each in values for value in each)


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 2 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
