"""Settings of the training loop and of pre-training.

Defaults of pre-training are those published for FISHER, and where it says nothing those of EAT, on which it builds;
recipes/pretrain/conf has the others. "ours" marks what no source gives.
"""

from dataclasses import dataclass, field

PRECISIONS = ("no", "bf16", "fp16")
OBJECTIVES = ("fisher", "echo")
TARGET_LAYERS = ("mlp", "block")
TARGET_NORMS = ("instance", "layer", "whitened")
BAND_TARGETS = ("mean", "positions", "whitened")
FRONT_ENDS = ("worker", "device")
# Settings of LoopConfig that say how a run is computed and watched, not what comes out.
LOOP_FREE = ("accumulate", "workers", "log_every", "save_every")


@dataclass
class LoopConfig:
    """Optimisation, shared by pre-training and adaptation."""

    steps: int = 300
    batch_size: int = 8  # clips of one update, over all processes
    accumulate: int = 1  # parts that a process computes one after another for one update; the result is the same
    learning_rate: float = 5e-4  # peak, AdamW
    final_learning_rate: float = 1e-6  # end of the cosine
    warmup_steps: int = 30
    weight_decay: float = 0.05  # none on biases, norms and other vectors
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    clip_norm: float = 4.0
    precision: str = "no"  # no (fp32) | bf16 | fp16, as accelerate names them
    workers: int = 1  # threads of a process that prepare batches, workers + 1 ahead
    log_every: int = 10  # steps
    save_every: int = 50  # steps; a killed run goes on from the last one


@dataclass
class MaskConfig:
    """Which patches the student does not see."""

    ratio: float = 0.8  # share of patches hidden (FISHER, EAT); ECHO's released settings: 0.75
    adjust: float = 0.07  # EAT: extra share of block centres
    block: int = 5  # EAT: patches, side of a visible block
    clones: int = 16  # EAT: masks per sub-band at most
    max_bands: int = 64  # FISHER's code: sub-bands of one clip and its clones at most (m_b of a batch: times its clips)
    noise_std: float = 0.01  # EAT: of what fills the hidden slots before the decoder


@dataclass
class DecoderConfig:
    """Shallow CNN between the student's tokens and the patch targets (sizes: FISHER's code; EAT: 768, 6, 3)."""

    dim: int = 384
    layers: int = 5
    kernel: int = 5
    groups: int = 16


@dataclass
class TargetConfig:
    """What the student learns to predict of the teacher."""

    layers: str = "mlp"  # of each block: mlp, its MLP's output before the residual (EAT) | block, its output
    # Of each layer: instance, over the tokens (EAT) | layer, over the channels | whitened, over the corpus (ours).
    norm: str = "instance"
    band: str = "mean"  # of the CLS: mean of the patches' targets (EAT) | positions, whitened (ours, distillation.py)
    floor: float = 0.1  # of what is whitened: share of the mean variance that is added to that of each direction


@dataclass
class SourceConfig:
    """Recordings to learn from."""

    path: str = ""  # manifest.csv or a folder of shards
    weight: float = 0.0  # share of the draws; 0: as many as it has clips


@dataclass
class ProbeConfig:
    """Nearest neighbours on a small labelled set, now and then while training."""

    every: int = 0  # steps; 0: never
    manifest: str = ""  # classes: label or attributes; folds: section
    clips: int = 400  # drawn from it, the same ones each time


@dataclass
class PretrainConfig:
    """Teacher-student self-distillation (FISHER paper, section 3.2; ECHO paper, section 3)."""

    objective: str = "fisher"  # fisher (also for EAT's network) | echo
    sources: list[SourceConfig] = field(default_factory=list)  # empty: the training clips of the run
    loop: LoopConfig = field(default_factory=LoopConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    band_weight: float = 1.0  # of the loss of the CLS (FISHER paper, eq. 4)
    patch_weight: float = 1.0
    gain_db: float = 0.0  # ours: deviation of the level at which the student hears a sub-band, against the teacher
    mix_share: float = 0.0  # ours: recordings that the student, not the teacher, hears under another one
    mix_snr: list[float] = field(default_factory=lambda: [-5.0, 15.0])  # dB, from and to
    fewest_bands: int = 2  # ECHO's code: sub-bands of a clip, drawn from fewest to most, each anywhere
    most_bands: int = 5
    crop_seconds: float = 3.0
    base_rate: int = 4000  # Hz; the rate of a batch is a multiple of it
    min_rate: int = 8000
    max_rate: int = 16000
    front_end: str = "worker"  # where crops are resampled and their spectra taken
    ema_start: float = 0.98  # EAT: 0.9998; short runs need a teacher that moves
    ema_end: float = 0.999
    ema_steps: int = 300
    min_target_std: float = 0.01  # below: collapsed, stop
    min_prediction_std: float = 0.001
