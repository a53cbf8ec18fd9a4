"""What the stages need of one another and of the user, by number, before anything runs."""

from collections.abc import Iterable
from pathlib import Path

from system.config import EncoderConfig
from system.experiment import Experiment
from system.pipeline.branches import network_branches

# By number: the stages whose files each stage reads.
READS = {1: (0,), 2: (0, 1), 3: (0, 1, 2), 4: (0, 3), 5: (4,), 6: (0, 5), 7: (0, 2, 5, 6), 8: (0, 1), 9: (0,)}


def encoders(run: Experiment, stages: Iterable[int]) -> dict[str, EncoderConfig]:
    """The encoders that some stages, by number, take from the configuration, by key."""
    config, numbers = run.config, set(stages)
    own = {f"branches.{name}.encoder": branch.encoder for name, branch in run.encoder_branches.items()}
    found = {key: encoder for key, encoder in own.items() if encoder and numbers & {2, 3}}
    if run.has_encoder and 1 in numbers:
        found["encoder"] = config.encoder
    if 7 in numbers:  # the package records the weights that the configuration names, used or not
        models = {f"study.models.{name}.encoder": model.encoder for name, model in config.study.models.items()}
        named = {"encoder": config.encoder, **own, **models}
        found |= {key: encoder for key, encoder in named.items() if encoder and encoder.checkpoint}
    return found


def missing(run: Experiment, stages: range) -> tuple[int, Path] | None:
    """The first of the earlier stages that some stages need a file of that is not there, and the file; or None."""
    needed = {number for stage in stages for number in READS.get(stage, ()) if number < stages.start}
    for number in sorted(needed):
        for path in _left(run, number, stages):
            if not path.exists():
                return number, path
    return None


def _left(run: Experiment, number: int, readers: range) -> list[Path]:
    """What a stage leaves that others read."""
    loop, views = run.config.pretrain, run.views
    if number == 0:
        own = bool(loop.loop.steps and not loop.sources) if run.has_encoder else False
        return [run.manifest] if own or set(readers) - {1} else []
    if number == 1:
        return [run.encoder] if run.has_encoder else []
    if number == 2:
        return [path for branch in network_branches(run) for path in branch.weights()]
    if number == 3:
        return [run.embeddings(name, view) for name, own in views.items() for view in own]
    if number == 4:
        return [run.scores(name, view) for name, own in views.items() for view in own]
    return [run.system(label) for label in run.labels] if number == 5 else [run.metrics]
