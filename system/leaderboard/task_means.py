"""Means over the data sets of a benchmark's tasks, for one encoder."""

from collections.abc import Mapping

from system.leaderboard.boards import BOARDS
from system.leaderboard.table import TASK_MEANS


def task_means(suite: str, scores: Mapping[str, float]) -> list[str]:
    """One line for each task of a benchmark: the mean in percent of the figures that are there.

    Args:
        suite: key of ``boards.BOARDS``.
        scores: data set -> figure in percent.
    """
    lines = []
    for task in BOARDS[suite].tasks:
        there = {figure.key: scores[figure.name] for figure in task.figures if figure.name in scores}
        if there:
            mean = TASK_MEANS.average(there.values())
            lines.append(f"mean of {len(there)} figures, {task.label.lower()}: {mean:.2f} %")
    return lines
