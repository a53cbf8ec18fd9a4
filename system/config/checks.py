"""What a configuration must hold: numbers within limits, known names, settings that do not contradict one another."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from system.config.families import FAMILIES, has_filterbank
from system.config.schema import (
    AUTOENCODER_SCORES,
    BALANCES,
    CHANNELS,
    CLUSTERED_BY,
    CLUSTERINGS,
    EMBED_PRECISIONS,
    FILTERBANKS,
    FUSIONS,
    HEADS,
    LEARN_FROM,
    MACHINES,
    POOLS,
    READOUTS,
    SIMAM,
    STATISTICS,
    SUBTRACTIONS,
    SYNTHETIC_SIZES,
    THRESHOLDS,
    TUNES,
    VIEWS,
    AutoencoderConfig,
    BranchConfig,
    Config,
    EncoderConfig,
    SpectrumConfig,
    StudyConfig,
    SubtractionConfig,
    SystemConfig,
)
from system.config.training import (
    BAND_TARGETS,
    FRONT_ENDS,
    OBJECTIVES,
    PRECISIONS,
    TARGET_LAYERS,
    TARGET_NORMS,
    LoopConfig,
    PretrainConfig,
)
from system.config.tuning import tune_problems
from system.corpora.year_files import known_years
from system.errors import WheeltapperError
from system.machine import DEVICES

PRECOMPUTED = "precomputed"  # the scorer for branches whose embeddings are scores already

# Numbers outside these limits no run can work with, wherever a field of the name stands.
LIMITS = {
    **dict.fromkeys(("batch_size", "accumulate", "log_every", "save_every", "block", "clones"), (1, math.inf)),
    **dict.fromkeys(("max_bands", "fewest_bands", "most_bands", "workers"), (1, math.inf)),
    **dict.fromkeys(("every", "weight", "band_weight", "patch_weight"), (0, math.inf)),
    "clips": (2, math.inf),
    **dict.fromkeys(("dim", "layers", "kernel", "groups", "rank", "embedding_dim", "subclusters"), (1, math.inf)),
    **dict.fromkeys(("base_rate", "min_rate", "max_rate", "neighbours", "runs", "min_clips"), (1, math.inf)),
    "seed": (0, 2**32 - 1),  # of numpy's and scikit-learn's generators
    "threads": (0, 4096),
    **dict.fromkeys(("rate", "depth", "steps", "warmup_steps", "ema_steps"), (0, math.inf)),
    **dict.fromkeys(("heads", "pool_power"), (0, math.inf)),
    **dict.fromkeys(
        ("encoder_learning_rate", "learning_rate", "final_learning_rate", "weight_decay", "noise_std"), (0, math.inf)
    ),
    **dict.fromkeys(("gain_db", "time_mask", "frequency_mask", "bootstrap", "clusters"), (0, math.inf)),
    **dict.fromkeys(("attribute_weight", "domain_weight"), (0, math.inf)),
    "crop_seconds": (0.01, 3600),
    **dict.fromkeys(("clip_norm", "scale", "mixup_alpha"), (0.01, math.inf)),
    **dict.fromkeys(("ratio", "adjust", "ema_start", "ema_end", "target_share", "dropout"), (0, 1)),
    **dict.fromkeys(("channel_swap", "channel_drop", "mixup", "mix_share"), (0, 1)),
    **dict.fromkeys(("test_size", "test"), (0.01, 0.99)),
    **dict.fromkeys(("epochs", "decay", "bottleneck", "frames"), (1, math.inf)),
    "batch": (2, math.inf),
    **dict.fromkeys(("folds", "trained_layers"), (0, math.inf)),
    "validation": (0, 0.9),
    **dict.fromkeys(("taps", "merge", "bands"), (1, math.inf)),
    **dict.fromkeys(("hop", "stretch", "readout_power"), (0, math.inf)),
    "n_fft": (16, math.inf),
    **dict.fromkeys(("level", "balance"), (0, 1)),
    "channel": (-1, math.inf),
    "margin": (0, math.pi),
}


def _number_problems(value: Any, name: str = "") -> Iterator[str]:
    """Numbers outside ``LIMITS`` in nested dataclasses, lists and dicts."""
    if is_dataclass(value):
        items = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, dict):
        items = list(value.items())
    else:
        items = list(enumerate(value)) if isinstance(value, list) else []
    for key, item in items:
        path = f"{name}.{key}" if name else str(key)
        low, high = LIMITS.get(key, (-math.inf, math.inf)) if is_dataclass(value) else (-math.inf, math.inf)
        if isinstance(item, int | float) and (not low <= item <= high or not math.isfinite(item)):
            wanted = "a number" if low == -math.inf else f"at least {low}"
            if high != math.inf:
                wanted = f"a number from {low} to {high if isinstance(high, int) else round(high, 3)}"
            yield f"{path}: expected {wanted}, found {item}"
        yield from _number_problems(item, path)


def _loop_problems(loop: LoopConfig, name: str) -> Iterator[str]:
    if len(loop.betas) != 2 or not all(0 <= beta < 1 for beta in loop.betas):
        yield f"{name}.betas: expected two numbers from 0 to below 1, found {list(loop.betas)}"
    if loop.precision not in PRECISIONS:
        yield f"{name}.precision: expected one of {', '.join(PRECISIONS)}, found {loop.precision!r}"


def _pretrain_problems(config: PretrainConfig) -> Iterator[str]:
    yield from _loop_problems(config.loop, "pretrain.loop")
    decoder = config.decoder
    if decoder.kernel % 2 == 0 or decoder.dim % max(decoder.groups, 1):
        yield "pretrain.decoder: expected an odd kernel, and groups that divide dim"
    for name, found, known in (
        ("objective", config.objective, OBJECTIVES),
        ("front_end", config.front_end, FRONT_ENDS),
        ("target.layers", config.target.layers, TARGET_LAYERS),
        ("target.norm", config.target.norm, TARGET_NORMS),
        ("target.band", config.target.band, BAND_TARGETS),
    ):
        if found not in known:
            yield f"pretrain.{name}: expected one of {', '.join(known)}, found {found!r}"
    if not config.target.floor > 0.0:
        yield f"pretrain.target.floor: expected a number above 0, found {config.target.floor:g}"
    if config.most_bands < config.fewest_bands:
        yield f"pretrain.most_bands: expected at least {config.fewest_bands} (fewest_bands), found {config.most_bands}"
    if len(config.mix_snr) != 2 or config.mix_snr[0] > config.mix_snr[1]:
        yield f"pretrain.mix_snr: expected two numbers, the smaller one first, found {list(config.mix_snr)}"
    if config.probe.every and not config.probe.manifest:
        yield "pretrain.probe.manifest: expected a manifest of labelled clips, found none"


def _encoder_problems(encoder: EncoderConfig, name: str) -> Iterator[str]:
    for field, found, known in (
        ("family", encoder.family, FAMILIES),
        ("filterbank", encoder.filterbank, FILTERBANKS),
    ):
        if found not in known:
            yield f"{name}.{field}: expected one of {', '.join(known)}, found {found!r}"
    if encoder.filterbank == "even" and encoder.family in FAMILIES and not has_filterbank(encoder.family):
        yield f"{name}.filterbank: expected mel with {encoder.family}, found {encoder.filterbank!r}"
    for machine, mode in {"": encoder.simam, **encoder.simam_machines}.items():
        known = SIMAM if machine else (*SIMAM, "auto")
        if mode not in known:
            where = f"simam_machines.{machine}" if machine else "simam"
            yield f"{name}.{where}: expected one of {', '.join(known)}, found {mode!r}"


def _branch_problems(branch: BranchConfig, name: str) -> Iterator[str]:
    from system import scoring

    for field, found, known in (
        ("pool", branch.pool, POOLS),
        ("tune", branch.tune, TUNES),
        ("learn_from", branch.learn_from, LEARN_FROM),
        ("readout", branch.readout, READOUTS),
        ("heads.kind", branch.heads.kind, HEADS),
        ("pseudo_attributes.method", branch.pseudo_attributes.method, CLUSTERINGS),
        ("pseudo_attributes.by", branch.pseudo_attributes.by, CLUSTERED_BY),
    ):
        if found not in known:
            yield f"{name}.{field}: expected one of {', '.join(known)}, found {found!r}"
    if branch.encoder:
        yield from _encoder_problems(branch.encoder, f"{name}.encoder")
    if branch.heads.domain_classes not in ("machine", "domain"):
        yield f"{name}.heads.domain_classes: expected machine or domain, found {branch.heads.domain_classes!r}"
    if branch.heads.kind == "adaproj" and branch.heads.subclusters >= branch.embedding_dim:
        limit = f"below {branch.embedding_dim} (embedding_dim)"
        yield f"{name}.heads.subclusters: expected a number {limit} for adaproj, found {branch.heads.subclusters}"
    yield from _loop_problems(branch.loop, f"{name}.loop")
    kinds = [kind for kind in ("autoencoder", "spectrum", "of") if getattr(branch, kind)]
    if len(kinds) > 1:
        yield f"{name}: expected one of autoencoder, spectrum and of, found {' and '.join(kinds)}"
    if branch.autoencoder is not None:
        yield from _autoencoder_problems(branch.autoencoder, scoring.current_name(branch.scorer.name), name)
    if branch.spectrum is not None:
        yield from _spectrum_problems(branch.spectrum, f"{name}.spectrum")
    yield from _input_problems(branch.inputs, branch.subtraction, name)
    for setting, text in scoring.problems(branch.scorer.name, branch.scorer.settings):
        yield f"{name}.scorer.{f'settings.{setting}' if setting else 'name'}: {text}"


def _spectrum_problems(spectrum: SpectrumConfig, name: str) -> Iterator[str]:
    for field, found, known in (
        ("filterbank", spectrum.filterbank, FILTERBANKS),
        ("statistic", spectrum.statistic, STATISTICS),
    ):
        if found not in known:
            yield f"{name}.{field}: expected one of {', '.join(known)}, found {found!r}"
    if spectrum.hop < 1:
        yield f"{name}.hop: expected at least 1, found {spectrum.hop}"
    if spectrum.bands % max(spectrum.merge, 1):
        yield f"{name}.merge: expected a divisor of {spectrum.bands} bands, found {spectrum.merge}"


def _input_problems(inputs: list[str], subtraction: SubtractionConfig, name: str) -> Iterator[str]:
    if not 1 <= len(inputs) <= 2 or not set(inputs) <= set(CHANNELS) or len(set(inputs)) < len(inputs):
        yield f"{name}.inputs: expected one or two of {', '.join(CHANNELS)}, found {inputs}"
    where = f"{name}.subtraction"
    if subtraction.method not in SUBTRACTIONS:
        yield f"{where}.method: expected one of {', '.join(SUBTRACTIONS)}, found {subtraction.method!r}"
    if subtraction.n_fft % 2 or subtraction.hop > subtraction.n_fft // 2:
        yield f"{where}: expected an even n_fft and a hop of at most half of it"


def _sharing_problems(config: Config) -> Iterator[str]:
    """Branches that share another's network or rows: it must be there, and share nothing itself."""
    owners = {name: branch for name, branch in config.branches.items() if not branch.of}
    for name, branch in config.branches.items():
        if branch.of and branch.of not in owners:
            yield f"branches.{name}.of: expected one of {', '.join(owners)}, found {branch.of!r}"
        elif branch.readout != "projection" and not owners[branch.of or name].has_network:
            yield f"branches.{name}.readout: expected projection, since no encoder is there to read out"
        owner = owners.get(branch.of or name)
        if owner and branch.scorer.name == "conditional_mahalanobis" and _is_one_vector(branch, owner):
            yield (
                f"branches.{name}.scorer.name: expected a scorer of single vectors, found conditional_mahalanobis, "
                "which wants rows of two parts: a spectrum of two inputs, or a readout that keeps bands apart"
            )


