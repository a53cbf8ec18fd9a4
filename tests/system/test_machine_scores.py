"""References of a machine: enough for the scorers of a run, and copies among them."""

import numpy as np
import pytest

from system.config import DataConfig, ScorerConfig, SystemConfig
from system.errors import WheeltapperError
from system.evaluation import roc
from system.fused_scores import fuse_system
from system.machine_scores import check_references, score_machines
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


def judged(copies: int, jitter: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Test scores, their labels and the threshold, with every training clip so many times, nearly equal."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(70, 12))
    tests = np.concatenate([generator.normal(size=(40, 12)), generator.normal(size=(40, 12)) + 2.5])
    clips, embeddings = [], {}
    for number, vector in enumerate(vectors):
        for copy in range(copies):
            group, domain = f"{number}" * (copies > 1), "target" if number < 10 else "source"
            clips.append(Clip("", "Fan", "00", "train", f"{number}_{copy}", "", "normal", domain, group=group))
            embeddings[clips[-1].key] = vector + jitter * copy * generator.normal(size=12)
    for number, vector in enumerate(tests):
        clips.append(Clip("", "Fan", "00", "test", f"{number:02}", ""))
        embeddings[clips[-1].key] = vector
    config = ScorerConfig("mahalanobis", {"bank": "domain", "standardize": True})
    rows, thresholds = fuse_system(
        {"a": score_machines(clips, embeddings, config, 0)}, SystemConfig(weights={"a": 1.0}), 0.1
    )
    scores = np.array([row.score for row in rows if row.split == "test"])
    return scores, np.arange(80) >= 40, thresholds["Fan", "00"]


@pytest.mark.parametrize("jitter", [0.0, 0.01])
def test_every_training_clip_twice_changes_no_decision(jitter):
    once, labels, threshold = judged(1, 0.0)
    twice, _, other = judged(2, jitter)
    assert roc.auc(twice, labels) == pytest.approx(roc.auc(once, labels), abs=0.01)
    assert np.mean((twice > other) != (once > threshold)) <= 0.05
    assert np.corrcoef(once, twice)[0, 1] > 0.98
