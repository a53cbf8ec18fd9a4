"""Stage 1: pre-train the sub-band encoder on the training recordings, or on any recordings (--source)."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from system import manifest, processes
from system.bin import common
from system.config import PretrainConfig, SourceConfig
from system.config.training import LOOP_FREE
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_experiment_arguments(parser)
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="PATH[=WEIGHT]",
        help="manifest.csv or folder of shards to learn from, in the place of pretrain.sources; may be repeated. "
        "WEIGHT is its share of the draws; without one, its number of recordings",
    )


def main(args: argparse.Namespace) -> None:
    with common.experiment(args, several=True) as run:
        config = run.config
        if args.source:
            config.pretrain.sources = [_source(text) for text in args.source]
        if not run.has_encoder:
            common.run_stage(run.stage("pretrain", {"encoder": None}, [], owns=["pretrain"]), _no_encoder)
            return
        checkpoint = common.checkpoint_file(config.encoder, config.data.folder)
        reads = [checkpoint] if checkpoint else []
        settings: dict[str, Any] = {
            "encoder": asdict(config.encoder),
            "pretrain": _learned(config.pretrain),
            "seed": config.seed,
        }
        partly = []
        if config.pretrain.loop.steps:
            settings["sources"] = _described(run)
            partly = [] if config.pretrain.sources else [run.manifest]
        stage = run.stage("pretrain", settings, reads, owns=["pretrain"], partly=partly)
        common.run_stage(stage, lambda: _work(run))
        if processes.is_main():
            (run.encoder.parent / "state.pt").unlink(missing_ok=True)  # of no use once the stage is on record


def _no_encoder() -> Iterable[Path]:
    print("no branch has an encoder, nothing to pre-train")
    return []


def _learned(config: PretrainConfig) -> dict[str, Any]:
    """The settings on which the weights depend, to rounding."""
    settings = asdict(config)
    for name in LOOP_FREE:
        del settings["loop"][name]
    return {name: value for name, value in settings.items() if name not in ("sources", "probe", "front_end")}


def _source(text: str) -> SourceConfig:
    path, _, weight = text.partition("=")
    try:
        return SourceConfig(path, float(weight or 0))
    except ValueError as error:
        raise WheeltapperError(f"--source {text}: expected PATH or PATH=WEIGHT with a number") from error


def _described(run: Experiment) -> list[dict[str, Any]]:
    """What the recordings are: the stage runs again when they change."""
    if run.config.pretrain.sources:
        from system.pretraining.corpus import describe

        return [describe(source) for source in run.config.pretrain.sources]
    clips = common.training_clips(run)
    hours = round(sum(clip.seconds for clip in clips) / 3600, 4)
    own = {"name": "own", "clips": len(clips), "hours": hours, "weight": 1.0}
    return [{**own, "fingerprint": manifest.fingerprint(clips)}]


def _work(run: Experiment) -> Iterable[Path]:
    from system.pretraining import pretrain
    from system.pretraining.corpus import Mixture

    device = common.prepare_torch(run)
    config = run.config.pretrain
    encoder = common.configured_encoder(run, run.config.encoder)
    folder = run.encoder.parent
    written = [run.encoder]
    if config.loop.steps:
        mixture = Mixture.open(config.sources) if config.sources else Mixture.of_clips(common.training_clips(run))
        with progress_bar(config.loop.steps, "pre-training") as bar:
            pretrain(
                encoder,
                mixture,
                config,
                folder,
                run.config.seed,
                device,
                lambda step, values: _show(bar, step, values),
                _probe(run),
            )
        written.append(folder / "curve.csv")
    if processes.is_main():
        encoder.to("cpu").save(run.encoder, steps=config.loop.steps, seed=run.config.seed)
    return written


def _probe(run: Experiment):
    """Nearest neighbours on the labelled clips of ``pretrain.probe``; None where there are none."""
    config = run.config.pretrain.probe
    if not config.every:
        return None
    from system.pretraining.probe import Probe

    return Probe(manifest.read(config.manifest), config.clips)


def _show(bar, step: int, values: dict[str, float]) -> None:
    bar.update(step + 1 - bar.n)
    bar.set_postfix_str(f"loss {values['loss']:.3f}", refresh=False)
