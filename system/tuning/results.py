"""The choice, its cross-validation over machines, and the files written for it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from system.config import Config, ScorerConfig, SystemConfig
from system.tuning.objective import Objective
from system.tuning.search import ALL, without
from system.tuning.space import Choice, Points

Found = Mapping[str, tuple[Points, np.ndarray]]  # study -> choices and their metrics (T, units, measures)


@dataclass(frozen=True)
class Fold:
    """One fold of the cross-validation, in which a machine is held out.

    Attributes:
        machine: held out.
        choice: made by the other machines.
        chosen_by: official score of that choice on the other machines.
        held_out: official score of that choice on the machine.
        final: official score of the final choice on the machine.
        untuned: official score of the untuned configuration on the machine.
    """

    machine: str
    choice: Choice
    chosen_by: float
    held_out: float
    final: float
    untuned: float


@dataclass(frozen=True)
class Tuned:
    """The final choice, and the figures of ``metrics.evaluate``: in-sample, cross-validated, and of the untuned
    configuration.
    """

    choice: Choice
    single: Choice
    in_sample: dict[str, Any]
    cross_validated: dict[str, Any]
    untuned: dict[str, Any]
    folds: list[Fold]

    @property
    def is_better(self) -> bool:
        """Whether choices score higher than the untuned configuration on machines that had no part in them."""
        return bool(self.cross_validated["official_score"] > self.untuned["official_score"])

    @property
    def optimism(self) -> float:
        """In-sample score minus cross-validated score."""
        return self.in_sample["official_score"] - self.cross_validated["official_score"]


def best(scores: np.ndarray) -> int:
    """Index of the highest score (T,), the first of equal ones."""
    return int(np.argmax(scores))


def fold_choices(objective: Objective, found: Found) -> dict[str, tuple[Points, int]]:
    """For each machine, the choice (choices, row) with the best official score on all other machines.

    Neither the machine's labels nor trials proposed with them are used.
    """
    chosen = {}
    for machine in objective.machines:
        others = [other for other in objective.machines if other != machine]
        points, measures = found.get(without(machine), found[ALL])
        chosen[machine] = points, best(objective.score(measures, others))
    return chosen


def conclude(objective: Objective, found: Found, untuned: Points, replicates: int, seed: int) -> Tuned:
    """Chooses with all machines, and cross-validates by leaving out each.

    The confidence intervals are from a bootstrap over test clips with fixed choices.

    Args:
        objective: official metrics.
        found: trials of all studies.
        untuned: the configured system.
        replicates: of the bootstrap.
        seed: of the bootstrap.
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
    """The best choice for each machine by its own labels, and the official score of all of them together.

    Nothing is held out in this figure, and the rules of the challenge allow only one configuration for all machines.
    """
    points, measures = found[ALL]
    rows = {machine: best(objective.score(measures, [machine])) for machine in objective.machines}
    for_units = _joined([points[[rows[unit.machine]]] for unit in objective.units])
    figures = objective.evaluate(for_units, replicates, seed)
    return {machine: objective.space.choice(points, row) for machine, row in rows.items()}, figures


def by_run(objective: Objective, evaluated: Mapping[str, Any]) -> dict[int, float]:
    """Official score of each run by its index, equal to the result of the run's stage evaluate."""
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
    """A configuration with the chosen scorers and system.

    If the best single branch that these scorers allow is another system, it is added as the second.

    Args:
        config: configuration of the runs.
        tuned: result.
        scorers: candidates of each branch by label.
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
    return SystemConfig(name, abbreviation, choice.view, weights, fusion=choice.fusion)


def described(tuned: Tuned) -> dict[str, Any]:
    """The result as JSON values."""
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
