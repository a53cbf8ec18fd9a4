"""The typed configuration of a recipe: yaml with only the differences, plus overrides, to checked dataclasses.

Nothing here imports torch: a stage that has nothing to do must be able to say so at once.
"""

import difflib
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from submission.config import PackageConfig
from system.errors import WheeltapperError
from system.stage import open_atomic

VIEWS = ("two_channel", "left_duplicated")
PRECISIONS = ("no", "bf16", "fp16")
EMBED_PRECISIONS = ("fp32", "bf16", "auto")
POOLS = ("mean", "band", "cls", "attentive", "gem", "rdp")


@dataclass
class DataConfig:
    """Recordings."""

    rate: int = 16000  # Hz; every recording is brought to it before the encoder, 0 keeps each at its own
    corpus: str = ""  # name written in the manifest; empty: what --data names
    folder: str = "data"  # where downloads go
    synthetic: str = "default"  # size of the simulated set: default | tiny


@dataclass
class LoopConfig:
    """Optimisation, shared by pre-training and adaptation."""

    steps: int = 300
    batch_size: int = 8
    learning_rate: float = 5e-4  # peak, AdamW
    final_learning_rate: float = 1e-6  # end of the cosine
    warmup_steps: int = 30
    weight_decay: float = 0.05  # none on biases, norms and other vectors
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    clip_norm: float = 4.0
    precision: str = "no"  # no (fp32) | bf16 | fp16, as accelerate names them
    log_every: int = 10  # steps
    save_every: int = 50  # steps; a killed run goes on from the last one


@dataclass
class MaskConfig:
    """Inverse block mask of EAT, which the FISHER paper takes over."""

    ratio: float = 0.8  # share of patches hidden
    adjust: float = 0.07  # extra share of block centres
    block: int = 5  # patches, side of a visible block
    clones: int = 8  # masks per sub-band of a batch at most
    max_rows: int = 128  # cloned sub-bands in a batch at most (m_b in the paper)
    noise_std: float = 0.01  # of what fills the hidden slots before the decoder


@dataclass
class DecoderConfig:
    """Shallow CNN between the student's tokens and the patch targets."""

    dim: int = 128
    layers: int = 3
    kernel: int = 3
    groups: int = 16