def _is_one_vector(branch: BranchConfig, owner: BranchConfig) -> bool:
    """Whether a branch describes a clip by one vector, and not by one for each input or band."""
    if owner.spectrum is not None:
        return len(owner.inputs) == 1
    return owner.autoencoder is not None or branch.readout == "projection"


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
        if model.balance not in BALANCES:
            yield f"study.models.{name}.balance: expected one of {', '.join(BALANCES)}, found {model.balance!r}"
    if not study.lof.contaminations or not all(0.0 < share <= 0.5 for share in study.lof.contaminations):
        yield f"study.lof.contaminations: expected numbers above 0, at most 0.5, found {study.lof.contaminations}"
    if not study.autoencoder.hidden or min(study.autoencoder.hidden) < 1:
        yield f"study.autoencoder.hidden: expected sizes of at least 1, found {study.autoencoder.hidden}"


def _autoencoder_problems(config: AutoencoderConfig, scorer: str, name: str) -> Iterator[str]:
    if config.score not in AUTOENCODER_SCORES:
        yield f"{name}.autoencoder.score: expected one of {', '.join(AUTOENCODER_SCORES)}, found {config.score!r}"
    elif config.score != "residual" and scorer != PRECOMPUTED:
        yield f"{name}.scorer.name: expected {PRECOMPUTED} for autoencoder.score {config.score}, found {scorer!r}"
    if config.folds == 1:
        yield f"{name}.autoencoder.folds: expected 0, or 2 and more, found 1"
    if not all(size > 0 for size in config.hidden):
        yield f"{name}.autoencoder.hidden: expected numbers of at least 1, found {list(config.hidden)}"


