"""Stage 1: pre-train the sub-band encoder on the training recordings, or on any recordings (pretrain.sources)."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system import manifest, processes, windows
from system.config import EncoderConfig, PretrainConfig
from system.encoders import cards
from system.experiment import Experiment
from system.manifest import Clip
from system.pipeline import resources
from system.progress import progress_bar
from system.stage import LOOP_FREE, Stage

if TYPE_CHECKING:
    from system.pretraining.corpus import Mixture


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    config = run.config
    if not run.has_encoder:
        return run.stage("pretrain", {"encoder": None}, [], owns=["pretrain"])
    settings: dict[str, Any] = {
        "encoder": asdict(config.encoder),
        "pretrain": _learned(config.pretrain),
        "seed": config.seed,
    }
    partly = []
    if config.pretrain.loop.steps:
        settings["sources"] = _described(run)
        partly = [] if config.pretrain.sources else [run.manifest]
    given = resources.given_weights(run, {"encoder": config.encoder, "teacher": _teacher(config.pretrain)})
    stage = run.stage("pretrain", settings, [], owns=["pretrain"], partly=partly, given=given)
    stage.discards = [run.encoder.parent / "state.pt"]
    return stage


def _teacher(config: PretrainConfig) -> EncoderConfig | None:
    """The published network that the student also learns from."""
    checkpoint = config.teacher.checkpoint if config.loop.steps else ""
    size = cards.CARDS[checkpoint].size if checkpoint in cards.CARDS else ""
    return EncoderConfig("mn", size, checkpoint) if checkpoint else None


def _learned(config: PretrainConfig) -> dict[str, Any]:
    """The settings on which the weights depend, to rounding."""
    settings = asdict(config)
    for name in LOOP_FREE:
        del settings["loop"][name]
    return {name: value for name, value in settings.items() if name not in ("sources", "probe", "front_end")}


def _described(run: Experiment) -> list[dict[str, Any]]:
    """What the recordings are: the stage runs again when they change, not when they are gone."""
    if run.config.pretrain.sources:
        from system.pretraining import corpus

        known = run.recorded("pretrain", "settings").get("sources", [])
        gone = {own["name"]: own for own in known}
        return [
            gone[name] if not Path(source.path).exists() and (name := corpus.name_of(source)) in gone
            else corpus.describe(source)
            for source in run.config.pretrain.sources
        ]  # fmt: skip
    clips = resources.training_clips(run)
    hours = round(sum(clip.seconds for clip in clips) / 3600, 4)
    own = {"name": "own", "clips": len(clips), "hours": hours, "weight": 1.0}
    return [{**own, "fingerprint": manifest.fingerprint(clips), **windows.settings(clips, run.config.data)}]


def work(run: Experiment) -> Iterable[Path]:
    """Pre-trains, or saves the initial encoder where there are no steps; returns the files written."""
    if not run.has_encoder:
        print("no branch has an encoder, nothing to pre-train")
        return []
    from system.pretraining import pretrain
    from system.training.arithmetic import settle

    device = resources.prepare_torch(run)
    config = run.config.pretrain
    config = replace(config, loop=settle(config.loop, device, run.encoder.parent))
    if teacher := _teacher(config):
        file = cards.checkpoint_file(teacher, run.config.data.folder)
        config = replace(config, teacher=replace(config.teacher, checkpoint=str(file)))
    encoder = resources.configured_encoder(run, run.config.encoder)
    folder = run.encoder.parent
    written = [run.encoder]
    if config.loop.steps:
        with progress_bar(config.loop.steps, "pre-training") as bar:
            pretrain(
                encoder,
                mixture(run),
                config,
                folder,
                run.config.seed,
                device,
                lambda step, values: _show(bar, step, values),
                _probe(run),
            )
        written.append(folder / "curve.csv")
    if processes.is_main():
        trained = {"trained_in": config.loop.precision} if config.loop.steps else {}
        encoder.to("cpu").save(run.encoder, steps=config.loop.steps, seed=run.config.seed, **trained)
    return written


def mixture(run: Experiment) -> "Mixture":
    """The recordings that are learned from: those of ``pretrain.sources``, or the training clips of the run."""
    from system.pretraining.corpus import Mixture

    sources = run.config.pretrain.sources
    return Mixture.open(sources) if sources else Mixture.of_clips(_windows(run))


def _windows(run: Experiment) -> list[Clip]:
    """Training clips, long ones in parts, so that each minute is as likely to be drawn as any other."""
    return windows.expand(resources.training_clips(run), run.config.data, hop=1.0)


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
