"""Anomaly detection by RMIS and SIREN: the official figures of 2023, and every other year against scikit-learn."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score

from system.benchmarks import rmis_ad, siren_ad
from system.benchmarks.embedding_tables import Machines, read_machines
from system.errors import WheeltapperError

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "benchmarks" / "rmis_ad"
REFERENCE = json.loads((FIXTURE / "reference.json").read_text())
SCORES = np.load(FIXTURE / "reference.npz")
COLUMNS = {"auc_source": "AUC (source)", "auc_target": "AUC (target)", "pauc": "pAUC", "hmean": "hmean"}


@pytest.fixture(scope="module")
def fixture() -> Machines:
    return read_machines(FIXTURE / "data.npz")


def toy(seed: int = 0) -> Machines:
    """Two machines per subset, two sections per machine; anomalies are distant from normal clips."""
    generator = np.random.default_rng(seed)
    rows = []
    for subset, machine in (("dev", "fan"), ("dev", "pump"), ("eval", "saw"), ("eval", "drill")):
        for section in ("00", "01"):
            rows += [(subset, machine, "train", section, domain, 0) for domain in [0] * 20 + [1] * 6]
            rows += [(subset, machine, "test", section, i % 2, i // 2 % 2) for i in range(60)]
    subset, machine, split, section = (np.array([row[i] for row in rows]) for i in range(4))
    domain, anomaly = (np.array([row[i] for row in rows]) for i in (4, 5))
    embeddings = generator.normal(size=(len(rows), 6)) + 2.0
    embeddings[:, 0] += 1.5 * domain
    embeddings[:, 1] += anomaly * generator.uniform(0, 4, len(rows))
    files = np.array([f"{i}.wav" for i in range(len(rows))])
    return Machines(embeddings, files, machine, subset, split, section, domain, anomaly == 1)


def scores_of(clips: Machines, rows: np.ndarray, banks, normalised: bool) -> tuple[np.ndarray, np.ndarray]:
    """Test rows of a section and their scores, from the formulas."""
    unit = clips.embeddings / np.linalg.norm(clips.embeddings, axis=1, keepdims=True)
    train, test = (rows[clips.split[rows] == split] for split in ("train", "test"))
    found = []
    for domains in banks:
        memory = train[np.isin(clips.domain[train], domains)]
        found.append([min(1 - unit[memory] @ unit[i]) for i in test])
        if normalised:
            found[-1] = (np.array(found[-1]) - np.mean(found[-1])) / np.std(found[-1])
    return test, np.min(found, axis=0)


def areas_of(clips: Machines, test: np.ndarray, scores: np.ndarray, rule: str) -> list[float]:
    """AUC and pAUC: ``all``, ``wise`` by domain, ``rule`` of 2022, ``own`` anomalies alone."""
    truth, domain = clips.anomalous[test], clips.domain[test]
    everyone = np.ones(len(test), bool)
    halves = [domain == 0, domain == 1]
    wholes = [truth | half for half in halves]
    auc, partial = {
        "all": ([everyone], [everyone]),
        "wise": (halves, halves),
        "rule": (wholes, [everyone]),
        "own": (halves, [everyone]),
    }[rule]
    return [roc_auc_score(truth[rows], scores[rows]) for rows in auc] + [
        roc_auc_score(truth[rows], scores[rows], max_fpr=0.1) for rows in partial
    ]


def nested(clips: Machines, banks, normalised: bool, rule: str, mean) -> dict[str, float]:
    """Means over AUCs, sections and machines."""
    found = {}
    for subset in ("dev", "eval"):
        machines = []
        for machine in np.unique(clips.machine[clips.subset == subset]):
            sections = []
            for section in ("00", "01"):
                rows = np.flatnonzero((clips.machine == machine) & (clips.section == section))
                sections.append(mean(areas_of(clips, *scores_of(clips, rows, banks, normalised), rule)))
            machines.append(mean(sections))
        found[subset] = 100 * mean(machines)
    return found


@pytest.mark.parametrize(("mode", "case"), [("as-coded", "as_coded"), ("clean", "without_z_norm")])
def test_equals_the_official_table(fixture, mode, case):
    found, expected = rmis_ad.detect(fixture, 2023, mode), REFERENCE[case]
    assert round(found.total, 2) == expected["total"]
    for name, subset in found.subsets.items():
        table = expected[name]
        assert round(subset.score, 2) == table["subset"]
        assert list(subset.machines) == list(table["machines"])
        for machine, columns in subset.machines.items():
            for key, column in COLUMNS.items():
                assert round(columns[column], 2) == table["machines"][machine][key]
        for key, column in COLUMNS.items():
            assert round(subset.mean[column], 2) == table["hmean_over_machines"][key]


def test_equals_the_official_scores(fixture):
    for mode, kind in (("as-coded", "official"), ("clean", "raw_own")):
        found = rmis_ad.detect(fixture, 2023, mode)
        for scores, name in ((found.bank_scores[0], "source"), (found.bank_scores[1], "target"), (found.scores, "min")):
            np.testing.assert_allclose(scores, SCORES[f"score_{name}_{kind}"], atol=1e-5)


def test_as_coded_figures_are_rounded(fixture):
    for mode in ("as-coded", "clean"):
        found = rmis_ad.detect(fixture, 2023, mode)
        figures = [found.total, found.subsets["dev"].score, *found.subsets["eval"].machines["Vacuum"].values()]
        assert all(value == round(value, 2) for value in figures) == (mode == "as-coded")


@pytest.mark.parametrize(
    ("year", "mode", "banks", "normalised", "rule", "mean"),
    [
        (2020, "as-coded", [(0, 1)], False, "all", np.mean),
        (2020, "clean", [(0, 1)], False, "all", np.mean),
        (2021, "as-coded", [(0, 1)], False, "wise", hmean),
        (2021, "clean", [(0,), (1,)], False, "wise", hmean),
        (2022, "as-coded", [(0,), (1,)], True, "rule", hmean),
        (2022, "clean", [(0,), (1,)], False, "rule", hmean),
        (2025, "as-coded", [(0,), (1,)], True, "rule", hmean),
    ],
)
def test_every_year(year, mode, banks, normalised, rule, mean):
    clips = toy()
    found, expected = rmis_ad.detect(clips, year, mode), nested(clips, banks, normalised, rule, mean)
    for name, value in expected.items():
        assert found.subsets[name].score == pytest.approx(value, abs=0.006 if mode == "as-coded" else 1e-9)
    assert found.total == pytest.approx(mean(list(expected.values())), abs=0.011 if mode == "as-coded" else 1e-9)
    assert set(found.subsets["dev"].sections["fan"]) == {"00", "01"}
    assert len(found.bank_scores) == len(banks)
    assert (np.nanmin(found.bank_scores) < 0) == normalised


@pytest.mark.parametrize(
    ("year", "mode", "banks", "rule", "mean"),
    [
        (2020, "as-coded", [(0, 1)], "all", np.mean),
        (2021, "as-coded", [(0,), (1,)], "wise", hmean),
        (2022, "as-coded", [(0,), (1,)], "own", hmean),
        (2024, "clean", [(0,), (1,)], "rule", hmean),
    ],
)
def test_one_mean_over_all(year, mode, banks, rule, mean):
    clips = toy(1)
    values: dict[str, list[float]] = {}
    for machine in ("fan", "pump", "saw", "drill"):
        for section in ("00", "01"):
            rows = np.flatnonzero((clips.machine == machine) & (clips.section == section))
            values.setdefault(machine, []).extend(areas_of(clips, *scores_of(clips, rows, banks, False), rule))
    found = siren_ad.detect(clips, year, mode)
    assert found.score == pytest.approx(100 * mean([value for own in values.values() for value in own]))
    assert found.means["eval"]["drill"] == pytest.approx(100 * mean(values["drill"]))
    assert list(found.sections["dev"]["pump"]["01"].values()) == pytest.approx(
        100 * np.array(values["pump"][-len(values["pump"]) // 2 :])
    )


def test_what_changes_in_words():
    assert [len(rmis_ad.changes("clean", year)) for year in range(2020, 2026)] == [1, 2, 2, 2, 2, 2]
    assert [len(siren_ad.changes("clean", year)) for year in range(2020, 2026)] == [0, 0, 1, 1, 1, 1]
    assert not any(each.changes("as-coded", year) for each in (rmis_ad, siren_ad) for year in range(2020, 2026))


def test_one_subset_has_no_total(fixture):
    kept = fixture.subset == "dev"
    part = Machines(*(getattr(fixture, name)[kept] for name in fixture.__dataclass_fields__))
    found = rmis_ad.detect(part, 2023, "as-coded")
    assert found.total is None
    assert found.subsets["dev"].score == REFERENCE["as_coded"]["dev"]["subset"]


@pytest.mark.parametrize("detect", [rmis_ad.detect, siren_ad.detect])
def test_what_is_missing_is_named(fixture, detect):
    def without(machine: str, split: str, domain: int) -> Machines:
        own = (fixture.machine == machine) & (fixture.split == split)
        return replace(fixture, domain=np.where(own, 1 - domain, fixture.domain))

    healthy = replace(fixture, anomalous=np.zeros(len(fixture.files), bool))
    for clips, year, text in (
        (fixture, 2019, "year: expected 2020 to 2025, found 2019"),
        (without("Vacuum", "train", 1), 2023, "eval Vacuum section 0: expected training clips of the target"),
        (without("fan", "test", 0), 2023, r"dev fan section 0: AUC .source.: expected normal test clips of the source"),
        (healthy, 2023, "expected anomalous test clips"),
    ):
        with pytest.raises(WheeltapperError, match=text):
            detect(clips, year)
