"""A run that is killed and started again gives what an undisturbed one gives: two points of tools/kill_matrix.py."""

import pytest
from kill_points import MOMENTS, TORN, Event, Point


@pytest.mark.parametrize(
    ("stage", "name", "mode"),
    [(2, "adapt/main/state.pt", TORN), (7, "Wheeltapper_Demo_task2.zip", TORN)],
    ids=["network", "package"],
)
def test_killed_and_started_again(toy, stage, name, mode):
    event = [event for event in toy.all_events() if (event.stage, event.name) == (stage, name)][-1]
    assert toy.attempt(Point(stage, "", event, mode)) == []


def test_every_stage_has_every_moment(toy):
    points = list(toy.points(seed=1))
    assert {(point.stage, point.moment) for point in points} >= {(s, moment) for s in range(10) for moment in MOMENTS}
    assert all(isinstance(point.event, Event) or 0 <= point.share < 1 for point in points)
