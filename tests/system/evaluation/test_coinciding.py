"""Systems that coincide: equal scores but for rounding, of the same clips."""

import numpy as np
import pytest

from system.evaluation import coinciding

SCORES = {("fan", f"{n}.wav"): value for n, value in enumerate([0.5, -2.0, 7.5, 1.25])}


def test_equal_but_for_rounding():
    rounded = {clip: float(np.float32(score * 1.0000001)) for clip, score in reversed(SCORES.items())}
    assert coinciding.are_equal(SCORES, rounded)
    assert coinciding.are_equal(dict.fromkeys("ab", 3.0), dict.fromkeys("ab", 3.0))


@pytest.mark.parametrize(
    "other",
    [
        SCORES | {("fan", "2.wav"): 7.4},
        {**SCORES, ("fan", "4.wav"): 0.0},
        {("pump", name): score for (_, name), score in SCORES.items()},
        {clip: 2 * score for clip, score in SCORES.items()},
        {},
    ],
)
def test_different(other):
    assert not coinciding.are_equal(SCORES, other)
    assert not coinciding.are_equal(other, SCORES)
    assert not coinciding.are_equal({}, {})


def test_groups_and_what_is_said_of_them():
    other = {clip: -score for clip, score in SCORES.items()}
    found = coinciding.groups({"1": SCORES, "2": other, "3": dict(SCORES), "4": dict(SCORES), "5": {}, "6": {}})
    assert found == [["1", "3", "4"]]
    assert coinciding.sentence(found[0], mono=False) == "1, 3 and 4 coincide: they give every clip the same score"
    assert coinciding.sentence(["1", "2"], mono=True).endswith("the same score, since the recordings have one channel")
