"""Charts of the page of a tuning."""

import numpy as np
import pytest
from test_tuning_objective import SPACE, choices, objective_of

from system.config import TuneConfig
from system.tuning import page, results


def test_importance_finds_the_settings_that_decide():
    objective, points = objective_of(), SPACE.design(8000, 0, choices()[0])
    points = points[SPACE.spread(len(points))]
    effect = np.array([0.0, 0.3, 0.6])[points.scorers[:, 0]]
    noise = np.random.default_rng(0).normal(0, 0.1, len(points))
    shares = page.importance(objective, points, effect + noise)
    # The variance of three equally frequent levels is 0.06, that of the noise 0.01.
    assert shares["main: scorer"] == pytest.approx(6 / 7, abs=0.03)
    assert max(value for name, value in shares.items() if name != "main: scorer") < 0.01
    by_view = page.importance(objective, points, points.views.astype(float))
    assert by_view["view"] == pytest.approx(1.0)
    assert page.importance(objective, points, np.full(len(points), 0.5))["view"] == 0.0


def test_the_page_needs_nothing_else_and_escapes_names(tmp_path):
    objective = objective_of(("fan", "<b>pump</b>"))
    points = SPACE.design(40, 0, choices()[0])
    found = {"all": (points, objective.measures(points))}
    tuned = results.conclude(objective, found, points[[0]], 20, 0)
    page.write_page(tmp_path / "tune.html", objective, found, tuned, TuneConfig(trials=40))
    text = (tmp_path / "tune.html").read_text(encoding="utf-8")
    assert "<b>pump" not in text
    assert "&lt;b&gt;pump" in text
    assert "http" not in text
    assert "nan" not in text.lower().replace("resonan", "")
    for figures in (tuned.untuned, tuned.cross_validated, tuned.in_sample):
        assert f"{100 * figures['official_score']:.2f}" in text
    assert f"by\n{100 * tuned.optimism:.2f} points" in text
