"""The simulation of false alarms: its machines, and its rates against thresholds and scores taken by themselves."""

from pathlib import Path

import numpy as np
import pytest

from system import scoring
from system.scoring import calibrate

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import false_alarm_study

    monkeypatch.setattr(false_alarm_study, "TESTS", 100)
    return false_alarm_study


def test_sixteen_kinds_of_machines(study):
    assert len(study.SETTINGS) == 16
    assert {setting.scorer for setting in study.SETTINGS} >= {"mahalanobis", "knn", "ldn", "lof"}
    assert {setting.source for setting in study.SETTINGS} >= {3, 990}


def test_machines_are_as_described(study):
    setting = study.Setting("knn", {}, 10, 10, shift=3.0, dim=32)
    draw = study.machine(setting, np.random.default_rng(0))
    source, target, faulty = draw(4000, "source"), draw(4000, "target"), draw(4000, "source", 2.0)
    widest = np.sqrt(np.linalg.eigvalsh(np.cov(source.T))[-1])
    assert widest == pytest.approx(1.0, abs=0.2)
    assert np.linalg.norm(target.mean(0) - source.mean(0)) > 1.0
    assert 2.0 < np.linalg.norm(faulty.mean(0) - source.mean(0)) < 4.5
    heavy = study.machine(study.Setting("knn", {}, 10, heavy=True), np.random.default_rng(0))(4000, "source")
    kurtosis = [np.mean((x - x.mean(0)) ** 4) / np.mean((x - x.mean(0)) ** 2) ** 2 for x in (source[:, 0], heavy[:, 0])]
    assert kurtosis[1] > kurtosis[0] + 1


def test_rates_are_those_of_the_program(study):
    setting = study.Setting("knn", {"k": 1}, 20, 6, dim=16)
    found = study.judge(setting, (1,))
    draw = study.machine(setting, np.random.default_rng((1,)))
    references = np.concatenate([draw(20, "source"), draw(6, "target")])
    domains = np.array(["source"] * 20 + ["target"] * 6)
    healthy = {name: draw(100, name) for name in ("source", "target")}
    scorer = scoring.build("knn", k=1).fit(references, domains)
    limit = calibrate.threshold(scorer.reference_scores(), domains, 0.1)
    rates = {name: np.mean(scorer.score(rows) > limit) for name, rows in healthy.items()}
    assert [found[f"now {name}"] for name in rates] == list(rates.values())
    assert found["now both"] == np.mean(list(rates.values()))


def test_the_summary(study):
    machines = [
        {"before both": 0.0, "before source": 0.0, "now both": n / 10, "now source": 0.1}
        | {"before found": 0.5, "now found": 1.0, "in range": float(n > 0)}
        for n in range(5)
    ]
    row = study.summary({"scorer": "a"}, machines)
    assert [row[f"both, now{part}"] for part in ("", " low", " high", " worst")] == ["20.0", "4.0", "36.0", "40.0"]
    assert (row["source, now"], row["target, now"], row["target, now worst"]) == ("10.0", "", "")
    assert (row["faults found, before"], row["faults found, now"], row["in range"]) == ("50", "100", "80")
