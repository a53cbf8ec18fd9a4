"""Rules over several keys of a configuration; what a single key may hold stands in ``schema.py``."""

import math
from collections.abc import Iterator

from system import channel_choice
from system.config.branches import (
    FRAMES,
    PRECOMPUTED,
    AutoencoderBranchConfig,
    BranchConfig,
    EncoderBranchConfig,
    EncoderConfig,
    SharedBranchConfig,
    SpectrumBranchConfig,
    SubtractionConfig,
)
from system.config.families import FAMILIES, has_filterbank
from system.config.schema import Config, StudyConfig, SystemConfig
from system.config.training import LoopConfig, PretrainConfig
from system.corpora.year_files import known_years
from system.errors import WheeltapperError


def problems(config: Config) -> Iterator[str]:
    """What is wrong with a configuration, one sentence each, the key first."""
    if problem := channel_choice.problem(config.data.channels):
        yield f"data.channels: {problem}"
    yield from _study_problems(config.study)
    for name, found in (("views", config.tune.views), ("fusions", config.tune.fusions)):
        if not found or len(set(found)) < len(found):
            yield f"tune.{name}: expected at least one, each once, found {', '.join(found) or 'none'}"
    if config.embed.precision == "int8" and config.device not in ("auto", "cpu"):
        yield f"embed.precision: expected fp32, bf16 or auto with device {config.device}, found int8, which is for CPUs"
    yield from _encoder_problems(config.encoder, "encoder")
    for key, encoder in (
        ("encoder", config.encoder),
        *((f"study.models.{k}.encoder", m.encoder) for k, m in config.study.models.items()),
    ):
        if encoder.noise_aware:
            yield f"{key}.noise_aware: expected none, found {encoder.noise_aware}: branches.NAME.encoder takes it"
    yield from _pretrain_problems(config.pretrain)
    if config.evaluate.year not in known_years():
        known = ", ".join(map(str, known_years()))
        yield f"evaluate.year: expected one of {known}, found {config.evaluate.year}"
    if config.pretrain.loop.steps and config.encoder.per_machine:
        yield "encoder.simam: expected one way for all machines with pretrain.loop.steps above 0"
    yield from _systems_problems(config)
    yield from _sharing_problems(config)
    for name, branch in config.branches.items():
        yield from _branch_problems(branch, f"branches.{name}")
        if isinstance(branch, EncoderBranchConfig):
            aware = branch.encoder and branch.encoder.noise_aware
            if aware and branch.inputs != ["near", "far"]:
                yield f"branches.{name}.inputs: expected near, far with encoder.noise_aware, found {branch.inputs}"
        if not name.isidentifier():
            yield f"branches: expected names of letters, digits and underscores, found {name!r}"


def _loop_problems(loop: LoopConfig, name: str) -> Iterator[str]:
    if len(loop.betas) != 2 or not all(0 <= beta < 1 for beta in loop.betas):
        yield f"{name}.betas: expected two numbers from 0 to below 1, found {list(loop.betas)}"
    if loop.steps and loop.batch_size % loop.accumulate:
        yield f"{name}.batch_size: expected a multiple of {loop.accumulate} (accumulate), found {loop.batch_size}"


def _pretrain_problems(config: PretrainConfig) -> Iterator[str]:
    yield from _loop_problems(config.loop, "pretrain.loop")
    decoder = config.decoder
    if decoder.kernel % 2 == 0 or decoder.dim % decoder.groups:
        yield "pretrain.decoder: expected an odd kernel, and groups that divide dim"
    if config.most_bands < config.fewest_bands:
        yield f"pretrain.most_bands: expected at least {config.fewest_bands} (fewest_bands), found {config.most_bands}"
    if len(config.mix_snr) != 2 or config.mix_snr[0] > config.mix_snr[1]:
        yield f"pretrain.mix_snr: expected two numbers, the smaller one first, found {list(config.mix_snr)}"
    if config.loop.batch_size % config.copies:
        yield f"pretrain.copies: expected a divisor of {config.loop.batch_size} (batch_size), found {config.copies}"
    if config.teacher.checkpoint and not config.teacher.blocks:
        yield "pretrain.teacher.blocks: expected one or more blocks, found none"
    if config.probe.every and not config.probe.manifest:
        yield "pretrain.probe.manifest: expected a manifest of labelled clips, found none"


def _encoder_problems(encoder: EncoderConfig, name: str) -> Iterator[str]:
    if encoder.family not in FAMILIES:
        yield f"{name}.family: expected one of {', '.join(FAMILIES)}, found {encoder.family!r}"
    elif encoder.filterbank == "even" and not has_filterbank(encoder.family):
        yield f"{name}.filterbank: expected mel with {encoder.family}, found {encoder.filterbank!r}"
    if encoder.noise_aware and not encoder.checkpoint:
        yield f"{name}.noise_aware: expected none without checkpoint, since the layers belong to its weights"


