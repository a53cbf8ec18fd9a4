"""References enough for the scorers of a run."""

import pytest

from system.config import DataConfig, ScorerConfig
from system.errors import WheeltapperError
from system.machine_scores import check_references
from system.manifest import Clip

RATE = 100


def recordings(*groups: str, seconds: int = 5) -> list[Clip]:
    return [
        Clip("", "Fan", "00", "train", f"{n}.wav", "", group=group, channels=1, rate=RATE, samples=seconds * RATE)
        for n, group in enumerate(groups)
    ]


@pytest.mark.parametrize(
    ("name", "settings", "groups", "found"),
    [
        ("mahalanobis", {}, ("", ""), 2),
        ("mahalanobis", {}, ("a", "a", "b", "b"), 2),
        ("ldn", {}, ("", ""), 2),
        ("knn", {}, ("",), 1),
    ],
)
def test_too_few(name, settings, groups, found):
    expected = f"Fan section 00: expected at least {found + 1} different .* scorer {name} of branch [ab] .* {found};"
    with pytest.raises(WheeltapperError, match=expected):
        check_references(
            recordings(*groups), {"a": ScorerConfig("knn", {}), "b": ScorerConfig(name, settings)}, DataConfig()
        )


@pytest.mark.parametrize(
    ("name", "groups"), [("mahalanobis", ("", "", "")), ("knn", ("", "")), ("knn", ("a", "a", "b"))]
)
def test_enough(name, groups):
    check_references(recordings(*groups), {"a": ScorerConfig(name, {})}, DataConfig())


def test_stretches_of_a_long_recording_are_references():
    check_references(recordings("", seconds=600), {"a": ScorerConfig("mahalanobis", {})}, DataConfig())
