"""What stages take from the configuration: the device, threads, encoders with their weights, training clips."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from system import manifest
from system.config import CHECKPOINTS, EncoderConfig
from system.encoders.cards import checkpoint_file, checkpoint_files
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import file_hash
from system.machine import choose_device, threads
from system.manifest import Clip

if TYPE_CHECKING:
    from system.encoders.base import Encoder


def prepare_torch(run: Experiment) -> str:
    """Sets the number of torch's threads and returns the device that ``device`` of the configuration stands for here.

    Raises:
        WheeltapperError: this machine has no such device.
    """
    import torch

    torch.set_num_threads(threads(run.config.threads))
    return choose_device(run.config.device)


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

    network = run.network_branch(branch)
    own = run.encoder_branches[network].encoder
    if own:
        return load_encoder(for_all_machines(own), run.config.seed, _adapted_weights(run, network, own))
    return load_encoder(for_all_machines(run.config.encoder), run.config.seed, run.encoder)


def weights_role(branch: str) -> str:
    """Role of the weights of a branch's own encoder among the inputs of stage 2."""
    return f"branches.{branch}.encoder"


def given_weights(run: Experiment, encoders: Mapping[str, EncoderConfig | None]) -> dict[str, Callable[[], Path]]:
    """What finds the checkpoints that encoders name, by role (``Stage.given``)."""
    folder = run.config.data.folder
    found: dict[str, Callable[[], Path]] = {}
    for role, encoder in encoders.items():
        if encoder and encoder.checkpoint:
            found[role] = partial(_checkpoint, encoder, folder)
            with contextlib.suppress(WheeltapperError):  # a missing one is reported under its first role
                found |= {f"{role}, {part.name}": partial(Path, part) for part in checkpoint_files(encoder, folder)[1:]}
            if encoder.noise_aware:
                found[f"{role}.noise_aware"] = partial(Path, encoder.noise_aware)
    return found


def _checkpoint(encoder: EncoderConfig, folder: str) -> Path:
    file = checkpoint_file(encoder, folder)
    assert file is not None  # the encoder names one
    return file


def _adapted_weights(run: Experiment, branch: str, encoder: EncoderConfig) -> Path | None:
    """The checkpoint that a branch was adapted from: where the configuration says or, once stage 2 is complete, a file
    of the same content among the downloaded ones."""
    try:
        return checkpoint_file(encoder, run.config.data.folder)
    except WheeltapperError:
        known = run.recorded("adapt", "given").get(weights_role(branch))
        if not known:
            raise
    place, digest = Path(known["file"]), known["sha256"]
    folder = Path(run.config.data.folder) / CHECKPOINTS
    for path in _candidates(place, folder):
        if path.is_file() and file_hash(path) == digest:
            return path
    raise WheeltapperError(
        f"{weights_role(branch)}: expected the weights that branch {branch} was adapted from (SHA-256 {digest}), found "
        f"them neither at {place} nor in {folder}; put them there as {place.name}"
    )


def _candidates(place: Path, folder: Path) -> Iterator[Path]:
    yield place
    yield folder / place.name
    if folder.is_dir():
        yield from sorted(folder.iterdir())


def for_all_machines(config: EncoderConfig) -> EncoderConfig:
    """An encoder's settings without SimAM where SimAM differs between machines: the branch applies it then."""
    return replace(config, simam="none", simam_machines={}) if config.per_machine else config