def _threshold_problems(config: Config, system: SystemConfig, name: str) -> Iterator[str]:
    if system.threshold not in THRESHOLDS:
        yield f"{name}.threshold: expected one of {', '.join(THRESHOLDS)}, found {system.threshold!r}"
    elif system.threshold == "batches":
        from system.scoring import current_name

        used = [config.branches.get(branch) for branch, weight in system.weights.items() if weight > 0]
        if len(used) != 1 or not (used[0] and used[0].autoencoder and current_name(used[0].scorer.name) == PRECOMPUTED):
            yield f"{name}.threshold: batches: expected one autoencoder branch with the scorer {PRECOMPUTED}"


def _fusion_problems(system: SystemConfig, name: str) -> Iterator[str]:
    if system.fusion not in FUSIONS:
        yield f"{name}.fusion: expected one of {', '.join(FUSIONS)}, found {system.fusion!r}"
    used = {branch: weight for branch, weight in system.weights.items() if weight > 0}
    if system.fusion == "minimum" and len(set(used.values())) > 1:
        yield f"{name}.weights: expected equal ones for fusion minimum, found {used}"


def problems(config: Config) -> Iterator[str]:
    """What is wrong with a configuration, one sentence each, the key first."""
    yield from _number_problems(config)
    yield from _study_problems(config.study)
    yield from tune_problems(config.tune, VIEWS, FUSIONS)
    yield from _encoder_problems(config.encoder, "encoder")
    yield from _pretrain_problems(config.pretrain)
    for name, found, known in (
        ("device", config.device, DEVICES),
        ("embed.precision", config.embed.precision, EMBED_PRECISIONS),
        ("data.machines", config.data.machines, MACHINES),
        ("data.synthetic", config.data.synthetic, SYNTHETIC_SIZES),
        ("evaluate.year", config.evaluate.year, known_years()),
    ):
        if found not in known:
            yield f"{name}: expected one of {', '.join(map(str, known))}, found {found!r}"
    if config.pretrain.loop.steps and config.encoder.per_machine:
        yield "encoder.simam: expected one way for all machines with pretrain.loop.steps above 0"
    if config.false_positive_rate <= 0.0 or config.false_positive_rate >= 1.0:
        yield f"false_positive_rate: expected a number between 0 and 1, found {config.false_positive_rate}"
    yield from _systems_problems(config)
    yield from _sharing_problems(config)
    for name, branch in config.branches.items():
        yield from _branch_problems(branch, f"branches.{name}")
        if not name.isidentifier():
            yield f"branches.{name}: expected a name of letters, digits and underscores"


