"""The simple reference systems beside those of a run: rows for the table of systems, and how the best ones compare."""

from collections.abc import Mapping
from typing import Any

from system.evaluation.available import SCORE, main_score
from system.references import SYSTEMS
from system.report.load_run import RunData, score_of

BELOW = 0.03  # by which a machine is worth a mention
METHODS = {"knn": "log-mel nearest neighbour", "mahalanobis": "log-mel Mahalanobis distance"}
SOUNDS = {"near": "near channel", "far": "far channel", "subtracted": "near channel less what the far one explains"}


def measured(run: RunData) -> dict[str, dict[str, Any]]:
    """Metrics by name of the reference systems that stage 6 measured on the run's labelled clips."""
    found = (run.metrics.get("references") or {}).get("systems") or {}
    return {name: values for name, values in found.items() if values.get("per_machine") and main_score(values)}


def describe(name: str) -> str:
    """What a reference system is, in words."""
    system = SYSTEMS.get(name)
    return f"{METHODS.get(system.method, system.method)}, {SOUNDS[system.channel]}" if system else name


def machine_score(values: Mapping[str, Any]) -> float | None:
    """The score of a machine by which runs are shown."""
    return values.get("mean", values.get("hmean", values.get(SCORE)))


def compare(run: RunData) -> list[str]:
    """Sentences on the best system of a run against the best reference system, on all machines and on each."""
    found = measured(run)
    if not found or not run.systems:
        return []
    own, said = run.systems[run.best], []
    if not run.metrics["references"].get("left_out"):  # otherwise the scores are of different machines
        best = max(found, key=lambda name: score_of(found[name])[0])
        score, reference = score_of(own)[0], score_of(found[best])[0]
        said.append(
            f"The best system is {'below' if score < reference else 'not below'} the best of {len(found)} "
            f"simple reference systems on the same clips: {100 * score:.2f} against {100 * reference:.2f} % "
            f"({describe(best)})."
        )
    below = []
    for machine, values in own["per_machine"].items():
        scores = {
            name: value
            for name, system in found.items()
            if (value := machine_score(system["per_machine"].get(machine, {}))) is not None
        }
        reached, name = machine_score(values), max(scores, key=lambda name: scores[name], default="")
        if name and reached is not None and reached < scores[name] - BELOW:
            below.append(f"{machine} ({100 * reached:.1f} against {100 * scores[name]:.1f} % of {name})")
    if below:
        said.append(f"More than {100 * BELOW:g} points below the best reference system: {', '.join(below)}.")
    return said
