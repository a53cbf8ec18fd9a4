"""What reference systems reach: challenge CSVs of their scores, and official metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from system import manifest
from system.evaluation import available
from system.evaluation.challenge_csv import score_name
from system.evaluation.challenge_csv import write_scores as write_score_file
from system.evaluation.truth import LABELS, Truth
from system.manifest import Clip
from system.references.systems import Scores


def write_scores(out: Path, scores: Mapping[str, Scores]) -> dict[str, Path]:
    """Writes the scores of each system to a folder of its name below ``out``; returns the folders by system."""
    for name, sections in scores.items():
        for (machine, section), values in sections.items():
            write_score_file(out / name / score_name(machine, section), values)
    return {name: out / name for name in scores}


def evaluate(clips: Sequence[Clip], scores: Mapping[str, Scores], rule: int) -> dict[str, Any]:
    """Metrics (``available.evaluate``) of each system over the machines whose test clips are labelled.

    Returns nothing where no machine has normal and anomalous ones.

    Args:
        clips: of the manifest.
        scores: by system, for each machine and section, file -> score.
        rule: key of ``metrics.RULES``.
    """
    labelled = {machine for machine, known in manifest.is_development(clips).items() if known}
    truth = [
        Truth(clip.machine, clip.section, clip.file, clip.domain, clip.label)
        for clip in clips
        if clip.split == "test" and clip.machine in labelled
    ]
    kinds = {(clip.machine, clip.section, clip.label) for clip in truth}
    truth = [clip for clip in truth if {(*clip[:2], label) for label in LABELS} <= kinds]
    return {name: available.evaluate(table, None, truth, rule) for name, table in scores.items()} if truth else {}
