"""Settings of ``wheeltapper tune``; none of them changes a run."""

from dataclasses import dataclass
from typing import Literal

from system.config.keys import Positive, Seed, Value, key

View = Literal["two_channel", "near_only"]
Fusion = Literal["sum", "minimum"]


@dataclass
class TuneConfig:
    """What ``wheeltapper tune`` tries, how often, and how it proposes candidates."""

    scorers: dict[str, Value] = key(
        dict,
        "Scorers with the values to try for their settings, in all combinations: {knn: {k: [1, 3], bank: [global]}}. "
        "Each branch's own scorer is always tried. Empty: every scorer with its usual values",
    )
    views: list[View] = key(["two_channel", "near_only"], "Views to try")
    fusions: list[Fusion] = key(["sum"], "Rules of fusion to try")
    trials: Positive = key(10000, "Number of candidates of each study")
    sampler: Literal["sobol", "tpe"] = key(
        "sobol",
        "sobol: quasi-random points, independent of the labels, so that one study serves all folds; tpe: proposals "
        "that learn from the scores, with a study for each fold (much slower)",
    )
    seed: Seed = key(0, "Seed of the sampler")
    choose_for: Literal["all", "machine"] = key(
        "all", "all: one choice for all machines, as the rules demand; machine: refused except with --per-machine"
    )
