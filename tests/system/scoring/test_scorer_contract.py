"""What every scorer must do, whoever wrote it; one of the list is a stranger with the documented methods alone."""

import csv
import json
import zipfile
from pathlib import Path

import development_runs as toy
import numpy as np
import pytest
import yaml

from system import scoring
from system.bin import main
from system.errors import WheeltapperError
from system.scoring.precomputed import PrecomputedScorer

CONF = {
    "branches": {"main": {"inputs": ["near"], "spectrum": {"merge": 16}, "scorer": {"name": "stranger"}}},
    "systems": [{"name": "Strange", "abbreviation": "str", "weights": {"main": 1.0}}],
    "evaluate": {"bootstrap": 20},
}


class Stranger:
    """Distance to the mean: sums in the precision and the order in which the rows come."""

    def fit(self, references, domains):
        self.rows = references.reshape(len(references), -1)

    def score(self, embeddings):
        return np.linalg.norm(embeddings.reshape(len(embeddings), -1) - self.rows.mean(0), axis=1)

    def reference_scores(self):
        rows = self.rows
        return np.array([np.linalg.norm(rows[i] - np.delete(rows, i, 0).mean(0)) for i in range(len(rows))])


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(scoring.SCORERS, "stranger", Stranger)


@pytest.fixture(params=[*scoring.SCORERS, "stranger"])
def name(request) -> str:
    return request.param


def rows(count: int, seed: int, bands: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 0.3, size=(count, bands, 4))


def fitted(name: str, references: np.ndarray):
    scorer = scoring.build(name)
    scorer.fit(references, np.array(["source", "source", "source", "target"] * len(references))[: len(references)])
    return scorer


def test_scores(name):
    references, fresh = rows(24, seed=0), rows(7, seed=1)
    kept = references.copy(), fresh.copy()
    scorer = fitted(name, references)
    found, own = scorer.score(fresh), scorer.reference_scores()
    assert (found.shape, own.shape) == ((7,), (24,))
    assert np.isfinite(found).all()
    assert np.isfinite(own).all()
    np.testing.assert_array_equal(references, kept[0])  # what it is handed stays as it is
    np.testing.assert_array_equal(fresh, kept[1])
    alone = np.concatenate([scorer.score(fresh[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(alone, found, rtol=1e-9)  # no statistic of test clips
    np.testing.assert_allclose(fitted(name, references).score(fresh), found, rtol=0)  # nothing random


def test_the_order_of_the_references_does_not_count(name):
    references, fresh = rows(24, seed=0), rows(7, seed=1)
    scorer, order = scoring.build(name), np.random.default_rng(2).permutation(24)
    domains = np.array(["source", "source", "source", "target"] * 6)
    scorer.fit(references[order], domains[order])
    first = fitted(name, references)
    np.testing.assert_allclose(scorer.score(fresh), first.score(fresh), rtol=1e-9)
    np.testing.assert_allclose(scorer.reference_scores(), first.reference_scores()[order], rtol=1e-9)


def test_an_odd_reference_is_odd(name):
    """Each is scored without itself, so that one far from all others stands out, as it does as a new clip."""
    references = rows(24, seed=0)
    scorer = fitted(name, references)
    usual = scorer.score(rows(50, seed=3)).max()
    references[5] += [2, 60, 2, 2]
    assert scorer.score(references[5:6])[0] > usual
    odd = fitted(name, references).reference_scores()
    assert odd.argmax() == 5
    if scoring.SCORERS[name] is not PrecomputedScorer:
        assert odd[5] > 2 * np.delete(odd, 5).max()


def test_the_stages_and_new_recordings(tmp_path, monkeypatch):
    """From recordings to a package, and the verdicts of ``score`` on the run's own clips under other names."""
    monkeypatch.chdir(tmp_path)
    Path("conf.yaml").write_text(yaml.safe_dump(CONF | {"data": {"synthetic": "tiny"}}))
    assert main(["run", "--exp", "exp", "--conf", "conf.yaml", "--data", "synthetic", "--stop-stage", "7"]) == 0
    (label,) = (path.name for path in Path("exp/systems").iterdir())
    with zipfile.ZipFile(next(Path("exp").glob("*.zip"))) as archive:
        meta = next(
            archive.read(entry).decode() for entry in archive.namelist() if entry.endswith(f"{label}.meta.yaml")
        )
    assert "stranger" in meta
    clips = sorted(Path("exp/data/SimFan/test").glob("*.wav"))
    assert main(["score", "--exp", "exp", "--csv", "new.csv", *map(str, clips)]) == 0
    with open("new.csv", newline="", encoding="utf-8") as file:
        found = {Path(row["file"]).name: float(row["score"]) for row in csv.DictReader(file)}
    with open(f"exp/systems/{label}/anomaly_score_SimFan_section_00_test.csv", newline="", encoding="utf-8") as file:
        expected = {name: float(score) for name, score in csv.reader(file)}
    assert found == pytest.approx(expected, abs=1e-4)


def test_tuning_tries_it(tmp_path):
    exp = toy.make_run(tmp_path / "run", tune={"scorers": {"stranger": {}, "knn": {"k": [1]}}, "trials": 20}).folder
    assert main(["tune", str(exp), "--out", str(tmp_path / "out")]) == 0
    assert "stranger" in json.dumps(json.loads((tmp_path / "out" / "tune.json").read_text()))


def test_what_a_constructor_needs_is_said(monkeypatch):
    class Needy(Stranger):
        def __init__(self, width: int):
            self.width = width

    monkeypatch.setitem(scoring.SCORERS, "needy", Needy)
    with pytest.raises(WheeltapperError, match=r"scorer needy: .*width"):
        scoring.build("needy")
    assert [text for _, text in scoring.problems("needy", {"width": "wide"})] == [
        "expected a whole number, found 'wide'"
    ]
