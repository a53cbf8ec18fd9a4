"""Settings of the training loop and of pre-training.

Defaults of pre-training are those published for FISHER, and where it says nothing those of EAT, on which it builds;
recipes/pretrain/conf has the others. "ours" marks what no source gives.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from system.config.keys import File, Natural, NonNegative, Positive, Share, key


@dataclass
class LoopConfig:
    """Optimisation, shared by pre-training and adaptation."""

    steps: Natural = key(300, "Number of updates; 0 skips the training")
    batch_size: Positive = key(8, "Clips of one update, over all processes")
    accumulate: Positive = key(
        1, "Parts in which a process computes its share of a batch; the result is the same to rounding (losses to 1e-6)"
    )
    learning_rate: NonNegative = key(5e-4, "Peak learning rate of AdamW")
    final_learning_rate: NonNegative = key(1e-6, "Learning rate at the end of the cosine schedule")
    warmup_steps: Natural = key(30, "Updates over which the learning rate rises linearly to its peak")
    weight_decay: NonNegative = key(0.05, "Weight decay of AdamW; not applied to biases, norms and other vectors")
    betas: list[float] = key([0.9, 0.95], "The two decay rates of AdamW's moments, each from 0 to below 1")
    clip_norm: Annotated[float, Field(ge=0.01)] = key(4.0, "Largest norm of the gradients; larger ones are scaled down")
    precision: Literal["auto", "no", "tf32", "bf16", "fp16"] = key(
        "auto",
        "Arithmetic of training: no is float32, tf32 and fp16 need a GPU; auto: bf16 on a GPU that has it, else tf32, "
        "and no on a CPU, so that a run does not depend on the processor (with instructions for bf16 it takes 0.6 to "
        "0.8 of the time); a training that was begun keeps to what it began with",
    )
    checkpointing: Literal["auto", "on", "off"] = key(
        "auto",
        "Gradient checkpointing: the encoder's blocks keep their input alone and compute the rest again for the "
        "gradient, which is the same; auto: the blocks whose activations free memory does not hold",
    )
    workers: Natural = key(
        0, "Threads of a process that prepare batches, workers + 1 batches ahead; 0: from the cores of this machine"
    )
    log_every: Positive = key(10, "Steps between two rows of curve.csv")
    save_every: Positive = key(50, "Steps between two saved states; a killed run continues from the last one")


@dataclass
class MaskConfig:
    """Masking of the patches that the student sees."""

    ratio: Share = key(0.8, "Share of patches hidden from the student (FISHER, EAT); ECHO's released settings: 0.75")
    adjust: Share = key(0.07, "Extra share of block centres (EAT)")
    block: Positive = key(5, "Side of a visible block in patches (EAT)")
    clones: Positive = key(16, "Largest number of masks for each sub-band (EAT)")
    max_bands: Positive = key(
        64, "Largest number of sub-bands of one clip, clones counted (FISHER's code); with echo of one of most_bands"
    )
    noise_std: NonNegative = key(
        0.01, "Standard deviation of the noise that fills hidden patches before the decoder (EAT)"
    )


@dataclass
class DecoderConfig:
    """Shallow CNN between the student's tokens and the patch targets (sizes: FISHER's code; EAT: 768, 6, 3)."""

    dim: Positive = key(384, "Channels; a multiple of groups")
    layers: Positive = key(5, "Convolutions")
    kernel: Positive = key(5, "Side of the convolution kernels, an odd number")
    groups: Positive = key(16, "Groups of the convolutions; must divide dim")


@dataclass
class TargetConfig:
    """What the student learns to predict of the teacher."""

    layers: Literal["mlp", "block"] = key(
        "mlp",
        "Output of a teacher block that is a target: mlp, of its MLP before the residual connection (EAT); block, of "
        "the whole block",
    )
    norm: Literal["instance", "layer", "whitened"] = key(
        "instance",
        "Normalisation of each layer: instance, over the tokens (EAT); layer, over the channels; whitened, over the "
        "corpus (ours)",
    )
    band: Literal["mean", "positions", "whitened"] = key(
        "mean", "Target of the CLS token: mean of the patch targets (EAT); positions and whitened are ours"
    )
    floor: Annotated[float, Field(gt=0)] = key(
        0.1, "Whitening: share of the mean variance that is added to the variance of each direction"
    )


@dataclass
class SourceConfig:
    """Recordings to learn from."""

    path: File = key("", "manifest.csv or a folder of shards")
    weight: NonNegative = key(0.0, "Share of the draws; 0 is proportional to the number of clips")


@dataclass
class ProbeConfig:
    """Nearest-neighbour accuracy on a small labelled set during training."""

    every: Natural = key(0, "Steps between two probes; 0 turns them off")
    manifest: File = key("", "Manifest of labelled clips: classes are labels or attributes, folds are sections")
    clips: Annotated[int, Field(ge=2)] = key(400, "Clips drawn from the manifest, the same ones in each probe")


@dataclass
class TeacherConfig:
    """Distillation of a published network beside the self-distillation (ours)."""

    checkpoint: File = key("", "Published weights of the family mn that the student also learns from; empty: none")
    blocks: list[Positive] = key([10, 12], "Blocks of that network whose feature maps are targets")
    weight: NonNegative = key(1.0, "Weight of the loss of the feature maps")
    relation_weight: NonNegative = key(1.0, "Weight of the loss of the distances between the crops of a batch")


@dataclass
class PretrainConfig:
    """Teacher-student self-distillation (FISHER paper, section 3.2; ECHO paper, section 3)."""

    objective: Literal["fisher", "echo"] = key(
        "fisher",
        "Objective and masking: fisher (also for EAT's network) or echo, which so far gained nothing on machines",
    )
    sources: list[SourceConfig] = key(list, "Recordings to learn from; empty: the training clips of the run")
    loop: LoopConfig = key(LoopConfig, "Optimisation")
    mask: MaskConfig = key(MaskConfig, "Masking of patches")
    decoder: DecoderConfig = key(DecoderConfig, "Decoder of the student")
    target: TargetConfig = key(TargetConfig, "Targets of the teacher")
    teacher: TeacherConfig = key(TeacherConfig, "A published network to learn from as well")
    probe: ProbeConfig = key(ProbeConfig, "Accuracy on labelled clips during training")
    band_weight: NonNegative = key(1.0, "Weight of the loss of the CLS token (FISHER paper, eq. 4)")
    patch_weight: NonNegative = key(1.0, "Weight of the loss of the hidden patches")
    gain_db: NonNegative = key(
        0.0, "Standard deviation in dB of the random gain of a sub-band that the student gets (ours); 0 turns it off"
    )
    mix_share: Share = key(
        0.0, "Share of crops that the student gets mixed with another; the moving average does not (ours)"
    )
    copies: Positive = key(
        1, "Crops of each drawn recording in a batch, each at a place and in a mixture of its own; divides batch_size"
    )
    mix_snr: list[float] = key([-5.0, 15.0], "Lowest and highest signal-to-noise ratio of these mixtures in dB")
    fewest_bands: Positive = key(2, "Smallest number of sub-bands drawn from a clip (ECHO's code)")
    most_bands: Positive = key(5, "Largest number of sub-bands drawn from a clip (ECHO's code)")
    crop_seconds: Annotated[float, Field(ge=0.01, le=3600)] = key(3.0, "Length of the random crop of a clip in seconds")
    base_rate: Positive = key(4000, "The sampling rate of each batch is a multiple of this, in Hz")
    min_rate: Positive = key(8000, "Lowest sampling rate of a batch in Hz")
    max_rate: Positive = key(16000, "Highest sampling rate of a batch in Hz")
    front_end: Literal["worker", "device"] = key(
        "worker", "Where crops are resampled and their spectrograms computed: in the loading threads, or on the device"
    )
    ema_start: Share = key(
        0.98, "Decay of the teacher's moving average at the start (EAT: 0.9998; short runs need less)"
    )
    ema_end: Share = key(0.999, "Decay of the teacher's moving average after ema_steps")
    ema_steps: Natural = key(300, "Steps over which the decay rises linearly")
    min_target_std: float = key(0.01, "Training stops as collapsed if the spread of the targets falls below this")
    min_prediction_std: float = key(
        0.001, "Training stops as collapsed if the spread of the predictions falls below this"
    )
