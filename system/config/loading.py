"""A recipe's yaml, read over the defaults and checked, and written back."""

import difflib
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from system.config.schema import (
    AUTOENCODER_SCORES,
    BALANCES,
    EMBED_PRECISIONS,
    LEARN_FROM,
    MACHINES,
    POOLS,
    SIMAM,
    THRESHOLDS,
    TUNES,
    VIEWS,
    AutoencoderConfig,
    BranchConfig,
    Config,
    EncoderConfig,
    StudyConfig,
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
from system.config.tuning import FUSIONS, tune_problems
from system.errors import WheeltapperError
from system.stage import open_atomic

GIVEN = "given"  # the scorer for branches whose rows are scores already


def load(path: str | os.PathLike, overrides: list[str] | None = None) -> Config:
    """Reads a recipe's yaml over the defaults.

    Args:
        path: yaml file.
        overrides: ``key.key=value`` each.

    Raises WheeltapperError that names the file and the key: an unknown key (with the nearest known one), a value of
    the wrong type, or settings that contradict one another.
    """
    path = Path(path)
    config = _merge(OmegaConf.structured(Config), _read(path), str(path))
    for override in overrides or []:
        if "=" not in override:
            raise WheeltapperError(f"--set {override}: expected key=value")
        try:
            given = OmegaConf.from_dotlist([override])
        except yaml.YAMLError as error:
            raise WheeltapperError(f"--set {override}: expected a value, found {_one_line(error)}") from error
        config = _merge(config, given, f"--set {override}")
    try:
        result: Config = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise WheeltapperError(f"{path}: {error.full_key or 'value'}: {str(error).splitlines()[0]}") from error
    _check(result, str(path))
    return result


def save(path: str | os.PathLike, config: Config) -> None:
    """Writes the resolved configuration as yaml, whole or not at all; an equal one stays as it is."""
    text = yaml.safe_dump(asdict(config), sort_keys=False)
    path = Path(path)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with open_atomic(path) as file:
        file.write(text)


def _read(path: Path, above: tuple[Path, ...] = ()):
    """A yaml file; a key ``base: other.yaml`` (relative to the file) is read first, what the file says goes on top."""
    if not path.is_file():
        named = f"{above[-1]}: base: " if above else ""
        raise WheeltapperError(f"{named}{path}: expected a configuration, found nothing")
    if path.resolve() in above:
        raise WheeltapperError(f"{path}: base: expected another file, found a circle of files")
    try:
        given = OmegaConf.create(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise WheeltapperError(f"{path}: expected yaml, found {_one_line(error)}") from error
    if not OmegaConf.is_dict(given):
        raise WheeltapperError(f"{path}: expected yaml of keys and values, found a list")
    if not given:
        raise WheeltapperError(f"{path}: expected yaml of keys and values, found none")
    base = given.pop("base", None)
    if base is None:
        return given
    return OmegaConf.merge(_read(path.parent / str(base), (*above, path.resolve())), given)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _merge(config, given, where: str):
    try:
        return OmegaConf.merge(config, given)
    except ConfigKeyError as error:
        key = str(error.full_key)
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        known = sorted(str(k) for k in node) if node is not None else _branch_keys(parent)
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        raise WheeltapperError(f"{where}: unknown key {key}: {advice}") from error
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).split("\n")[0]
        raise WheeltapperError(f"{where}: {error.full_key or 'value'}: {_one_line(reason)}") from error
    except TypeError as error:
        raise WheeltapperError(f"{where}: a list is set as a whole, not item by item") from error


def _branch_keys(parent: str) -> list[str]:
    """Keys under ``branches.NAME`` and its optional parts, of a branch that is not there yet."""
    if not parent.startswith("branches."):
        return []
    kind = {"autoencoder": AutoencoderConfig, "encoder": EncoderConfig}.get(parent.split(".")[-1], BranchConfig)
    return sorted(field.name for field in fields(kind))


# Numbers outside these limits no run can work with, wherever a field of the name stands.
_LIMITS = {
    **dict.fromkeys(("batch_size", "accumulate", "log_every", "save_every", "block", "clones"), (1, math.inf)),
    **dict.fromkeys(("max_bands", "fewest_bands", "most_bands", "workers"), (1, math.inf)),
    **dict.fromkeys(("every", "weight", "band_weight", "patch_weight"), (0, math.inf)),
    "clips": (2, math.inf),
    **dict.fromkeys(("dim", "layers", "kernel", "groups", "rank", "embedding_dim"), (1, math.inf)),
    **dict.fromkeys(("base_rate", "min_rate", "max_rate", "neighbours", "runs", "min_clips"), (1, math.inf)),
    **dict.fromkeys(("seed", "threads", "rate", "depth", "steps", "warmup_steps", "ema_steps"), (0, math.inf)),
    **dict.fromkeys(("heads", "pool_power"), (0, math.inf)),
    **dict.fromkeys(
        ("encoder_learning_rate", "learning_rate", "final_learning_rate", "weight_decay", "noise_std"), (0, math.inf)
    ),
    **dict.fromkeys(("gain_db", "time_mask", "frequency_mask", "bootstrap"), (0, math.inf)),
    **dict.fromkeys(("attribute_weight", "domain_weight"), (0, math.inf)),
    **dict.fromkeys(("crop_seconds", "clip_norm", "scale", "mixup_alpha"), (0.01, math.inf)),
    **dict.fromkeys(("ratio", "adjust", "ema_start", "ema_end", "target_share", "dropout"), (0, 1)),
    **dict.fromkeys(("channel_swap", "channel_drop", "mixup", "mix_share"), (0, 1)),
    **dict.fromkeys(("test_size", "test"), (0.01, 0.99)),
    **dict.fromkeys(("epochs", "decay", "bottleneck", "frames"), (1, math.inf)),
    "batch": (2, math.inf),
    **dict.fromkeys(("folds", "trained_layers"), (0, math.inf)),
    "validation": (0, 0.9),
    "channel": (-1, math.inf),
    "margin": (0, math.pi),
}


def _number_problems(value: Any, name: str = "") -> Iterator[str]:
    """Numbers outside ``_LIMITS`` in nested dataclasses, lists and dicts."""
    if is_dataclass(value):
        items = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, dict):
        items = list(value.items())
    else:
        items = list(enumerate(value, 1)) if isinstance(value, list) else []
    for key, item in items:
        path = f"{name}.{key}" if name else str(key)
        low, high = _LIMITS.get(key, (-math.inf, math.inf)) if is_dataclass(value) else (-math.inf, math.inf)
        if isinstance(item, int | float) and not low <= item <= high:
            wanted = f"at least {low}" if high == math.inf else f"a number from {low} to {high:.4g}"
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


