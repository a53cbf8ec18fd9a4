"""The tasks for which the labels of a manifest suffice, and their metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from system import manifest, scoring
from system.benchmarks import siren
from system.benchmarks.neighbours import folds_accuracy
from system.benchmarks.protocols import MODES
from system.corpora.table import class_of
from system.errors import WheeltapperError
from system.evaluation import available
from system.evaluation.truth import Truth
from system.manifest import Clip, group_by

ANOMALIES, FOLDS, FILES = "anomalies", "folds", "files"
OVERALL = ""  # key of the result for all machines, beside the machines' names
SCORERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Mahalanobis": ("mahalanobis", {"standardize": True}),
    "1-NN": ("knn", {"k": 1}),
}


def choose_task(clips: Sequence[Clip]) -> tuple[str, list[Clip]]:
    """The task that a manifest's labels allow, and its clips.

    ``anomalies``: machines whose test clips are labelled. ``folds``: classes and several sections, which are the folds
    of a cross-validation. ``files``: classes only, with one file left out at a time.

    Raises:
        WheeltapperError: there are neither labels nor two classes.
    """
    development = manifest.is_development(clips)
    if any(development.values()):
        return ANOMALIES, [clip for clip in clips if development[clip.machine] and clip.split in ("train", "test")]
    own = [clip for clip in clips if class_of(clip)]
    classes = {class_of(clip) for clip in own}
    if len(classes) < 2:
        raise WheeltapperError(
            "expected labelled test clips, or attributes class_<value> of at least two classes (wheeltapper prepare "
            f"TABLE.csv --class-column), found {len(classes)} classes"
        )
    return (FOLDS if len({clip.section for clip in own}) > 1 else FILES), own


def figures(clips: Sequence[Clip], task: str, vectors: np.ndarray) -> dict[str, float]:
    """The metrics of a task in percent; higher is better.

    ``anomalies``: official score of each of ``SCORERS`` in all and by machine. ``folds``: accuracy of the nearest
    neighbour (cosine), averaged over the folds. ``files``: SIREN's accuracy in both modes.

    Args:
        clips: clips of ``choose_task``.
        task: of ``choose_task``.
        vectors: embeddings of the clips, (N, D).
    """
    if task == ANOMALIES:
        return {
            f"{name} {machine}".strip(): value
            for name, (scorer, settings) in SCORERS.items()
            for machine, value in official(clips, vectors, scorer, settings).items()
        }
    classes = [class_of(clip) for clip in clips]
    if task == FOLDS:
        return {"1-NN": folds_accuracy(vectors, classes, [clip.section for clip in clips])}
    groups = [clip.group or clip.path for clip in clips]
    return {mode: siren.leave_one_file_out(vectors, classes, mode, groups) for mode in MODES}


def official(clips: Sequence[Clip], vectors: np.ndarray, name: str, settings: dict) -> dict[str, float]:
    """Score of one scorer in percent: of all machines (``OVERALL``), and of each.

    It is the official one; over all domains together (``available.evaluate``) where clips of one are lacking.

    The references of a machine and section are its training clips.

    Args:
        clips: training and labelled test clips.
        vectors: embeddings of the clips, (N, D).
        name: of the scorer, see ``scoring.build``.
        settings: of the scorer.
    """
    scores = {}
    for key, rows in group_by(clips, "machine", "section").items():
        train = [i for i in rows if clips[i].split == "train"]
        test = [i for i in rows if clips[i].split == "test"]
        scorer = scoring.build(name, **settings)
        scorer.fit(vectors[train], np.array([clips[i].domain for i in train]))
        values = scorer.score(vectors[test])
        scores[key] = {clips[i].file: float(value) for i, value in zip(test, values, strict=True)}
    truth = [Truth(c.machine, c.section, c.file, c.domain, c.label) for c in clips if c.split == "test"]
    result = available.evaluate(scores, None, truth, replicates=0)
    overall = available.main_score(result)
    machines = {
        machine: 100.0 * values.get("hmean", values.get(available.SCORE))
        for machine, values in result["per_machine"].items()
    }
    return {OVERALL: 100.0 * overall[0] if overall else float("nan"), **machines}
