"""Settings of the main recipe."""

from dataclasses import dataclass, field
from typing import Any, Literal

from system.config.package import PackageConfig
from system.config.training import LoopConfig, PretrainConfig
from system.config.tuning import TuneConfig

SYNTHETIC_SIZES = ("default", "tiny")
VIEWS = ("two_channel", "near_only")
BALANCES = ("none", "weight")
EMBED_PRECISIONS = ("fp32", "bf16", "auto")
SIMAM = ("none", "global", "local")
TUNES = ("lora", "full", "frozen")
LEARN_FROM = ("all", "source")
HEADS = ("arcface", "adacos", "adaproj")
CLUSTERINGS = ("kmeans", "ward")
CLUSTERED_BY = ("frozen", "spectrum")
AUTOENCODER_SCORES = ("mse", "mahalanobis", "residual")
THRESHOLDS = ("references", "batches")
FUSIONS = ("sum", "minimum")
CHECKPOINTS = "checkpoints"  # folder of downloaded weights, within the data folder
MACHINES = ("all", "development", "evaluation")
POOLS = ("mean", "band", "cls", "attentive", "gem", "rdp")
READOUTS = ("projection", "mean", "band", "cls", "gem", "rdp")
CHANNELS = ("near", "far", "residual")
SUBTRACTIONS = ("least_squares", "magnitude", "scaled_magnitude")
FILTERBANKS = ("mel", "even")
STATISTICS = ("mean", "quantile")


@dataclass
class DataConfig:
    """Recordings."""

    rate: int = 16000  # Hz; every recording is brought to it before the encoder, 0 keeps each at its own
    corpus: str = ""  # name written in the manifest; empty: what --data names
    folder: str = "data"  # where downloads go
    synthetic: str = "default"  # size of the simulated set: default | tiny
    machines: str = "all"  # all | development: those with labelled test clips | evaluation: the others
    frozen: str = ""  # the configuration that wheeltapper select froze; evaluation machines need one


@dataclass
class EncoderConfig:
    """Which network, and from which weights it starts."""

    family: str = "fisher"
    size: str = "nano"
    checkpoint: str = ""  # published or own weights, a file or a name of download-checkpoint; empty: untrained
    heads: int = 0  # attention heads, where the checkpoint does not say; 0: width / 64, at least two
    filterbank: str = "mel"  # mel | even, of the families with a filter bank
    simam: str = "none"  # none | global | local, enhancement of the spectrogram | auto: by normal clips, per machine
    simam_machines: dict[str, str] = field(default_factory=dict)  # by hand: machine to none | global | local

    @property
    def per_machine(self) -> bool:
        """Whether machines may be heard through different front ends."""
        return self.simam == "auto" or bool(self.simam_machines)


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
    """ArcFace (Wang and Liu 2026, section 3.5; scale and margin are ours, it names none), AdaCos or AdaProj."""

    kind: str = "arcface"  # arcface | adacos: sub-cluster AdaCos | adaproj: sub-spaces of the classes
    subclusters: int = 1  # centres of a class; published: 16 for adacos, 32 for adaproj
    trainable_centres: bool = True  # published for adacos and adaproj: both, lately false
    scale: float = 16.0  # of arcface; the others take theirs from the number of classes
    margin: float = 0.2  # of arcface
    adaptive_scale: bool = False  # of adacos and adaproj: set anew before each step
    attribute_weight: float = 1.0
    domain_weight: float = 1.0
    domain_classes: str = "machine"  # machine: source and target of every machine apart | domain: two classes


@dataclass
class SubtractionConfig:
    """The far microphone as a noise reference: how the residual is made of two channels (frontends/farfield.py)."""

    method: str = "least_squares"  # least_squares | magnitude | scaled_magnitude
    n_fft: int = 1024  # samples of the window
    hop: int = 0  # samples; 0: half the window
    taps: int = 1  # frames of the far channel that explain a frame of the near one
    stretch: float = 0.0  # seconds around a frame whose frames decide on its gain; 0: the whole clip
    balance: float = 0.0  # exponent of the far power by which frames weigh less: 0 loud ones decide, 1 all count alike
    coherence: bool = False  # subtract as much less as the far channel explains less