def _simam_problems(encoder: EncoderConfig, name: str) -> Iterator[str]:
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
    ):
        if found not in known:
            yield f"{name}.{field}: expected one of {', '.join(known)}, found {found!r}"
    if branch.encoder:
        yield from _simam_problems(branch.encoder, f"{name}.encoder")
    if branch.heads.domain_classes not in ("machine", "domain"):
        yield f"{name}.heads.domain_classes: expected machine or domain, found {branch.heads.domain_classes!r}"
    yield from _loop_problems(branch.loop, f"{name}.loop")
    if branch.autoencoder is not None:
        yield from _autoencoder_problems(branch.autoencoder, branch.scorer.name, name)
    try:
        scoring.build(branch.scorer.name, **branch.scorer.settings)
    except WheeltapperError as error:
        yield f"{name}.scorer: {error}"


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
        if model.balance not in BALANCES:
            yield f"study.models.{name}.balance: expected one of {', '.join(BALANCES)}, found {model.balance!r}"
    if not study.lof.contaminations or not all(0.0 < share <= 0.5 for share in study.lof.contaminations):
        yield f"study.lof.contaminations: expected numbers above 0, at most 0.5, found {study.lof.contaminations}"
    if not study.autoencoder.hidden or min(study.autoencoder.hidden) < 1:
        yield f"study.autoencoder.hidden: expected sizes of at least 1, found {study.autoencoder.hidden}"