@dataclass
class PretrainConfig:
    """Teacher-student self-distillation (FISHER paper, section 3.2)."""

    loop: LoopConfig = field(default_factory=LoopConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    crop_seconds: float = 3.0
    base_rate: int = 4000  # Hz; the rate of a batch is a multiple of it
    min_rate: int = 8000
    max_rate: int = 16000
    ema_start: float = 0.98  # EAT: 0.9998; short runs need a teacher that moves
    ema_end: float = 0.999
    ema_steps: int = 300
    min_target_std: float = 0.01  # below: collapsed, stop
    min_prediction_std: float = 0.001


@dataclass
class EncoderConfig:
    """Which network, and from which weights it starts."""

    family: str = "fisher"
    size: str = "nano"
    checkpoint: str = ""  # published or own weights, a file or a name of download-checkpoint; empty: untrained
    heads: int = 0  # attention heads, where the checkpoint does not say; 0: width / 64, at least two
    filterbank: str = "mel"  # mel | even, of the families with a filter bank
    simam: str = "none"  # none | global | local, enhancement of the spectrogram


@dataclass
class LoraConfig:
    """Low-rank adaptation (Wang and Liu 2026, section 3.3)."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.1
    targets: list[str] = field(default_factory=list)  # layers by name; empty: the encoder family's own


@dataclass
class AugmentConfig:
    """Waveform and spectrogram augmentation (Wang and Liu 2026, section 3.4; strengths are ours, it names none)."""

    channel_swap: float = 0.1  # probability
    channel_drop: float = 0.1  # probability that one of the two channels is silenced
    gain_db: float = 3.0  # each channel by a uniform gain of at most this
    mixup: float = 0.0  # probability that a clip is mixed with another one and their losses alike
    mixup_alpha: float = 0.5
    time_mask: int = 0  # frames at most (SpecAugment)
    frequency_mask: int = 0  # bins at most


@dataclass
class HeadConfig:
    """ArcFace (Wang and Liu 2026, section 3.5; scale and margin are ours, it names none)."""

    scale: float = 16.0
    margin: float = 0.2
    attribute_weight: float = 1.0
    domain_weight: float = 1.0
    domain_classes: str = "machine"  # machine: source and target of every machine apart | domain: two classes


@dataclass
class ScorerConfig:
    """Distance of an embedding to the normal references."""

    name: str = "mahalanobis"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class BranchConfig:
    """One adapted encoder with its scorer."""

    encoder: EncoderConfig | None = None  # None: the encoder of the pre-training stage
    depth: int = 0  # blocks to run, 0 for all
    pool: str = "band"  # mean | band | cls | attentive | gem | rdp
    pool_power: float = 0.0  # exponent of gem and rdp; 0: 3 and 4
    embedding_dim: int = 256
    gate_bias: float = 1.0
    crop_seconds: float = 4.0
    target_share: float = 0.25  # of the clips of a batch drawn from the target domain
    lora: LoraConfig = field(default_factory=LoraConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    heads: HeadConfig = field(default_factory=HeadConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    scorer: ScorerConfig = field(default_factory=ScorerConfig)


@dataclass
class SystemConfig:
    """One of at most four systems of a submission."""

    name: str = ""
    abbreviation: str = ""
    view: str = "two_channel"  # two_channel | left_duplicated, at inference
    weights: dict[str, float] = field(default_factory=dict)  # of the branches


@dataclass
class EmbedConfig:
    """How the embedding stage computes; the results differ by rounding alone."""

    precision: str = "fp32"  # fp32 | bf16 | auto: bf16 where the processor has instructions for it
    batch_size: int = 1  # clips computed together, for a GPU; 1 keeps a clip independent of all others to the bit


@dataclass
class EvaluateConfig:
    """Metrics."""

    year: int = 2026  # whose rules count
    bootstrap: int = 1000  # resamples of the interval


@dataclass
class BenchmarkConfig:
    """Small fault diagnosis by nearest neighbours in the manner of RMIS."""

    neighbours: int = 5
    runs: int = 10
    test_size: float = 0.5
    min_clips: int = 4  # per class


@dataclass
class Config:
    """Everything a run depends on besides its recordings."""

    seed: int = 0
    device: str = "cpu"  # cpu | cuda, of training and embedding
    threads: int = 0  # of torch, 0 for as many as there are cores
    false_positive_rate: float = 0.1  # that the decisions aim at
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    branches: dict[str, BranchConfig] = field(default_factory=dict)
    systems: list[SystemConfig] = field(default_factory=list)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    package: PackageConfig = field(default_factory=PackageConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)


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
        known = sorted(str(k) for k in node) if node is not None else []
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        raise WheeltapperError(f"{where}: unknown key {key}: {advice}") from error
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).split("\n")[0]
        raise WheeltapperError(f"{where}: {error.full_key or 'value'}: {_one_line(reason)}") from error
    except TypeError as error:
        raise WheeltapperError(f"{where}: a list is set as a whole, not item by item") from error


# Numbers outside these limits no run can work with, wherever a field of the name stands.
_LIMITS = {
    **dict.fromkeys(("batch_size", "log_every", "save_every", "block", "clones", "max_rows"), (1, math.inf)),
    **dict.fromkeys(("dim", "layers", "kernel", "groups", "rank", "embedding_dim"), (1, math.inf)),
    **dict.fromkeys(("base_rate", "min_rate", "max_rate", "neighbours", "runs", "min_clips"), (1, math.inf)),
    **dict.fromkeys(("seed", "threads", "rate", "depth", "steps", "warmup_steps", "ema_steps"), (0, math.inf)),
    **dict.fromkeys(("heads", "pool_power"), (0, math.inf)),
    **dict.fromkeys(("learning_rate", "final_learning_rate", "weight_decay", "noise_std"), (0, math.inf)),
    **dict.fromkeys(("gain_db", "time_mask", "frequency_mask", "bootstrap"), (0, math.inf)),
    **dict.fromkeys(("attribute_weight", "domain_weight"), (0, math.inf)),
    **dict.fromkeys(("crop_seconds", "clip_norm", "scale", "mixup_alpha"), (0.01, math.inf)),
    **dict.fromkeys(("ratio", "adjust", "ema_start", "ema_end", "target_share", "dropout"), (0, 1)),
    **dict.fromkeys(("channel_swap", "channel_drop", "mixup"), (0, 1)),
    "test_size": (0.01, 0.99),
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


def _branch_problems(branch: BranchConfig, name: str) -> Iterator[str]:
    from system import scoring

    if branch.pool not in POOLS:
        yield f"{name}.pool: expected one of {', '.join(POOLS)}, found {branch.pool!r}"
    if branch.heads.domain_classes not in ("machine", "domain"):
        yield f"{name}.heads.domain_classes: expected machine or domain, found {branch.heads.domain_classes!r}"
    yield from _loop_problems(branch.loop, f"{name}.loop")
    try:
        scoring.build(branch.scorer.name, **branch.scorer.settings)
    except WheeltapperError as error:
        yield f"{name}.scorer: {error}"


def _check(config: Config, where: str) -> None:
    problems = [*_number_problems(config), *_loop_problems(config.pretrain.loop, "pretrain.loop")]
    if config.embed.precision not in EMBED_PRECISIONS:
        found = config.embed.precision
        problems.append(f"embed.precision: expected one of {', '.join(EMBED_PRECISIONS)}, found {found!r}")
    decoder = config.pretrain.decoder
    if decoder.kernel % 2 == 0 or decoder.dim % max(decoder.groups, 1):
        problems.append("pretrain.decoder: expected an odd kernel, and groups that divide dim")
    if not config.branches:
        problems.append("branches: expected at least one")
    if not 1 <= len(config.systems) <= 4:
        problems.append(f"systems: expected 1 to 4, found {len(config.systems)}")
    if not 0.0 < config.false_positive_rate < 1.0:
        problems.append(f"false_positive_rate: expected a number between 0 and 1, found {config.false_positive_rate}")
    for number, system in enumerate(config.systems, 1):
        if system.view not in VIEWS:
            problems.append(f"systems.{number}.view: expected one of {', '.join(VIEWS)}, found {system.view!r}")
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
