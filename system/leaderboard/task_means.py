"""Means over the data sets of a benchmark's tasks, for one encoder."""

from collections.abc import Mapping

from system.leaderboard.boards import BOARDS


def task_means(suite: str, scores: Mapping[str, float]) -> list[str]:
    """One line for each task of a benchmark: the mean in percent of the figures that are there.

    Args:
        suite: key of ``boards.BOARDS``.
        scores: data set -> figure in percent.
    """
    board = BOARDS[suite].only(scores)
    return [
        f"mean of {len(task.figures)} figures, {task.label.lower()}: {board.means(scores)[task.name]:.2f} %"
        for task in board.tasks
    ]