def _autoencoder_problems(config: AutoencoderConfig, scorer: str, name: str) -> Iterator[str]:
    if config.score not in AUTOENCODER_SCORES:
        yield f"{name}.autoencoder.score: expected one of {', '.join(AUTOENCODER_SCORES)}, found {config.score!r}"
    elif config.score != "residual" and scorer != GIVEN:
        yield f"{name}.scorer.name: expected {GIVEN} for autoencoder.score {config.score}, found {scorer!r}"
    if config.folds == 1:
        yield f"{name}.autoencoder.folds: expected 0, or 2 and more, found 1"
    if not all(size > 0 for size in config.hidden):
        yield f"{name}.autoencoder.hidden: expected numbers of at least 1, found {list(config.hidden)}"


def _threshold_problems(config: Config, system: SystemConfig, name: str) -> Iterator[str]:
    if system.threshold not in THRESHOLDS:
        yield f"{name}.threshold: expected one of {', '.join(THRESHOLDS)}, found {system.threshold!r}"
    elif system.threshold == "batches":
        used = [config.branches.get(branch) for branch, weight in system.weights.items() if weight > 0]
        if len(used) != 1 or not (used[0] and used[0].autoencoder and used[0].scorer.name == GIVEN):
            yield f"{name}.threshold: batches: expected one autoencoder branch with the scorer {GIVEN}"


def _fusions() -> tuple[str, ...]:
    """What a system may be configured to."""
    return FUSIONS if "fusion" in {field.name for field in fields(SystemConfig)} else FUSIONS[:1]


def _check(config: Config, where: str) -> None:
    problems = list(_number_problems(config))
    problems += [*_study_problems(config.study), *tune_problems(config.tune, VIEWS, _fusions())]
    if config.embed.precision not in EMBED_PRECISIONS:
        found = config.embed.precision
        problems.append(f"embed.precision: expected one of {', '.join(EMBED_PRECISIONS)}, found {found!r}")
    problems += [*_simam_problems(config.encoder, "encoder"), *_pretrain_problems(config.pretrain)]
    if config.pretrain.loop.steps and config.encoder.per_machine:
        problems.append("encoder.simam: expected one way for all machines with pretrain.loop.steps above 0")
    if config.data.machines not in MACHINES:
        problems.append(f"data.machines: expected one of {', '.join(MACHINES)}, found {config.data.machines!r}")
    if config.systems and not config.branches:
        problems.append("branches: expected at least one")
    if len(config.systems) > 4 or (config.branches and not config.systems):
        problems.append(f"systems: expected 1 to 4, found {len(config.systems)}")
    if not 0.0 < config.false_positive_rate < 1.0:
        problems.append(f"false_positive_rate: expected a number between 0 and 1, found {config.false_positive_rate}")
    for number, system in enumerate(config.systems, 1):
        if system.view not in VIEWS:
            problems.append(f"systems.{number}.view: expected one of {', '.join(VIEWS)}, found {system.view!r}")
        problems += _threshold_problems(config, system, f"systems.{number}")
        unknown = [name for name in system.weights if name not in config.branches]
        if unknown or not system.weights:
            problems.append(
                f"systems.{number}.weights: expected branches among {', '.join(config.branches)}, "
                f"found {', '.join(unknown) or 'none'}"
            )
        elif min(system.weights.values()) < 0 or sum(system.weights.values()) <= 0:
            problems.append(f"systems.{number}.weights: expected none below zero and one above it")
    for name, branch in config.branches.items():
        problems += _branch_problems(branch, f"branches.{name}")
        if not name.isidentifier():
            problems.append(f"branches.{name}: expected a name of letters, digits and underscores")
    if problems:
        raise WheeltapperError(f"{where}: {'; '.join(problems)}")


def check_systems(config: Config, where: str) -> None:
    """Raises WheeltapperError unless there are branches and systems; a recipe that only pre-trains has none."""
    for name, found in (("branches", config.branches), ("systems", config.systems)):
        if not found:
            raise WheeltapperError(f"{where}: {name}: expected at least one")
