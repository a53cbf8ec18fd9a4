"""The choice, what it is worth on machines that had no part in it, and what is written of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from system.config import Config, ScorerConfig, SystemConfig
from system.tuning.objective import Objective
from system.tuning.search import ALL, without
from system.tuning.space import Choice, Points

Found = Mapping[str, tuple[Points, np.ndarray]]  # study -> choices and their measures (T, units, measures)


@dataclass(frozen=True)
class Fold:
    """A machine left out, the choice by the others, and official scores over one side: of that choice by the others
    (``chosen_by``) and on the machine (``held_out``); of the final choice (``final``) and the untuned configuration
    (``untuned``) on the machine."""

    machine: str
    choice: Choice
    chosen_by: float
    held_out: float
    final: float
    untuned: float


@dataclass(frozen=True)
class Tuned:
    """The final choice with the figures of ``metrics.evaluate``: in-sample, cross-validated, and of the untuned
    configuration."""

    choice: Choice
    single: Choice
    in_sample: dict[str, Any]
    cross_validated: dict[str, Any]
    untuned: dict[str, Any]
    folds: list[Fold]

    @property
    def optimism(self) -> float:
        """By how much the in-sample figure promises more than machines that were left out keep."""
        return self.in_sample["official_score"] - self.cross_validated["official_score"]


def best(scores: np.ndarray) -> int:
    """The choice of the highest score (T,), of equal ones the first."""
    return int(np.argmax(scores))


def fold_choices(objective: Objective, found: Found) -> dict[str, tuple[Points, int]]:
    """For each machine the choice (choices, row) that the official score of all other machines makes; neither the
    machine's labels nor proposals that knew them have a part in it."""
    chosen = {}
    for machine in objective.machines:
        others = [other for other in objective.machines if other != machine]
        points, measures = found.get(without(machine), found[ALL])
        chosen[machine] = points, best(objective.score(measures, others))
    return chosen


def conclude(objective: Objective, found: Found, untuned: Points, replicates: int, seed: int) -> Tuned:
    """Chooses by all machines, and by all but each.

    The intervals are of a bootstrap over test clips with the choices as they are.

    Args:
        untuned: the configured system. replicates, seed: of the bootstrap.
    """
    points, measures = found[ALL]
    scores = objective.score(measures)
    final, chosen = best(scores), fold_choices(objective, found)
    alone = (points.weights > 0).sum(axis=1) == 1
    single = best(np.where(alone, scores, -np.inf)) if alone.any() else final
    for_units = _joined([chosen[unit.machine][0][[chosen[unit.machine][1]]] for unit in objective.units])
    figures = {
        "final": objective.measures(points[[final]]),
        "untuned": objective.measures(untuned),
    }
    folds = []
    for machine, (tried, row) in chosen.items():
        others = [other for other in objective.machines if other != machine]
        own = objective.measures(tried[[row]])
        folds.append(
            Fold(
                machine,
                objective.space.choice(tried, row),
                float(objective.score(own, others)[0]),
                float(objective.score(own, [machine])[0]),
                *(float(objective.score(each, [machine])[0]) for each in figures.values()),
            )
        )
    return Tuned(
        objective.space.choice(points, final),
        objective.space.choice(points, single),
        objective.evaluate(points[[final]], replicates, seed),
        objective.evaluate(for_units, replicates, seed),
        objective.evaluate(untuned, replicates, seed),
        folds,
    )


def _joined(points: Sequence[Points]) -> Points:
    return Points(*(np.concatenate([getattr(p, f.name) for p in points]) for f in fields(Points)))


def per_machine(
    objective: Objective, found: Found, replicates: int, seed: int
) -> tuple[dict[str, Choice], dict[str, Any]]:
    """The choice that each machine's own labels would make, and the official score of all these together: a figure in
    which nothing is held out. The rules allow one configuration for all machines only."""
    points, measures = found[ALL]
    rows = {machine: best(objective.score(measures, [machine])) for machine in objective.machines}
    for_units = _joined([points[[rows[unit.machine]]] for unit in objective.units])
    figures = objective.evaluate(for_units, replicates, seed)
    return {machine: objective.space.choice(points, row) for machine, row in rows.items()}, figures


def by_run(objective: Objective, evaluated: Mapping[str, Any]) -> dict[int, float]:
    """Official score of each run by its number: what the stage evaluate of that run gives."""
    from system.evaluation import metrics

    found = {}
    for run in sorted({unit.run for unit in objective.units}):
        sections = {}
        for unit in objective.units:
            if unit.run == run:
                values = evaluated["per_machine"][unit.name]
                values = values.get("sections", {}).get(unit.section, values)
                sections[unit.name, unit.section] = {name: values[name] for name in objective.official}
        found[run] = float(metrics.official_score(sections, objective.rule))
    return found


def configuration(config: Config, tuned: Tuned, scorers: Mapping[str, Mapping[str, ScorerConfig]]) -> Config:
    """A configuration with the scorers and the system that were chosen, and second, where it is another one, the best
    single branch that can go with these scorers.

    Args:
        config: of the runs. scorers: of each branch by label.
    """
    choice, branches = tuned.choice, dict(config.branches)
    for name, label in choice.scorers.items():
        branches[name] = replace(branches[name], scorer=scorers[name][label])
    systems = [_system(choice, "Tuned on the development machines", "tuned")]
    used = [name for name, weight in tuned.single.weights.items() if weight > 0]
    idle = all(choice.weights[name] == 0 for name in used)
    if tuned.single != choice and (idle or tuned.single.scorers[used[0]] == choice.scorers[used[0]]):
        for name in used if idle else ():
            branches[name] = replace(branches[name], scorer=scorers[name][tuned.single.scorers[name]])
        systems.append(_system(tuned.single, "Tuned on the development machines, single branch", "tunedsingle"))
    return replace(config, branches=branches, systems=systems)


def _system(choice: Choice, name: str, abbreviation: str) -> SystemConfig:
    weights = {branch: weight for branch, weight in choice.weights.items() if weight > 0}
    fusion = {} if choice.fusion == "sum" else {"fusion": choice.fusion}
    return SystemConfig(name=name, abbreviation=abbreviation, view=choice.view, weights=weights, **fusion)


def described(tuned: Tuned) -> dict[str, Any]:
    """The result as JSON."""
    return {
        "choice": asdict(tuned.choice),
        "official_score": {
            "in_sample": tuned.in_sample["official_score"],
            "cross_validated": tuned.cross_validated["official_score"],
            "untuned": tuned.untuned["official_score"],
            "optimism": tuned.optimism,
        },
        "in_sample": tuned.in_sample,
        "cross_validated": tuned.cross_validated,
        "untuned": tuned.untuned,
        "folds": [asdict(fold) for fold in tuned.folds],
    }
