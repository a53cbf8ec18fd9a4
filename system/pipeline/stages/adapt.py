"""Stage 2: adapt each branch to the normal clips of the run's machines."""

from collections.abc import Iterable
from pathlib import Path

from system import manifest, windows
from system.corpora.sound_settings import common_rate
from system.experiment import Experiment
from system.pipeline import resources
from system.pipeline.branches import network_branches
from system.pipeline.branches.encoder import EncoderBranch
from system.stage import Stage


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    config, branches, clips = run.config, network_branches(run), resources.training_clips(run)
    settings = {
        "branches": {branch.name: branch.training_settings() for branch in branches},
        "front_ends": {each.name: each.front_end() for each in branches if isinstance(each, EncoderBranch)},
        "rate": config.data.rate,
        "seed": config.seed,
        "clips": manifest.fingerprint(clips),
        **windows.settings(clips, config.data),
    }
    reads = [run.encoder] if run.has_encoder else []
    own = {resources.weights_role(name): branch.encoder for name, branch in run.encoder_branches.items()}
    given = resources.given_weights(run, own)
    return run.stage("adapt", settings, reads, owns=["adapt"], partly=[run.manifest], given=given)


def work(run: Experiment) -> Iterable[Path]:
    """Trains what the branches learn; returns the files written."""
    device = resources.prepare_torch(run)
    clips = resources.training_clips(run)
    rate = run.config.data.rate or common_rate(clips)
    written: list[Path] = []
    for branch in network_branches(run):
        written += branch.adapt(clips, rate, device)
    return written
