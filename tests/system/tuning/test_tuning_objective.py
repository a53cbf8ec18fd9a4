"""Official scores of many choices at once against scikit-learn and the fusion of the pipeline."""

import development_runs as toy
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from system.evaluation.truth import Truth
from system.scoring import calibrate
from system.tuning.objective import Objective, ScoredSection, calibrated, strata
from system.tuning.space import Choice, Space

SPACE = Space(("near", "both"), ("sum", "minimum"), {"main": ("a", "b", "c"), "aux": ("a", "b")})


def truth_of(machine: str) -> tuple[Truth, ...]:
    return tuple(Truth(machine, "00", c.file, c.domain, c.label) for c in toy.clips_of(machine) if c.split == "test")


def objective_of(machines=("fan", "pump", "valve"), seed: int = 0, relabel: str = "") -> Objective:
    """Random scores with ties; the labels of one machine may be drawn again."""
    generator = np.random.default_rng(seed)
    units, count = [], 0
    for machine in machines:
        clips = truth_of(machine)
        if machine == relabel:
            shuffled = np.random.default_rng(99).permutation([clip.label for clip in clips])
            clips = tuple(clip._replace(label=str(label)) for clip, label in zip(clips, shuffled, strict=True))
        units.append(
            ScoredSection(0, machine, machine, "00", slice(count, count + len(clips)), strata(clips, True), clips)
        )
        count += len(clips)
    scores = {
        branch: np.round(generator.normal(size=(2, len(labels), count)), 1) for branch, labels in SPACE.scorers.items()
    }
    return Objective(SPACE, units, scores, 2026)


def choices() -> list[Choice]:
    return [
        Choice("near", "sum", {"main": "a", "aux": "b"}, {"main": 0.85, "aux": 0.15}),
        Choice("both", "sum", {"main": "c", "aux": "a"}, {"main": 0.3, "aux": 0.2}),
        Choice("both", "minimum", {"main": "c", "aux": "a"}, {"main": 1.0, "aux": 1.0}),
        Choice("near", "minimum", {"main": "b", "aux": "a"}, {"main": 0.0, "aux": 1.0}),
        Choice("near", "sum", {"main": "b", "aux": "a"}, {"main": 1.0, "aux": 0.0}),
    ]


def fused_by_hand(objective: Objective, choice: Choice) -> np.ndarray:
    view = SPACE.views.index(choice.view)
    tables = {
        branch: table[view, SPACE.scorers[branch].index(choice.scorers[branch])]
        for branch, table in zip(SPACE.scorers, objective.scores, strict=True)
    }
    used = {branch: weight for branch, weight in choice.weights.items() if weight > 0}
    if choice.fusion == "minimum":
        return np.min([tables[branch] for branch in used], axis=0)
    return calibrate.fuse(tables, used)


def test_fused_scores_are_those_of_the_pipeline_to_the_bit():
    objective = objective_of()
    fused = objective.fused(SPACE.points(choices()))
    for row, choice in zip(fused, choices(), strict=True):
        np.testing.assert_array_equal(row, fused_by_hand(objective, choice))


def test_measures_and_scores_are_those_of_scikit_learn():
    objective = objective_of()
    points = SPACE.points(choices())
    measures = objective.measures(points)
    assert measures.shape == (5, 3, 3)
    for number, choice in enumerate(choices()):
        fused, expected = fused_by_hand(objective, choice), []
        for unit in objective.units:
            scores = fused[unit.columns]
            anomalous = np.array([clip.label == "anomaly" for clip in unit.clips])
            for domain in ("source", "target"):
                kept = anomalous | np.array([clip.domain == domain for clip in unit.clips])
                expected.append(roc_auc_score(anomalous[kept], scores[kept]))
            expected.append(roc_auc_score(anomalous, scores, max_fpr=0.1))
        np.testing.assert_allclose(measures[number].ravel(), expected, atol=1e-12)
        assert objective.score(measures)[number] == pytest.approx(9 / np.sum(1 / np.array(expected)), abs=1e-12)
        some = objective.score(measures, ["fan", "valve"])[number]
        assert some == pytest.approx(6 / np.sum(1 / np.array(expected[:3] + expected[6:])), abs=1e-12)


def test_calibration_knows_training_clips_only():
    clips = toy.clips_of("fan") + toy.clips_of("pump")
    keys = sorted(clip.key for clip in clips)
    scores = np.random.default_rng(1).gamma(2.0, size=len(keys))
    first = calibrated(scores, keys)
    for machine in ("fan", "pump"):
        own = np.array([key[0] == machine and key[2] == "train" for key in keys])
        median = np.median(scores[own])
        scale = 1.4826 * np.median(np.abs(scores[own] - median))
        np.testing.assert_allclose(first[own], (scores[own] - median) / scale)
    louder = np.where([key[2] == "test" for key in keys], 100 * scores, scores)
    train = [key[2] == "train" for key in keys]
    np.testing.assert_array_equal(calibrated(louder, keys)[train], first[train])


def test_a_design_is_made_without_scores_and_begins_alike():
    first = choices()[0]
    long, short = SPACE.design(300, 3, first), SPACE.design(120, 3, first)
    for name in ("views", "fusions", "scorers", "weights"):
        np.testing.assert_array_equal(getattr(long, name)[:120], getattr(short, name))
    assert SPACE.choice(long, 0) == first
    alone = {(long.views[n], b, long.scorers[n, b]) for n in range(1, 11) for b in np.flatnonzero(long.weights[n])}
    assert alone == {(v, 0, s) for v in (0, 1) for s in (0, 1, 2)} | {(v, 1, s) for v in (0, 1) for s in (0, 1)}
    rest = long[11:]
    assert (rest.weights.max(axis=1) > 0).all()
    assert 0.1 < (rest[::2].weights[:, 0] == 0).mean() < 0.25
    assert np.bincount(rest[::2].scorers[:, 0]).min() > 40
    assert set(np.unique(rest.weights[rest.fusions == 1])) <= {0.0, 1.0}
    assert not np.array_equal(SPACE.design(300, 4, first).weights, long.weights)


def test_a_choice_survives_its_parameters():
    points = SPACE.design(50, 0, choices()[0])
    for row in range(len(points)):
        choice = SPACE.choice(points, row)
        assert SPACE.from_parameters(SPACE.parameters(choice)) == choice
        again = SPACE.points([choice])
        assert (again.weights == points.weights[row]).all()


def test_every_second_point_changes_little_of_what_is_configured():
    first = choices()[0]
    points, start = SPACE.design(2000, 0, first), SPACE.points([first])
    same = np.concatenate([points.scorers == start.scorers, points.weights == start.weights], axis=1).mean(axis=1)
    near, far = sorted([same[1000::2].mean(), same[1001::2].mean()], reverse=True)
    assert near > far + 0.3
    assert 0.75 < near < 0.95


def test_spread_points_are_those_that_keep_nothing():
    first = choices()[0]
    points, start = SPACE.design(2000, 0, first), SPACE.points([first])
    spread = points[SPACE.spread(2000)]
    assert (spread.scorers[:, 0] == start.scorers[0, 0]).mean() == pytest.approx(1 / 3, abs=0.03)
    assert len(spread) == (2000 - 11 + 1) // 2
    assert SPACE.spread(3).tolist() == [2]
