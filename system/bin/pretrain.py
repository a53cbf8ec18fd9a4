"""Stage 1: pre-train the sub-band encoder on the training recordings."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from system import manifest
from system.bin import common
from system.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)


def main(args: argparse.Namespace) -> None:
    with common.experiment(args) as run:
        config = run.config
        settings = {
            "encoder": asdict(config.encoder),
            "pretrain": asdict(config.pretrain),
            "seed": config.seed,
            "clips": manifest.fingerprint(common.training_clips(run)),
        }
        checkpoint = common.checkpoint_file(config.encoder, config.data.folder)
        reads = [checkpoint] if checkpoint else []
        stage = run.stage("pretrain", settings, reads, owns=["pretrain"], partly=[run.manifest])
        common.run_stage(stage, lambda: _work(run))


def _work(run: Experiment) -> Iterable[Path]:
    from system.pretraining import pretrain

    device = common.prepare_torch(run)
    config = run.config.pretrain
    clips = common.training_clips(run)
    encoder = common.configured_encoder(run, run.config.encoder)
    folder = run.encoder.parent
    written = [run.encoder]
    if config.loop.steps:
        with common.progress_bar(config.loop.steps, "pre-training") as bar:
            pretrain(
                encoder, clips, config, folder, run.config.seed, device, lambda step, values: _show(bar, step, values)
            )
        written.append(folder / "curve.csv")
    encoder.to("cpu").save(run.encoder, steps=config.loop.steps, seed=run.config.seed)
    (folder / "state.pt").unlink(missing_ok=True)
    return written


def _show(bar, step: int, values: dict[str, float]) -> None:
    bar.update(step + 1 - bar.n)
    bar.set_postfix_str(f"loss {values['loss']:.3f}", refresh=False)
