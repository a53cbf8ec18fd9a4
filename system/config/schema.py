"""Every key of a configuration: type, allowed values, bounds, default and description.

The classes here, in ``branches.py``, ``training.py``, ``tuning.py`` and ``package.py`` are dataclasses whose
annotations pydantic checks (``validation.py``); rules over several keys are in ``checks.py``. docs/configuration.md is
made from these classes.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, with_config

from system import channel_choice
from system.config.branches import AutoencoderConfig, BranchConfig, EncoderConfig
from system.config.keys import File, Natural, NonNegative, Positive, Seed, key
from system.config.package import PackageConfig
from system.config.training import PretrainConfig
from system.config.tuning import Fusion, TuneConfig, View
from system.corpora.year_files import latest_year

CHECKPOINTS = "checkpoints"  # folder of downloaded weights, within the data folder

EmbedPrecision = Literal["fp32", "bf16", "int8", "auto"]
VIEWS: tuple[str, ...] = get_args(View)
EMBED_PRECISIONS: tuple[str, ...] = get_args(EmbedPrecision)


@dataclass
class DataConfig:
    """Recordings."""

    rate: Natural = key(16000, "Sampling rate in Hz to which recordings are resampled; 0 keeps each at its own rate")
    corpus: str = key("", "Name of the corpus in the manifest; empty: what --data names")
    window: NonNegative = key(
        0.0,
        "Length in seconds at which the recordings of a machine are compared: longer ones are cut into windows, "
        "shorter ones repeated; 0: the median length of its training clips, or 10 s where that is above 20 s",
    )
    hop: Annotated[float, Field(gt=0, le=1)] = key(0.5, "From one window to the next, as a share of the window")
    channels: Annotated[str, BeforeValidator(channel_choice.written)] = key(
        "",
        "Channels used: near and far by their numbers from 1 (1,3), near alone (3), mean of all; empty: the first two",
    )
    folder: File = key("data", "Folder of downloads")
    synthetic: Literal["default", "tiny"] = key("default", "Size of the simulated data set")
    machines: Literal["all", "development", "evaluation"] = key(
        "all", "Machines used: all; development, those with labelled test clips; evaluation, the others"
    )
    frozen: File = key("", "Configuration frozen by wheeltapper select; required for evaluation machines")


@dataclass
class SystemConfig:
    """One of at most four systems of a submission."""

    name: str = key("", "Name in the meta file; empty: made from the system")
    abbreviation: str = key("", "Abbreviation in the meta file; empty: made from the system")
    view: View = key(
        "two_channel", "Inputs at inference: both (two_channel), or the first one in both places (near_only)"
    )
    weights: dict[str, float] = key(dict, "Weights of the branches by name")
    threshold: Literal["references", "batches"] = key(
        "references",
        "Source of the decision thresholds: references, quantiles of their scores with equal weight of both domains; "
        "batches, a gamma distribution fitted to the losses of training batches, as in the official baseline, for a "
        "single autoencoder branch",
    )
    fusion: Fusion = key(
        "sum", "sum: weighted sum of the branches' z-scores; minimum: the smallest one, with equal weights"
    )
    remark: str = key("", "What the system is good and bad at, for the report")

    @property
    def branches(self) -> list[str]:
        """Names of the branches that count: those with a weight above zero."""
        return [name for name, weight in self.weights.items() if weight > 0]


@dataclass
class EmbedConfig:
    """How the embedding stage computes; results differ by rounding alone."""

    precision: EmbedPrecision = key(
        "auto",
        "Arithmetic of the products in an encoder's blocks; auto: bf16 for FISHER and BEATs with tokens of at least "
        "192 numbers if the device has instructions for it, otherwise fp32; int8: integers, on a CPU. What was used is "
        "recorded, and new recordings are embedded in the same way",
    )
    batch_size: Natural = key(
        0,
        "Clips of equal length computed together: 1 makes each clip independent of the others to the bit; of more the "
        "rows differ from those of a clip alone by at most 1e-5 of the largest value in fp32; 0: 1 on a CPU, and on a "
        "GPU what its memory holds, up to 64",
    )


@dataclass
class EvaluateConfig:
    """Metrics."""

    year: int = key(latest_year, "Year of the challenge whose rules are used; default: the latest year known")
    bootstrap: Natural = key(1000, "Resamples for the confidence interval")


@dataclass
class BenchmarkConfig:
    """Small fault diagnosis by nearest neighbours in the manner of RMIS."""

    neighbours: Positive = key(5, "Nearest neighbours that vote")
    runs: Positive = key(10, "Random splits")
    test_size: Annotated[float, Field(ge=0.01, le=0.99)] = key(0.5, "Share of the clips in the test part")
    min_clips: Positive = key(4, "Smallest number of clips of a class; smaller classes are left out")


@dataclass
class ScopeConfig:
    """Recordings that are learned from and tested together."""

    machines: list[str] = key(list, "Machines as the manifest names them")
    sections: list[str] = key(list, "Sections of these machines; empty: all")


@dataclass
class StudyModelConfig:
    """A published encoder, frozen and fine-tuned (MIMII paper, section IV; "ours" marks what it does not say)."""

    encoder: EncoderConfig = key(EncoderConfig, "Encoder")
    mode: str = key("official", "Embedding of the encoder, one of its modes")
    supervised: bool = key(True, "Whether it is fine-tuned with labels; false: frozen embeddings alone")
    trained_layers: Natural = key(3, "Trained layers below the head; the rest is frozen (ours)")
    decay: Annotated[float, Field(ge=1)] = key(10.0, "Each layer has 1 / decay of the learning rate of the one above")
    learning_rate: NonNegative = key(1e-3, "Learning rate of the head, with Adam")
    epochs: Positive = key(1, "Passes over the training clips")
    batch_size: Positive = key(8, "Clips of one update (ours)")
    balance: Literal["none", "weight"] = key(
        "none", "weight: anomalous clips have the same total weight in the loss as normal ones"
    )
    save_every: Positive = key(50, "Steps between two saved states; a killed run continues from the last one")


def _mimii_autoencoder() -> AutoencoderConfig:
    """The autoencoder that came with MIMII, with the batches of its program; whole clips are held out, not vectors."""
    return AutoencoderConfig(hidden=[64, 64], batch_norm=False, epochs=50, batch=512, validation=0.0)


def _over_mimii(value: object) -> object:
    return asdict(_mimii_autoencoder()) | value if isinstance(value, dict) else value


@dataclass
class StudyLofConfig:
    """Local outlier factor of frozen embeddings."""

    neighbours: Positive = key(4, "Nearest neighbours")
    contaminations: list[Annotated[float, Field(gt=0, le=0.5)]] = key(
        [0.1, 0.2, 0.3, 0.4], "Assumed shares of outliers; each gives a threshold, and the thresholds vote"
    )


@dataclass
class StudyConfig:
    """Supervised and unsupervised detection side by side (MIMII paper)."""

    scopes: dict[str, ScopeConfig] = key(dict, "Scopes by name")
    models: dict[str, StudyModelConfig] = key(dict, "Models by name")
    test: Annotated[float, Field(ge=0.01, le=0.99)] = key(
        0.25, "Share of the recordings of each machine, section and label in the test part"
    )
    validation: Annotated[float, Field(ge=0, le=0.9)] = key(0.1, "Share of the rest in the validation part")
    grouped: bool = key(False, "Whether recordings of a group stay in one part")
    channel: Annotated[int, Field(ge=-1)] = key(-1, "Channel that is used; -1: the mean of all")
    autoencoder: Annotated[AutoencoderConfig, BeforeValidator(_over_mimii)] = key(_mimii_autoencoder, "Autoencoder")
    lof: StudyLofConfig = key(StudyLofConfig, "Local outlier factor")


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass
class Config:
    """Everything a run depends on besides its recordings."""

    seed: Seed = key(0, "Seed of all random numbers")
    device: Literal["auto", "cuda", "mps", "cpu"] = key(
        "auto", "Device for training and embedding; auto: the first of the others that works"
    )
    threads: Annotated[int, Field(ge=0, le=4096)] = key(0, "Threads of torch; 0: as many as there are cores")
    false_positive_rate: Annotated[float, Field(gt=0, lt=1)] = key(
        0.1, "Share of normal clips above the decision threshold that is aimed at"
    )
    data: DataConfig = key(DataConfig, "Recordings")
    encoder: EncoderConfig = key(EncoderConfig, "Encoder of the pre-training stage")
    pretrain: PretrainConfig = key(PretrainConfig, "Pre-training")
    branches: dict[str, Annotated[BranchConfig, Field(discriminator="kind")]] = key(dict, "Branches by name")
    systems: list[SystemConfig] = key(list, "Systems of the submission, one to four")
    embed: EmbedConfig = key(EmbedConfig, "Embedding stage")
    evaluate: EvaluateConfig = key(EvaluateConfig, "Evaluation stage")
    package: PackageConfig = key(PackageConfig, "Submission package")
    benchmark: BenchmarkConfig = key(BenchmarkConfig, "Benchmark stage")
    study: StudyConfig = key(StudyConfig, "Study of published encoders (wheeltapper study)")
    tune: TuneConfig = key(TuneConfig, "Search for scorers, weights and views (wheeltapper tune)")