def _systems_problems(config: Config) -> Iterator[str]:
    if config.systems and not config.branches:
        yield "branches: expected at least one"
    if len(config.systems) > 4 or (config.branches and not config.systems):
        yield f"systems: expected 1 to 4, found {len(config.systems)}"
    for number, system in enumerate(config.systems):
        name = f"systems.{number}"
        if system.view not in VIEWS:
            yield f"{name}.view: expected one of {', '.join(VIEWS)}, found {system.view!r}"
        yield from _threshold_problems(config, system, name)
        yield from _fusion_problems(system, name)
        unknown = [branch for branch in system.weights if branch not in config.branches]
        if unknown or not system.weights:
            known, found = ", ".join(config.branches), ", ".join(map(repr, unknown)) or "nothing"
            yield f"{name}.weights: expected branches among {known}, found {found}"
        elif min(system.weights.values()) < 0 or not 0 < sum(system.weights.values()) < math.inf:
            yield f"{name}.weights: expected none below zero and one above it"


def check_systems(config: Config, where: str) -> None:
    """Raises WheeltapperError unless there are branches and systems; a recipe that only pre-trains has none."""
    for name, found in (("branches", config.branches), ("systems", config.systems)):
        if not found:
            raise WheeltapperError(f"{where}: {name}: expected at least one")