@dataclass
class SpectrumConfig:
    """Statistics of a log-mel spectrogram over time, in the place of an encoder; nothing is learned."""

    n_fft: int = 1024
    hop: int = 512
    bands: int = 128
    filterbank: str = "mel"  # mel (Slaney's) | even
    statistic: str = "mean"  # mean | quantile, over time: a low one hears the machine between the noises
    level: float = 0.1  # of the quantile
    merge: int = 1  # neighbouring bands whose statistics are averaged: fewer numbers for few references


@dataclass
class PseudoConfig:
    """Attributes for machines that have none: clusters of their normal training clips, first input, before
    adaptation."""

    clusters: int = 0  # of a machine's section, at most half its clips; 0: such machines stay without attributes
    method: str = "ward"  # ward | kmeans
    by: str = "frozen"  # frozen: pooled tokens of the branch's encoder | spectrum: mean over time of what it hears


@dataclass
class ScorerConfig:
    """Distance of an embedding to the normal references."""

    name: str = "mahalanobis"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class AutoencoderConfig:
    """The official autoencoder baseline (DCASE 2023-2026), in the place of an encoder: one network for each machine,
    the near channel alone."""

    frames: int = 5  # neighbouring log-mel frames of a vector
    hidden: list[int] = field(default_factory=lambda: [128] * 4)  # to the bottleneck, and in reverse out of it
    bottleneck: int = 8
    batch_norm: bool = True
    epochs: int = 100
    batch: int = 256  # vectors
    learning_rate: float = 1e-3
    validation: float = 0.1  # share of the vectors held out; their loss decides nothing
    # What a clip is described by: mse, one number | mahalanobis, the distances by both domains' covariances | residual,
    # its mean residual, a number for each band. The first two need the scorer "precomputed".
    score: str = "mse"
    # Networks of which each leaves a part of the clips out and describes that part alone; the test clips are described
    # by one that learned from all. 0: that one describes the references too, which it knows (as official).
    folds: int = 0


@dataclass
class _Branch:
    """What all kinds of branches have."""

    kind: str = ""
    scorer: ScorerConfig = field(default_factory=ScorerConfig)

    @property
    def readout_name(self) -> str:
        """How the names of the files of its embeddings begin."""
        return ""


@dataclass
class _Inputs:
    """The channels that a branch hears."""

    # One or two channels that are heard, each near | far | residual: the near one less what the far one explains of it.
    # A mono recording is all three.
    inputs: list[str] = field(default_factory=lambda: ["near", "far"])
    subtraction: SubtractionConfig = field(default_factory=SubtractionConfig)


@dataclass
class _Readout:
    """How embeddings are taken from an adapted encoder."""

    # What of the network is the embedding: the trained projection, or the tokens pooled so, bands kept apart.
    readout: str = "projection"  # projection | mean | band | cls | gem | rdp
    readout_power: float = 0.0  # exponent of gem and rdp; 0: 3 and 4

    @property
    def readout_name(self) -> str:
        """How the names of the files of its embeddings begin; empty for the projection."""
        if self.readout == "projection":
            return ""
        return self.readout + (f"{self.readout_power:g}" if self.readout_power else "")


