"""Stage 2: adapt each branch to the normal clips of the run's machines."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from system import manifest
from system.encoders.cards import checkpoint_files
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.manifest import Clip
from system.pipeline import resources
from system.pipeline.branches import network_branches
from system.pipeline.branches.encoder import EncoderBranch
from system.stage import Stage


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    config, branches = run.config, network_branches(run)
    settings = {
        "branches": {branch.name: branch.training_settings() for branch in branches},
        "front_ends": {each.name: each.front_end() for each in branches if isinstance(each, EncoderBranch)},
        "rate": config.data.rate,
        "seed": config.seed,
        "clips": manifest.fingerprint(resources.training_clips(run)),
    }
    encoders = [branch.encoder for branch in run.encoder_branches.values()]
    own = [file for encoder in encoders if encoder for file in checkpoint_files(encoder, config.data.folder)]
    reads = [*([run.encoder] if run.has_encoder else []), *own]
    return run.stage("adapt", settings, reads, owns=["adapt"], partly=[run.manifest])


def work(run: Experiment) -> Iterable[Path]:
    """Trains what the branches learn; returns the files written."""
    resources.prepare_torch(run)
    clips = resources.training_clips(run)
    rate = run.config.data.rate or _common_rate(clips)
    written: list[Path] = []
    for branch in network_branches(run):
        written += branch.adapt(clips, rate)
    return written


def _common_rate(clips: Sequence[Clip]) -> int:
    rates = sorted({clip.rate for clip in clips})
    if len(rates) > 1:
        raise WheeltapperError(f"data.rate is 0 (as recorded): expected one rate in all recordings, found {rates} Hz")
    return rates[0]