def _branch_problems(branch: BranchConfig, name: str) -> Iterator[str]:
    if isinstance(branch, EncoderBranchConfig):
        if branch.encoder:
            yield from _encoder_problems(branch.encoder, f"{name}.encoder")
        if branch.heads.kind == "adaproj" and branch.heads.subclusters >= branch.embedding_dim:
            limit = f"below {branch.embedding_dim} (embedding_dim)"
            yield f"{name}.heads.subclusters: expected a number {limit} for adaproj, found {branch.heads.subclusters}"
        yield from _loop_problems(branch.loop, f"{name}.loop")
    if isinstance(branch, AutoencoderBranchConfig):
        score, scorer, folds = branch.autoencoder.score, branch.scorer.name, branch.autoencoder.folds
        if score != "residual" and scorer != PRECOMPUTED:
            yield f"{name}.scorer.name: expected {PRECOMPUTED} for autoencoder.score {score}, found {scorer!r}"
        if folds == 1:
            yield f"{name}.autoencoder.folds: expected 0, or 2 and more, found 1"
    if isinstance(branch, SpectrumBranchConfig):
        yield from (f"{name}.spectrum.{problem}" for problem in branch.spectrum.problems())
    if isinstance(branch, EncoderBranchConfig | SpectrumBranchConfig):
        inputs, subtraction = branch.inputs, branch.subtraction
        if not 1 <= len(inputs) <= 2 or len(set(inputs)) < len(inputs):
            yield f"{name}.inputs: expected one or two of near, far, residual, found {inputs}"
        if subtraction.n_fft % 2 or subtraction.hop > subtraction.n_fft // 2:
            yield f"{name}.subtraction: expected an even n_fft and a hop of at most half of it"
        yield from _subtraction_problems(subtraction, f"{name}.subtraction")


def _subtraction_problems(subtraction: SubtractionConfig, name: str) -> Iterator[str]:
    """Settings that the method of subtraction does not use."""
    usual, method = SubtractionConfig(), subtraction.method
    unused = {"least_squares": (), "scaled_magnitude": ("taps", "balance", "coherence")}
    for key in unused.get(method, ("taps", "stretch", "balance", "coherence")):
        expected, found = getattr(usual, key), getattr(subtraction, key)
        if found != expected:
            yield f"{name}.{key}: expected {expected} with method {method}, which does not use it, found {found}"


def _sharing_problems(config: Config) -> Iterator[str]:
    """Branches that share another's network or rows: it must be there, and share nothing itself."""
    owners = {name: branch for name, branch in config.branches.items() if not isinstance(branch, SharedBranchConfig)}
    for name, branch in config.branches.items():
        owner = owners.get(branch.shares if isinstance(branch, SharedBranchConfig) else name)
        if isinstance(branch, SharedBranchConfig):
            if owner is None:
                yield f"branches.{name}.shares: expected one of {', '.join(owners)}, found {branch.shares!r}"
            elif branch.readout != "projection" and not isinstance(owner, EncoderBranchConfig):
                yield f"branches.{name}.readout: expected projection, since no encoder is there to read out"
        if isinstance(owner, SpectrumBranchConfig) and owner.spectrum.statistic == FRAMES != branch.scorer.name:
            yield f"branches.{name}.scorer.name: expected {FRAMES} for statistic {FRAMES}, found {branch.scorer.name!r}"
        elif owner and branch.scorer.name == "conditional_mahalanobis" and _is_one_vector(branch, owner):
            yield (
                f"branches.{name}.scorer.name: expected a scorer of single vectors, found conditional_mahalanobis, "
                "which wants rows of two parts: a spectrum of two inputs, or a readout that keeps bands apart"
            )


def _is_one_vector(branch: BranchConfig, owner: BranchConfig) -> bool:
    """Whether a branch describes a clip by one vector, and not by one for each input or band."""
    if isinstance(owner, SpectrumBranchConfig):
        return len(owner.inputs) == 1
    return not branch.readout_name


def _study_problems(study: StudyConfig) -> Iterator[str]:
    for kind, names in (("scopes", study.scopes), ("models", study.models)):
        for name in names:
            if not name.isidentifier():
                yield f"study.{kind}.{name}: expected a name of letters, digits and underscores"
    if "autoencoder" in study.models:
        yield "study.models.autoencoder: expected another name, this one is taken"
    for name, scope in study.scopes.items():
        if not scope.machines:
            yield f"study.scopes.{name}.machines: expected at least one"
    for name, model in study.models.items():
        yield from _encoder_problems(model.encoder, f"study.models.{name}.encoder")
    if not study.lof.contaminations:
        yield "study.lof.contaminations: expected at least one number, found none"
    if not study.autoencoder.hidden:
        yield "study.autoencoder.hidden: expected at least one size, found none"


def _systems_problems(config: Config) -> Iterator[str]:
    if config.systems and not config.branches:
        yield "branches: expected at least one"
    if len(config.systems) > 4 or (config.branches and not config.systems):
        yield f"systems: expected 1 to 4, found {len(config.systems)}"
    for number, system in enumerate(config.systems):
        name = f"systems.{number}"
        yield from _fusion_problems(config, system, name)
        unknown = [branch for branch in system.weights if branch not in config.branches]
        if unknown or not system.weights:
            known, found = ", ".join(config.branches), ", ".join(map(repr, unknown)) or "nothing"
            yield f"{name}.weights: expected branches among {known}, found {found}"
        elif min(system.weights.values()) < 0 or not system.branches or math.isinf(sum(system.weights.values())):
            yield f"{name}.weights: expected none below zero and one above it"


def _fusion_problems(config: Config, system: SystemConfig, name: str) -> Iterator[str]:
    used = [config.branches.get(branch) for branch in system.branches]
    own = [each for each in used if isinstance(each, AutoencoderBranchConfig) and each.scorer.name == PRECOMPUTED]
    if system.threshold == "batches" and not len(own) == len(used) == 1:
        yield f"{name}.threshold: batches: expected one autoencoder branch with the scorer {PRECOMPUTED}"
    weights = {branch: system.weights[branch] for branch in system.branches}
    if system.fusion == "minimum" and len(set(weights.values())) > 1:
        yield f"{name}.weights: expected equal ones for fusion minimum, found {weights}"


def check_systems(config: Config, where: str) -> None:
    """Raises WheeltapperError unless there are branches and systems; a recipe that only pre-trains has none."""
    for name, found in (("branches", config.branches), ("systems", config.systems)):
        if not found:
            raise WheeltapperError(f"{where}: {name}: expected at least one")