@dataclass
class EncoderBranch(_Readout, _Inputs, _Branch):
    """An adapted encoder with its scorer."""

    kind: Literal["encoder"] = "encoder"
    encoder: EncoderConfig | None = None  # None: the encoder of the pre-training stage
    depth: int = 0  # blocks to run, 0 for all
    pool: str = "band"  # mean | band | cls | attentive | gem | rdp
    pool_power: float = 0.0  # exponent of gem and rdp; 0: 3 and 4
    embedding_dim: int = 256
    gate_bias: float = 1.0
    tune: str = "lora"  # of the encoder: lora | full: its own weights | frozen; pooling, gate, projection always train
    encoder_learning_rate: float = 1.0  # of the encoder's own weights (tune full), as a share of loop.learning_rate
    learn_from: str = "all"  # training clips that adaptation sees: all | source
    crop_seconds: float = 4.0
    target_share: float = 0.25  # of the clips of a batch drawn from the target domain
    lora: LoraConfig = field(default_factory=LoraConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    heads: HeadConfig = field(default_factory=HeadConfig)
    pseudo_attributes: PseudoConfig = field(default_factory=PseudoConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass
class SpectrumBranch(_Inputs, _Branch):
    """Statistics of a spectrogram with their scorer."""

    kind: Literal["spectrum"] = "spectrum"
    spectrum: SpectrumConfig = field(default_factory=SpectrumConfig)


@dataclass
class AutoencoderBranch(_Branch):
    """An autoencoder for each machine, with a scorer."""

    kind: Literal["autoencoder"] = "autoencoder"
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)


@dataclass
class SharedBranch(_Readout, _Branch):
    """A scorer on the embeddings of another branch."""

    kind: Literal["shared"] = "shared"
    shares: str = ""  # the branch whose network or spectrum is used


Branch = EncoderBranch | SpectrumBranch | AutoencoderBranch | SharedBranch
BRANCHES: dict[str, type[Branch]] = {
    "encoder": EncoderBranch,
    "spectrum": SpectrumBranch,
    "autoencoder": AutoencoderBranch,
    "shared": SharedBranch,
}


@dataclass
class SystemConfig:
    """One of at most four systems of a submission."""

    name: str = ""
    abbreviation: str = ""
    view: str = "two_channel"  # two_channel | near_only, at inference
    weights: dict[str, float] = field(default_factory=dict)  # of the branches
    # references: quantile of their scores, domains weighing the same | batches: of a gamma distribution fitted to the
    # training batches' mean losses, as in the official baseline, for one autoencoder branch; many false alarms
    threshold: str = "references"
    # sum: weighted, of the branches' z-scores | minimum: of those with a weight above zero, whose weights must be equal
    fusion: str = "sum"

    @property
    def branches(self) -> list[str]:
        """Names of the branches that count: those with a weight above zero."""
        return [name for name, weight in self.weights.items() if weight > 0]


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
class ScopeConfig:
    """Recordings that are learned from and tested together."""

    machines: list[str] = field(default_factory=list)  # as the manifest names them
    sections: list[str] = field(default_factory=list)  # of these machines; empty: all


@dataclass
class StudyModelConfig:
    """A published encoder, frozen and fine-tuned (MIMII paper, section IV; "ours" marks what it does not say)."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    mode: str = "official"  # of the encoder
    supervised: bool = True  # false: frozen embeddings alone
    trained_layers: int = 3  # below the head, each at 1 / decay of the rate of the one above; the rest is frozen (ours)
    decay: float = 10.0
    learning_rate: float = 1e-3  # of the head, Adam
    epochs: int = 1
    batch_size: int = 8  # ours
    balance: str = "none"  # weight: anomalous clips count as much as normal ones, together
    save_every: int = 50  # steps; a killed run goes on from the last one


def _mimii_autoencoder() -> AutoencoderConfig:
    """The autoencoder that came with MIMII, with the batches of its program; whole clips are held out, not vectors."""
    return AutoencoderConfig(hidden=[64, 64], batch_norm=False, epochs=50, batch=512, validation=0.0)


@dataclass
class StudyLofConfig:
    """Local outlier factor of frozen embeddings."""

    neighbours: int = 4
    contaminations: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4])  # each has a vote


@dataclass
class StudyConfig:
    """Supervised and unsupervised detection side by side (MIMII paper)."""

    scopes: dict[str, ScopeConfig] = field(default_factory=dict)
    models: dict[str, StudyModelConfig] = field(default_factory=dict)
    test: float = 0.25  # share of the recordings of each machine, section and label
    validation: float = 0.1  # of the rest
    grouped: bool = False  # keep recordings of one group on one side
    channel: int = -1  # that is heard; -1: the mean of all
    autoencoder: AutoencoderConfig = field(default_factory=_mimii_autoencoder)
    lof: StudyLofConfig = field(default_factory=StudyLofConfig)


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
    branches: dict[str, Branch] = field(default_factory=dict)
    systems: list[SystemConfig] = field(default_factory=list)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    package: PackageConfig = field(default_factory=PackageConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
