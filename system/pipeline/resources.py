"""What stages take from the configuration: the device, threads, encoders with their weights, training clips."""

from dataclasses import replace
from typing import TYPE_CHECKING

from system import manifest
from system.config import EncoderConfig
from system.encoders.cards import checkpoint_file
from system.experiment import Experiment
from system.machine import check_device, threads
from system.manifest import Clip

if TYPE_CHECKING:
    from system.encoders.base import Encoder


def prepare_torch(run: Experiment) -> str:
    """Sets the number of torch's threads and returns the device.

    Raises:
        WheeltapperError: this machine has no such device.
    """
    import torch

    torch.set_num_threads(threads(run.config.threads))
    check_device(run.config.device)
    return run.config.device


def training_clips(run: Experiment) -> list[Clip]:
    """Training clips of the manifest. Stages that learn depend on these alone, not on the test clips."""
    return [clip for clip in manifest.read(run.manifest) if clip.split == "train"]


def configured_encoder(run: Experiment, config: EncoderConfig) -> "Encoder":
    """The encoder that a configuration describes, with the weights of its checkpoint or random ones."""
    from system.encoders import load_encoder

    return load_encoder(for_all_machines(config), run.config.seed, checkpoint_file(config, run.config.data.folder))


def base_encoder(run: Experiment, branch: str) -> "Encoder":
    """The encoder that a branch adapts: its own, or the one that the pre-training stage left."""
    from system.encoders import load_encoder

    own = run.encoder_branches[run.network_branch(branch)].encoder
    if own:
        return configured_encoder(run, own)
    return load_encoder(for_all_machines(run.config.encoder), run.config.seed, run.encoder)


def for_all_machines(config: EncoderConfig) -> EncoderConfig:
    """An encoder's settings without SimAM where SimAM differs between machines: the branch applies it then."""
    return replace(config, simam="none", simam_machines={}) if config.per_machine else config
