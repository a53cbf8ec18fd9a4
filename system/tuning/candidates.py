"""The candidate scorers of each branch."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from system import scoring
from system.config import BranchConfig, ScorerConfig

# For branches whose embeddings are scores already, or frames; their only candidate, and none of other branches.
ALONE = ("precomputed", "frames")

# Default grids. A registered scorer that is not listed here is a candidate with its default settings.
USUAL: dict[str, list[dict[str, list[Any]]]] = {
    "mahalanobis": [{"bank": ["domain"], "standardize": [False, True]}, {"bank": ["global"]}],
    "knn": [{"k": [1, 3, 5], "bank": ["global"]}, {"k": [1, 3], "bank": ["domain"], "standardize": [False, True]}],
    "lof": [{"k": [4, 10], "bank": ["global"]}, {"k": [4], "bank": ["domain"], "standardize": [True]}],
    "beam": [{"varmin": [0, 4]}],
    "ldn": [{"neighbours": [2, 4, 8]}],
}


def label(scorer: ScorerConfig) -> str:
    """Label of a scorer: ``knn k=3 bank=global``."""
    return " ".join([scorer.name, *(f"{key}={value}" for key, value in scorer.settings.items())])


def of_branch(branch: BranchConfig, grid: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, ScorerConfig]:
    """The candidates of a branch by label; the configured scorer is the first.

    Args:
        branch: settings of the branch.
        grid: scorer to setting to values, see ``TuneConfig.scorers``; if empty, ``USUAL`` and all other registered
            scorers.
    """
    tried = [branch.scorer]
    if branch.scorer.name not in ALONE:
        grids = {name: [dict(settings)] for name, settings in grid.items()} or _usual()
        tried += [
            ScorerConfig(name, each) for name, parts in grids.items() for part in parts for each in _product(part)
        ]
    found: dict[str, ScorerConfig] = {}
    for scorer in tried:
        if all(scorer != known for known in found.values()):
            found[label(scorer)] = scorer
    return found


def _usual() -> dict[str, list[dict[str, list[Any]]]]:
    return {name: USUAL.get(name, [{}]) for name in scoring.SCORERS if name not in ALONE}


def _product(settings: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]
