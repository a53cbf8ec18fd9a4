"""Stage 2: adapt each branch to the normal clips of the run's machines."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from system import manifest
from system.bin import common
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.pipeline.branches.encoder import front_end
from system.pipeline.branches.kinds import kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)


def main(args: argparse.Namespace) -> None:
    with common.experiment(args) as run:
        config = run.config
        settings = {
            "branches": {name: kind(branch).training_settings(branch) for name, branch in run.owners.items()},
            "front_ends": {name: front_end(run.encoder_config(name)) for name in run.encoder_branches},
            "rate": config.data.rate,
            "seed": config.seed,
            "clips": manifest.fingerprint(common.training_clips(run)),
        }
        encoders = [config.branches[name].encoder for name in run.encoder_branches]
        own = [common.checkpoint_file(encoder, config.data.folder) for encoder in encoders if encoder]
        reads = [*([run.encoder] if run.has_encoder else []), *filter(None, own)]
        common.run_stage(run.stage("adapt", settings, reads, owns=["adapt"], partly=[run.manifest]), lambda: _work(run))


def _work(run: Experiment) -> Iterable[Path]:
    common.prepare_torch(run)
    clips = common.training_clips(run)
    rate = run.config.data.rate or _common_rate(clips)
    written: list[Path] = []
    for name, branch in run.owners.items():
        written += kind(branch).adapt(run, name, clips, rate)
    return written


def _common_rate(clips) -> int:
    rates = sorted({clip.rate for clip in clips})
    if len(rates) > 1:
        raise WheeltapperError(f"data.rate is 0 (as recorded): expected one rate in all recordings, found {rates} Hz")
    return rates[0]
