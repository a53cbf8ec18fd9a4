"""Keys of a branch: each kind has its own settings."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from system.config.keys import File, Natural, NonNegative, Positive, Share, Value, key
from system.config.reading import none_if_null
from system.config.training import LoopConfig

PRECOMPUTED = "precomputed"  # the scorer for branches whose embeddings are scores already
FRAMES = "frames"  # the statistic whose rows are frames, and the scorer for them

Simam = Literal["none", "global", "local"]
Pool = Literal["mean", "band", "cls", "attentive", "gem", "rdp"]
Channel = Literal["near", "far", "residual"]
Filterbank = Literal["mel", "even"]
Statistic = Literal[
    "mean", "quantile", "power_mean", "deviation", "crest", "change", "modulation", "kurtosis", "frames"
]
SIMAM: tuple[str, ...] = get_args(Simam)
POOLS: tuple[str, ...] = get_args(Pool)
WEIGHTED = ("mean", "power_mean", "deviation", "change")  # statistics whose frames may have weights
CHANNELS: tuple[str, ...] = get_args(Channel)


@dataclass
class EncoderConfig:
    """A network and the weights that it starts from."""

    family: str = key("fisher", "Architecture: fisher, echo, beats, eat, audiomae, ast, cnn, mn, or one of a plug-in")
    size: str = key("nano", "Size of the architecture")
    checkpoint: File = key("", "Weights: a file, or a name of wheeltapper download-checkpoint; empty: random weights")
    heads: Natural = key(0, "Attention heads, if the checkpoint does not tell; 0: width / 64, at least two")
    filterbank: Filterbank = key("mel", "Spacing of the filters, for families with a Mel filter bank: mel or even")
    simam: Literal[Simam, "auto"] = key(
        "none",
        "SimAM enhancement of the spectrogram: as a whole (global) or in patches of 32 x 32 (local); auto chooses for "
        "each machine by its normal clips",
    )
    noise_aware: File = key(
        "",
        "Noise-aware layers, a file, for inputs near and far of fisher, eat and beats: near attends to far after every "
        "block, instead of the gate. A mono recording passes the plain encoder. Only in branches.NAME.encoder",
    )
    simam_machines: dict[str, Simam] = key(dict, "SimAM of machines chosen by hand; overrides simam")

    @property
    def per_machine(self) -> bool:
        """Whether the front end differs between machines."""
        return self.simam == "auto" or bool(self.simam_machines)


@dataclass
class LoraConfig:
    """Low-rank adaptation (Wang and Liu 2026, section 3.3)."""

    rank: Positive = key(8, "Rank of the update of a layer")
    alpha: int = key(16, "Scale: updates are multiplied by alpha / rank")
    dropout: Share = key(0.1, "Dropout before the low-rank layers")
    targets: list[str] = key(list, "Names of the adapted layers; empty: those of the encoder family")


@dataclass
class AugmentConfig:
    """Waveform and spectrogram augmentation (Wang and Liu 2026, section 3.4; strengths are ours, it names none)."""

    channel_swap: Share = key(0.1, "Probability that the two channels are swapped")
    channel_drop: Share = key(0.1, "Probability that one of the two channels is silenced")
    gain_db: NonNegative = key(3.0, "Each channel is scaled by a uniform random gain of at most this many dB")
    mixup: Share = key(0.0, "Probability that a clip is mixed with another one, and their losses alike")
    mixup_alpha: Annotated[float, Field(ge=0.01)] = key(
        0.5, "Both parameters of the beta distribution of mixing weights"
    )
    time_mask: Natural = key(0, "SpecAugment: longest masked stretch in frames; 0 turns it off")
    frequency_mask: Natural = key(0, "SpecAugment: widest masked stretch in frequency bins; 0 turns it off")


@dataclass
class HeadConfig:
    """Classification heads: ArcFace (Wang and Liu 2026, section 3.5; scale and margin are ours), AdaCos or AdaProj."""

    kind: Literal["arcface", "adacos", "adaproj"] = key(
        "arcface", "arcface: angular margin; adacos: sub-cluster AdaCos; adaproj: projection onto sub-spaces of classes"
    )
    subclusters: Positive = key(1, "Centres of each class; published: 16 for adacos, 32 for adaproj")
    trainable_centres: bool = key(True, "Whether centres are trained; published for adacos and adaproj: both")
    scale: Annotated[float, Field(ge=0.01)] = key(
        16.0, "Scale of the logits of arcface; the others derive theirs from the number of classes"
    )
    margin: Annotated[float, Field(ge=0, le=math.pi)] = key(0.2, "Angular margin of arcface in radians")
    adaptive_scale: bool = key(False, "Whether adacos and adaproj set their scale anew before each step")
    attribute_weight: NonNegative = key(1.0, "Weight of the loss of the attribute classes")
    domain_weight: NonNegative = key(1.0, "Weight of the loss of the domain classes")
    domain_classes: Literal["machine", "domain"] = key(
        "machine", "Domain classes: source and target of every machine (machine), or two in all (domain)"
    )


@dataclass
class SubtractionConfig:
    """Subtraction of the far microphone as a noise reference, for the input residual (frontends/farfield.py)."""

    method: Literal["least_squares", "magnitude", "scaled_magnitude"] = key(
        "least_squares",
        "least_squares: complex gains for each frequency; magnitude: far magnitudes as they are; scaled_magnitude: far "
        "magnitudes with a gain",
    )
    n_fft: Annotated[int, Field(ge=16)] = key(1024, "Window length in samples, an even number")
    hop: Natural = key(0, "Window step in samples, at most half the window; 0: half the window")
    taps: Positive = key(1, "Far frames that explain a near frame; least_squares only")
    stretch: NonNegative = key(
        0.0, "Seconds around a frame from which its gain is estimated; 0: the whole clip; not for magnitude"
    )
    balance: Share = key(
        0.0,
        "Frames are weighted by far power to the power of -balance: 0, loud frames dominate; 1, all frames count "
        "equally; least_squares only",
    )
    coherence: bool = key(False, "Whether less is subtracted where the far channel explains less; least_squares only")


@dataclass
class SpectrumConfig:
    """Statistics of a log spectrogram over time, without training (frontends/spectrum.py)."""

    n_fft: Annotated[int, Field(ge=16)] = key(1024, "Window length in samples")
    hop: Positive = key(512, "Window step in samples")
    bands: Positive = key(128, "Number of filters")
    filterbank: Literal[Filterbank, "log"] = key(
        "mel",
        "Spacing of the filters: mel (Slaney's), even (in Hz), or log (in octaves; each filter is a mean of powers, "
        "and one narrower than a frequency bin interpolates between two bins)",
    )
    low_hz: NonNegative = key(0.0, "Lower edge of the filters in Hz; 0: 0 for mel, 20 for even and log")
    high_hz: NonNegative = key(
        0.0, "Upper edge of the filters in Hz; 0: half the sampling rate, and so is what lies above it"
    )
    statistic: Statistic = key(
        "mean",
        "Statistic over time. Of levels in dB: mean; quantile, a low one of which describes the machine in the pauses "
        "of the noise; deviation; change, the deviation of frame differences. Of powers: power_mean; crest, the "
        "maximum less power_mean in dB; kurtosis, in dB; modulation, the spectrum of each band's envelope. frames: no "
        "statistic but the levels of segments, for the scorer frames",
    )
    level: Share = key(0.1, "Level of the quantile")
    exponent: Annotated[float, Field(ge=-8, le=8)] = key(
        1.0,
        "Exponent of the powers in power_mean, not 0: 2 emphasises loud moments, 0.5 averages magnitudes, -1 "
        "emphasises quiet moments",
    )
    weight: Literal["equal", "far"] = key(
        "equal",
        "Weights of the frames: equal; or far, the inverse of the far microphone's power in each band, so that the "
        "pauses of the noise count most (a mono recording has equal weights); for mean, power_mean, deviation and "
        "change",
    )
    order: Literal["bands_first", "statistic_first"] = key(
        "bands_first",
        "Whether the statistic is that of the bands, or each band combines the statistics of its frequency bins; the "
        "latter for mean, quantile and power_mean",
    )
    remove_level: bool = key(
        False, "Whether the mean over bands is subtracted; for mean, quantile, power_mean and frames"
    )
    merge: Positive = key(
        1, "Neighbouring bands whose statistics (of modulation: powers) are averaged; must divide bands"
    )
    modulation_bands: Positive = key(
        6, "Log-spaced bands of modulation frequencies, from 0.5 Hz to half the frame rate; statistic modulation only"
    )
    segments: Positive = key(
        100, "Segments of equal length that a clip is divided into, of whatever length it is; statistic frames only"
    )

    @property
    def usual_low_hz(self) -> float:
        """Lower edge of the filters in Hz where ``low_hz`` leaves it open."""
        return self.low_hz or (0.0 if self.filterbank == "mel" else 20.0)

    @property
    def row_size(self) -> int:
        """Numbers by which a channel of a clip is described."""
        each = {"modulation": self.modulation_bands, FRAMES: self.segments}.get(self.statistic, 1)
        return self.bands // self.merge * each

    def problems(self) -> Iterator[str]:
        """Settings that do not go together, one sentence each, the key first."""
        levels = ("mean", "quantile", "power_mean")
        if self.bands % self.merge:
            yield f"merge: expected a divisor of {self.bands} bands, found {self.merge}"
        if self.high_hz and self.usual_low_hz >= self.high_hz:
            yield f"high_hz: expected above {self.usual_low_hz:g} Hz, the lower edge, found {self.high_hz:g}"
        if self.order == "statistic_first" and self.statistic not in levels:
            yield f"order: expected bands_first with statistic {self.statistic}, found statistic_first"
        if self.weight == "far" and self.statistic not in WEIGHTED:
            yield f"weight: expected equal with statistic {self.statistic}, found far"
        if self.order == "statistic_first" and (self.weight == "far" or self.exponent != 1.0):
            yield "order: expected bands_first with weight far or an exponent other than 1, found statistic_first"
        if not self.exponent:
            yield "exponent: expected another number than 0, whose limit is statistic mean, found 0"
        if self.exponent != 1.0 and self.statistic != "power_mean":
            yield f"exponent: expected 1 with statistic {self.statistic}, found {self.exponent:g}"
        if self.remove_level and self.statistic not in (*levels, FRAMES):
            yield f"remove_level: expected false with statistic {self.statistic}, which no gain changes, found true"


@dataclass
class PseudoConfig:
    """Pseudo-attributes of machines without attributes: clusters of their normal training clips before adaptation."""

    clusters: Natural = key(0, "Clusters of a machine's section, at most half its clips; 0 turns pseudo-attributes off")
    method: Literal["kmeans", "ward"] = key("ward", "Clustering: k-means, or agglomerative by Ward's criterion")
    by: Literal["frozen", "spectrum"] = key(
        "frozen", "Features: pooled tokens of the frozen encoder, or the mean over time of the spectrogram; first input"
    )


@dataclass
class ScorerConfig:
    """Distance of an embedding to the normal references."""

    name: str = key("mahalanobis", "Name of the scorer")
    settings: dict[str, Value] = key(dict, "Settings of the scorer, listed below for each scorer")


@dataclass
class AutoencoderConfig:
    """The official autoencoder baseline (DCASE 2023-2026) on the near channel, with one network for each machine."""

    frames: Positive = key(5, "Neighbouring log-Mel frames of an input vector")
    hidden: list[Positive] = key([128] * 4, "Widths of the layers before the bottleneck, reversed after it")
    bottleneck: Positive = key(8, "Width of the bottleneck")
    batch_norm: bool = key(True, "Whether layers have batch normalisation")
    epochs: Positive = key(100, "Passes over the training vectors")
    batch: Annotated[int, Field(ge=2)] = key(256, "Vectors of one update")
    learning_rate: NonNegative = key(1e-3, "Learning rate of Adam")
    validation: Annotated[float, Field(ge=0, le=0.9)] = key(
        0.1, "Share of the vectors held out; their loss is reported and decides nothing"
    )
    score: Literal["mse", "mahalanobis", "residual"] = key(
        "mse",
        "Description of a clip: mse, its mean squared error; mahalanobis, its distances by the covariances of both "
        "domains; residual, its mean residual in each band. mse and mahalanobis need the scorer precomputed",
    )
    folds: Natural = key(
        0,
        "Networks for cross-fitting, each of which describes the references that it was not trained on (2 or more); "
        "0: references are described by the network that was trained on them, as in the official baseline",
    )


@dataclass
class _Branch:
    """What all kinds of branches have."""

    kind: str = key("", "Kind of the branch")
    scorer: ScorerConfig = key(ScorerConfig, "Scorer of the branch")

    @property
    def readout_name(self) -> str:
        """How the names of the files of its embeddings begin."""
        return ""


@dataclass
class _Inputs:
    """Channels that a branch uses."""

    inputs: list[Channel] = key(
        ["near", "far"], "One or two channels; residual is near with far subtracted. A mono recording is used as each"
    )
    subtraction: SubtractionConfig = key(SubtractionConfig, "How residual is made")


@dataclass
class _Readout:
    """How embeddings are taken from an adapted encoder."""

    readout: Literal["projection", "mean", "band", "cls", "gem", "rdp"] = key(
        "projection",
        "Layer whose output is the embedding: the trained projection, or tokens pooled with bands kept apart",
    )
    readout_power: NonNegative = key(0.0, "Exponent of the readouts gem and rdp; 0: 3 and 4")

    @property
    def readout_name(self) -> str:
        """How the names of the files of its embeddings begin; empty for the projection."""
        if self.readout == "projection":
            return ""
        return self.readout + (f"{self.readout_power:g}" if self.readout_power else "")


@dataclass
class EncoderBranchConfig(_Readout, _Inputs, _Branch):
    """An encoder adapted to the normal clips, and its scorer."""

    kind: Literal["encoder"] = key("encoder", "Kind of the branch; may be left out")
    encoder: Annotated[EncoderConfig | None, BeforeValidator(none_if_null)] = key(
        None, "Encoder of the branch; null: the encoder of the pre-training stage"
    )
    depth: Natural = key(0, "Number of encoder blocks to run; 0: all")
    pool: Pool = key(
        "band",
        "Pooling of tokens before the projection: mean, over time and bands; band, the mean over time of each band; "
        "cls, the summary token; attentive statistics; gem, generalised mean; rdp, relative deviation pooling",
    )
    pool_power: NonNegative = key(0.0, "Exponent of gem and rdp; 0: 3 and 4")
    embedding_dim: Positive = key(256, "Size of the embedding")
    gate_bias: float = key(1.0, "Initial bias of the gate between two inputs; 1 gives the first one a weight of 73 %")
    tune: Literal["lora", "full", "frozen"] = key(
        "lora",
        "Training of the encoder's weights: lora, full or frozen; pooling, gate and projection are always trained",
    )
    encoder_learning_rate: NonNegative = key(
        1.0, "Learning rate of the encoder's own weights (tune: full) as a share of loop.learning_rate"
    )
    learn_from: Literal["all", "source"] = key(
        "all", "Training clips for adaptation: all, or those of the source domain"
    )
    crop_seconds: Annotated[float, Field(ge=0.01, le=3600)] = key(4.0, "Length of the random crop of a clip in seconds")
    target_share: Share = key(0.25, "Probability that a clip of a batch is drawn from the target domain")
    lora: LoraConfig = key(LoraConfig, "Low-rank adapters (tune: lora)")
    augment: AugmentConfig = key(AugmentConfig, "Augmentation")
    heads: HeadConfig = key(HeadConfig, "Classification heads")
    pseudo_attributes: PseudoConfig = key(PseudoConfig, "Attributes for machines that have none")
    loop: LoopConfig = key(LoopConfig, "Optimisation")


@dataclass
class SpectrumBranchConfig(_Inputs, _Branch):
    """Statistics of a spectrogram, and their scorer."""

    kind: Literal["spectrum"] = key("spectrum", "Kind of the branch; may be left out if there is a key spectrum")
    spectrum: SpectrumConfig = key(SpectrumConfig, "Statistics of the spectrogram")


@dataclass
class AutoencoderBranchConfig(_Branch):
    """An autoencoder for each machine, and a scorer."""

    kind: Literal["autoencoder"] = key(
        "autoencoder", "Kind of the branch; may be left out if there is a key autoencoder"
    )
    autoencoder: AutoencoderConfig = key(AutoencoderConfig, "Autoencoder")


@dataclass
class SharedBranchConfig(_Readout, _Branch):
    """Another scorer on the network or the spectrum of another branch."""

    kind: Literal["shared"] = key("shared", "Kind of the branch; may be left out if there is a key shares")
    shares: str = key("", "Name of the branch whose network or spectrum is used")


BranchConfig = EncoderBranchConfig | SpectrumBranchConfig | AutoencoderBranchConfig | SharedBranchConfig
BRANCHES: dict[str, type[BranchConfig]] = {
    "encoder": EncoderBranchConfig,
    "spectrum": SpectrumBranchConfig,
    "autoencoder": AutoencoderBranchConfig,
    "shared": SharedBranchConfig,
}
