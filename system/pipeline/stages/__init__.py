"""The stages of a recipe as values.

Each module of this package is one stage. ``stage(run)`` returns its ``Stage``: settings, input files, what it owns;
nothing is computed, so that anybody may ask whether a run is complete. ``work(run)`` computes it and returns the files
written. ``pipeline.session.run_stage`` puts both together.
"""

import importlib
from collections.abc import Iterable
from types import ModuleType

from system.experiment import Experiment
from system.stage import Stage

STAGES_TO_METRICS = ("pretrain", "adapt", "embed", "score", "fuse", "evaluate")  # from the manifest to metrics.json
STAGES_TO_EMBEDDINGS = STAGES_TO_METRICS[:3]
STAGES_TO_SYSTEMS = STAGES_TO_METRICS[:5]


def module(name: str) -> ModuleType:
    """The module of a stage by its name (``experiment.STAGES``)."""
    return importlib.import_module(f"system.pipeline.stages.{name}")


def stages_of(run: Experiment, names: Iterable[str] = STAGES_TO_METRICS) -> dict[str, Stage]:
    """Stages of a run by name, with settings and inputs as they are now.

    Raises:
        WheeltapperError: an input file is missing.
    """
    return {name: module(name).stage(run) for name in names}


def first_incomplete(run: Experiment, names: Iterable[str] = STAGES_TO_METRICS) -> Stage | None:
    """The first of some stages that is not complete with the settings and inputs it has now; None if all are."""
    return next((stage for stage in map(lambda name: module(name).stage(run), names) if not stage.is_complete()), None)
