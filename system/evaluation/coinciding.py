"""Systems that coincide: whose scores of the same clips are equal but for rounding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ROUNDING = 1e-6  # of the range of scores


def are_equal(first: Mapping[Any, float], second: Mapping[Any, float]) -> bool:
    """Whether two systems give the same clips the same scores; false without clips.

    Args:
        first: clip to score.
        second: clip to score of the other system.
    """
    if not first or first.keys() != second.keys():
        return False
    a, b = (np.array([scores[clip] for clip in first], dtype=np.float64) for scores in (first, second))
    return bool(np.abs(a - b).max() <= ROUNDING * np.ptp(a))


def groups(scores: Mapping[str, Mapping[Any, float]]) -> list[list[str]]:
    """Systems that coincide, in groups of two and more.

    Args:
        scores: system to clip to score.
    """
    found: list[list[str]] = []
    for name, values in scores.items():
        same = next((group for group in found if are_equal(scores[group[0]], values)), None)
        if same is None:
            found.append([name])
        else:
            same.append(name)
    return [group for group in found if len(group) > 1]


def sentence(group: Sequence[str], mono: bool) -> str:
    """What is to be said of a group, without an end mark.

    Args:
        group: systems that coincide.
        mono: whether all recordings have one channel, which takes what differs from systems that differ in channels.
    """
    why = ", since the recordings have one channel" if mono else ""
    return f"{', '.join(group[:-1])} and {group[-1]} coincide: they give every clip the same score{why}"
