"""Settings of ``wheeltapper tune``; none of them changes a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SAMPLERS = ("sobol", "tpe")
CHOICES = ("all", "machine")


@dataclass
class TuneConfig:
    """What is tried, how often, and how it is proposed."""

    # Scorer to setting to the values tried, all combinations of them: {knn: {k: [1, 3], bank: [global]}}. The own
    # scorer of a branch is tried in any case. Empty: every scorer with its usual values.
    scorers: dict[str, Any] = field(default_factory=dict)
    views: list[str] = field(default_factory=lambda: ["two_channel", "left_duplicated"])
    fusions: list[str] = field(default_factory=lambda: ["sum"])  # sum | minimum
    trials: int = 10000  # of each study
    # sobol: quasi-random points, made without the labels, so that one study serves all folds | tpe: proposals learn
    # from the scores, a study for each fold; far slower
    sampler: str = "sobol"
    seed: int = 0
    choose_for: str = "all"  # all machines, as the rules want it | machine: refused, see --per-machine


def grid_problems(scorers: Mapping[str, Any], name: str) -> Iterator[str]:
    """What is wrong with a grid of scorers, one sentence each."""
    if not scorers:
        return
    from system import scoring  # loads more than a configuration without a grid needs

    for scorer, settings in scorers.items():
        where = f"{name}.{scorer}"
        if scoring.current_name(scorer) not in scoring.SCORERS:
            yield f"{where}: expected one of {', '.join(scoring.SCORERS)}, found {scorer!r}"
            continue
        if not isinstance(settings, Mapping):
            yield f"{where}: expected settings with the values to try, found {settings!r}"
            continue
        for key, values in settings.items():
            if not isinstance(values, list) or not values:
                yield f"{where}.{key}: expected a list of at least one value, found {values!r}"
                continue
            for value in values:
                yield from (f"{where}.{key}: {text}" for _, text in scoring.problems(scorer, {key: value}))


def tune_problems(
    config: TuneConfig, views: Sequence[str], fusions: Sequence[str], name: str = "tune"
) -> Iterator[str]:
    """What is wrong with the settings, one sentence each.

    Args:
        views, fusions: what a system may be configured to.
    """
    yield from grid_problems(config.scorers, f"{name}.scorers")
    for key, found, known in (("views", config.views, views), ("fusions", config.fusions, fusions)):
        if not found:
            yield f"{name}.{key}: expected at least one of {', '.join(known)}, found none"
        for value in found:
            if value not in known:
                yield f"{name}.{key}: expected some of {', '.join(known)}, found {value!r}"
        if len(set(found)) < len(found):
            yield f"{name}.{key}: expected each once, found {', '.join(found)}"
    for key, value, known in (
        ("sampler", config.sampler, SAMPLERS),
        ("choose_for", config.choose_for, CHOICES),
    ):
        if value not in known:
            yield f"{name}.{key}: expected one of {', '.join(known)}, found {value!r}"
    if config.trials < 1:
        yield f"{name}.trials: expected at least 1, found {config.trials}"
