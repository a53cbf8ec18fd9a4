"""Finished development runs: opened and checked, for the choice of a configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from system import config as configuration
from system import manifest, selection
from system.corpora.challenge import rule_of_year
from system.errors import WheeltapperError
from system.evaluation.folder import evaluate_folder
from system.experiment import Experiment
from system.manifest import Clip
from system.pipeline.stages import STAGES_TO_EMBEDDINGS, STAGES_TO_METRICS, first_incomplete
from system.pipeline.stages.evaluate import measured_clips
from system.selection import Candidate

ROUNDING = 1e-9


def development_run(exp: Path, stages: Sequence[str] = STAGES_TO_METRICS) -> tuple[Experiment, list[Clip]]:
    """A run on development machines and the clips of its manifest.

    Args:
        exp: experiment folder.
        stages: names of the stages that must be complete, the last one last.

    Raises:
        WheeltapperError: a machine has no labels, or a stage is not complete with its present settings and inputs.
    """
    run = Experiment(exp, configuration.load(exp / "config.yaml"))
    clips = manifest.read(run.manifest)
    selection.check_development(clips, run.manifest)
    if stage := first_incomplete(run, stages):
        wanted = "a development run with embeddings" if stages == STAGES_TO_EMBEDDINGS else "a finished development run"
        raise WheeltapperError(
            f"{exp}: expected {wanted}, found stage {stage.number} {stage.name} incomplete with its configuration: "
            f"run it to stage {len(stages)}"
        )
    return run, clips


def candidate(exp: Path) -> Candidate:
    """A development run with its scores, which are computed again from its challenge CSVs and compared.

    Raises:
        WheeltapperError: the run is not finished, or metrics.json holds other scores.
    """
    run, _ = development_run(exp)
    found = selection.read_candidate(exp)
    year = found.config.evaluate.year
    kept = measured_clips(found.clips, year)
    for label, metrics in found.metrics["systems"].items():
        again, _ = evaluate_folder(run.system(label), kept, rule_of_year(year), 0, 0)
        if abs(again["official_score"] - metrics["official_score"]) > ROUNDING:
            raise WheeltapperError(
                f"{run.metrics}: {label}: expected an official score of {again['official_score']:.6f} as recomputed, "
                f"found {metrics['official_score']:.6f}"
            )
    return found


def score_text(figures: Mapping[str, Any]) -> str:
    """An official score in percent with its 95 % interval, from the figures of ``metrics.evaluate``."""
    interval = figures["ci95"]
    text = f" ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})" if interval else ""
    return f"{100 * figures['official_score']:6.2f} %{text}"
