"""Metrics against the official evaluator's output, scikit-learn and published tables."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from system.corpora.challenge import rule_of_year
from system.errors import WheeltapperError
from system.evaluation import challenge_csv, intervals, metrics, roc, truth
from system.evaluation.truth import Truth

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "metrics"
CASE = FIXTURES / "case1"


def read_case() -> tuple[dict, dict, list[Truth]]:
    files = challenge_csv.list_folder(CASE / "system")
    tables = {kind: {} for kind in challenge_csv.KINDS}
    for (kind, machine, section), path in files.items():
        tables[kind][machine, section] = dict(challenge_csv.read(path, kind))
    return tables[challenge_csv.SCORE], tables[challenge_csv.DECISION], truth.read_truth(CASE / "truth.csv")


def make_clips(seed=0, machines=("fan", "valve"), sections=("00",), per_cell=(7, 5, 9, 4), levels=6):
    """Random scores with many ties, decisions and truth; ``per_cell`` clips of each domain and label."""
    rng = np.random.default_rng(seed)
    clips, scores, decisions = [], {}, {}
    cells = [("source", "normal"), ("target", "normal"), ("source", "anomaly"), ("target", "anomaly")]
    for machine in machines:
        for section in sections:
            kinds = [cell for cell, count in zip(cells, per_cell, strict=True) for _ in range(count)]
            files = [f"section_{section}_{index:04d}.wav" for index in rng.permutation(len(kinds))]
            clips += [Truth(machine, section, file, *kind) for file, kind in zip(files, kinds, strict=True)]
            values = rng.integers(levels, size=len(kinds)) + np.array([kind[1] == "anomaly" for kind in kinds])
            scores[machine, section] = dict(zip(files, values.astype(float).tolist(), strict=True))
            decisions[machine, section] = {file: int(value > 3) for file, value in scores[machine, section].items()}
    return scores, decisions, clips


def columns(scores: dict, clips: list[Truth]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, anomalous, domain of clips, in the order of the clips."""
    values = np.array([scores[clip.machine, clip.section][clip.file] for clip in clips])
    return values, np.array([c.label == "anomaly" for c in clips]), np.array([c.domain for c in clips])


def test_equal_to_the_official_evaluator():
    expected = json.loads((CASE / "reference.json").read_text())
    found = metrics.evaluate(*read_case(), rule_of_year(2024))
    assert found["official_score"] == pytest.approx(expected["official_score"], abs=1e-9)
    assert found["legacy_ci95"] == pytest.approx(expected["legacy_ci95"], rel=1e-9)
    assert found["per_machine"].keys() == expected["per_machine"].keys()
    for machine, values in expected["per_machine"].items():
        assert len(values) == 10
        for name, value in values.items():
            assert found["per_machine"][machine][name] == pytest.approx(value, abs=1e-9), (machine, name)
    low, high = found["ci95"]
    assert low < found["official_score"] < high


PUBLISHED = {
    "MSE": 56.663,
    "MAHALA": 57.656,
    "task2_1": 61.426,
    "task2_2": 61.276,
    "task2_3": 61.269,
    "task2_4": 61.041,
}


@pytest.mark.parametrize("system", PUBLISHED)
def test_official_score_of_published_development_tables(system):
    sections = {}
    with open(FIXTURES / "published_2026_development.csv", newline="") as file:
        for row in csv.DictReader(file):
            sections.setdefault((row["machine"], "00"), {})[row["measure"]] = float(row[system]) / 100
    assert sum(map(len, sections.values())) == 21
    found = 100 * metrics.official_score(sections, rule_of_year(2026))
    assert found == pytest.approx(PUBLISHED[system], abs=5e-4)


@pytest.mark.parametrize(
    ("source", "target", "partial", "expected"),
    [
        (
            (0.7126, 0.5902, 0.6484, 0.6948, 0.6714),
            (0.4680, 0.6434, 0.6142, 0.8838, 0.4402),
            (0.5511, 0.5979, 0.5811, 0.6179, 0.5089),
            0.59803,
        ),
        (
            (0.7276, 0.4398, 0.6034, 0.6766, 0.6980),
            (0.5428, 0.3940, 0.4376, 0.8720, 0.4510),
            (0.5926, 0.5279, 0.5058, 0.6389, 0.4947),
            0.54763,
        ),
    ],
)
def test_official_score_of_the_published_baselines_on_the_evaluation_set(source, target, partial, expected):
    sections = {
        (f"machine {index}", "00"): {"AUC (source)": s, "AUC (target)": t, "pAUC": p}
        for index, (s, t, p) in enumerate(zip(source, target, partial, strict=True))
    }
    # The areas are published to four digits, and so known to 5e-5 each.
    assert metrics.official_score(sections) == pytest.approx(expected, abs=2e-5)


scored_clips = st.integers(1, 40).flatmap(
    lambda levels: st.lists(st.tuples(st.integers(0, levels), st.booleans()), min_size=2, max_size=120)
)


@settings(max_examples=150, deadline=None)
@given(scored_clips, st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.99]))
def test_auc_and_partial_auc_equal_to_sklearn(clips, max_fpr):
    scores, anomalous = np.array([c[0] for c in clips]) / 7, np.array([c[1] for c in clips])
    if anomalous.all() or not anomalous.any():
        anomalous[0] = not anomalous[0]
    assert roc.auc(scores, anomalous) == pytest.approx(roc_auc_score(anomalous, scores), abs=1e-12)
    expected = roc_auc_score(anomalous, scores, max_fpr=max_fpr)
    assert roc.partial_auc(scores, anomalous, max_fpr) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 16), st.integers(2, 12), st.integers(1, 20))
def test_leave_one_out_equal_to_sklearn(seed, normals, anomalies, levels):
    rng = np.random.default_rng(seed)
    anomalous = rng.permutation(np.arange(normals + anomalies) < anomalies)
    scores = rng.integers(levels, size=len(anomalous)) / 3
    full, partial = roc.leave_one_out(scores, anomalous)
    for index in range(len(anomalous)):
        labels, values = np.delete(anomalous, index), np.delete(scores, index)
        assert full[index] == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
        assert partial[index] == pytest.approx(roc_auc_score(labels, values, max_fpr=0.1), abs=1e-12)


def test_partial_auc_by_hand():
    # 100 normal clips: the area to a false-positive rate of 0.1 is the mean over the 10 highest normal clips of the
    # share of anomalous clips above each, times 0.1.
    rng = np.random.default_rng(3)
    normal, anomalous = rng.normal(size=100), rng.normal(1, 1, size=100)
    area = 0.1 * np.mean([np.mean(anomalous > value) for value in np.sort(normal)[-10:]])
    expected = 0.5 * (1 + (area - 0.005) / (0.1 - 0.005))
    found = roc.partial_auc(np.concatenate([normal, anomalous]), np.arange(200) >= 100)
    assert found == pytest.approx(expected, abs=1e-12)
    assert roc.partial_auc(np.array([0.0, 1.0]), np.array([False, True])) == 1.0
    assert roc.partial_auc(np.array([0.0, 0.0]), np.array([False, True])) == 0.5
    assert roc.partial_auc(np.array([1.0, 0.0]), np.array([False, True])) == pytest.approx(0.4736842105263158)


@pytest.mark.parametrize("degrees", [1, 2, 5, 39, 1593, 20000])
def test_student_t_quantile_equal_to_scipy(degrees):
    from scipy.stats import t

    assert intervals.student_t_quantile(degrees) == pytest.approx(t.ppf(0.975, degrees), rel=1e-10)


def test_legacy_interval_needs_two_clips_of_each_class():
    assert intervals.legacy_half_width(np.arange(4.0), np.array([False, False, False, True])) is None
    assert intervals.legacy_half_width(np.arange(4.0), np.array([False, True, False, True])) > 0


def test_rule_of_2022_counts_all_anomalies_against_each_domain():
    scores, _, clips = make_clips()
    found = metrics.evaluate(scores, None, clips, 2022, replicates=0)
    official = []
    for machine in ("fan", "valve"):
        values, anomalous, domain = columns(scores, [clip for clip in clips if clip.machine == machine])
        expected = {
            "AUC (all)": roc_auc_score(anomalous, values),
            "pAUC": roc_auc_score(anomalous, values, max_fpr=0.1),
        }
        for name in ("source", "target"):
            chosen = anomalous | (domain == name)
            expected[f"AUC ({name})"] = roc_auc_score(anomalous[chosen], values[chosen])
        three = [expected[name] for name in ("AUC (source)", "AUC (target)", "pAUC")]
        official += three
        assert found["per_machine"][machine] == pytest.approx(expected | {"hmean": 3 / sum(1 / v for v in three)})
    assert found["official_score"] == pytest.approx(6 / sum(1 / value for value in official))
    assert found["ci95"] is None
    assert found["harmonic_mean"]["pAUC"] == pytest.approx(2 / (1 / official[2] + 1 / official[5]))
    assert found["arithmetic_mean"]["pAUC"] == pytest.approx((official[2] + official[5]) / 2)


def test_rule_of_2021_stays_within_the_domain_and_averages_sections_harmonically():
    scores, _, clips = make_clips(1, sections=("00", "01", "02"))
    found = metrics.evaluate(scores, None, clips, 2021, replicates=50)
    official = {}
    for machine in ("fan", "valve"):
        for section in ("00", "01", "02"):
            chosen = [clip for clip in clips if (clip.machine, clip.section) == (machine, section)]
            values, anomalous, domain = columns(scores, chosen)
            for name in ("source", "target"):
                inside = domain == name
                for key, max_fpr in (("AUC", None), ("pAUC", 0.1)):
                    value = roc_auc_score(anomalous[inside], values[inside], max_fpr=max_fpr)
                    official[machine, section, f"{key} ({name})"] = value
                    assert found["per_machine"][machine]["sections"][section][f"{key} ({name})"] == pytest.approx(value)
    mean = found["per_machine"]["fan"]["pAUC (target)"]
    assert mean == pytest.approx(
        3 / sum(1 / official["fan", section, "pAUC (target)"] for section in ("00", "01", "02"))
    )
    assert found["official_score"] == pytest.approx(len(official) / sum(1 / value for value in official.values()))
    of_fan = [value for (machine, *_), value in official.items() if machine == "fan"]
    assert found["per_machine"]["fan"]["hmean"] == pytest.approx(len(of_fan) / sum(1 / value for value in of_fan))


def test_rule_of_2020_knows_no_domains_and_averages_ids_arithmetically():
    scores, decisions, clips = make_clips(2, machines=("fan",), sections=("00", "02", "04"))
    clips_of_valve = make_clips(3, machines=("valve",), sections=("00",))
    scores |= clips_of_valve[0]
    clips = [clip._replace(domain="") for clip in clips + clips_of_valve[2]]
    found = metrics.evaluate(scores, decisions, clips, 2020, replicates=50)
    per_machine = {}
    for machine in ("fan", "valve"):
        ids = sorted({clip.section for clip in clips if clip.machine == machine})
        pairs = []
        for section in ids:
            chosen = [clip for clip in clips if (clip.machine, clip.section) == (machine, section)]
            values, anomalous, _ = columns(scores, chosen)
            pairs.append([roc_auc_score(anomalous, values), roc_auc_score(anomalous, values, max_fpr=0.1)])
        per_machine[machine] = np.mean(pairs, axis=0)
        assert found["per_machine"][machine]["AUC (all)"] == pytest.approx(per_machine[machine][0])
        assert found["per_machine"][machine]["pAUC"] == pytest.approx(per_machine[machine][1])
        assert found["per_machine"][machine]["mean"] == pytest.approx(per_machine[machine].mean())
    assert found["official_score"] == pytest.approx(np.mean([value.mean() for value in per_machine.values()]))
    assert "AUC (source)" not in found["per_machine"]["fan"]
    assert "precision (all)" in found["per_machine"]["fan"]
    assert "precision (all)" not in found["per_machine"]["valve"]
    low, high = found["ci95"]
    assert low < found["official_score"] < high


def test_the_rule_of_every_year():
    found = [rule_of_year(year) for year in range(2020, 2027)]
    assert found == [2020, 2021, 2022, 2022, 2022, 2022, 2022]
    for year in (2019, 2027):
        with pytest.raises(WheeltapperError, match=f"year: expected one of 2020, .*, 2026, found {year}"):
            rule_of_year(year)


def test_decision_metrics_equal_to_sklearn_within_each_domain():
    scores, decisions, clips = make_clips(4)
    found = metrics.evaluate(scores, decisions, clips, replicates=0)["per_machine"]
    for machine in ("fan", "valve"):
        for name in ("source", "target"):
            chosen = [clip for clip in clips if (clip.machine, clip.domain) == (machine, name)]
            decided, anomalous, _ = columns(decisions, chosen)
            expected = precision_recall_fscore_support(anomalous, decided, average="binary", zero_division=0)[:3]
            keys = [f"{key} ({name})" for key in ("precision", "recall", "F1 score")]
            assert [found[machine][key] for key in keys] == pytest.approx(list(expected))


def test_a_perfect_and_a_worst_system():
    _, _, clips = make_clips(per_cell=(50, 50, 50, 50), machines=("fan",))
    scores = {("fan", "00"): {clip.file: float(clip.label == "anomaly") for clip in clips}}
    found = metrics.evaluate(scores, None, clips)
    assert found["official_score"] == 1.0
    assert found["ci95"] == [1.0, 1.0]
    worst = {("fan", "00"): {file: -score for file, score in scores["fan", "00"].items()}}
    found = metrics.evaluate(worst, None, clips)
    assert found["per_machine"]["fan"]["AUC (source)"] == 0.0
    # A harmonic mean with a zero is determined by the epsilon, not a division by zero.
    assert 0 < found["official_score"] < 1e-14


def test_row_order_changes_nothing():
    scores, decisions, clips = read_case()
    expected = metrics.evaluate(scores, decisions, clips)
    rng = np.random.default_rng(5)

    def shuffled(table):
        keys = list(table)
        return {keys[index]: table[keys[index]] for index in rng.permutation(len(keys))}

    scores = shuffled({key: shuffled(table) for key, table in scores.items()})
    decisions = shuffled({key: shuffled(table) for key, table in decisions.items()})
    clips = [clips[index] for index in rng.permutation(len(clips))]
    assert metrics.evaluate(scores, decisions, clips) == expected


def test_renaming_all_clips_consistently_changes_no_metric():
    scores, decisions, clips = read_case()
    expected = metrics.evaluate(scores, decisions, clips, replicates=0)
    names = {file: f"clip_{index}.wav" for index, file in enumerate(sorted({c.file for c in clips}, reverse=True))}
    scores = {key: {names[file]: value for file, value in table.items()} for key, table in scores.items()}
    decisions = {key: {names[file]: value for file, value in table.items()} for key, table in decisions.items()}
    clips = [clip._replace(file=names[clip.file]) for clip in clips]
    found = metrics.evaluate(scores, decisions, clips, replicates=0)
    assert found["per_machine"] == expected["per_machine"]
    assert found["official_score"] == expected["official_score"]
    assert found["legacy_ci95"] == pytest.approx(expected["legacy_ci95"], rel=1e-9)


@pytest.mark.parametrize("rule", metrics.RULES)
def test_bootstrap_replicates_equal_to_sklearn_on_the_drawn_clips(rule, monkeypatch):
    scores, _, clips = make_clips(6, sections=("00", "01"))
    draws = []
    original = intervals.resample_counts

    def recorded(*args):
        draws.append(original(*args))
        return draws[-1]

    seen = []
    interval = intervals.percentile_interval
    monkeypatch.setattr(intervals, "resample_counts", recorded)
    monkeypatch.setattr(intervals, "percentile_interval", lambda values: seen.append(values) or interval(values))
    found = metrics.evaluate(scores, None, clips, rule, replicates=8, seed=11)
    assert found["ci95"] == pytest.approx(np.quantile(seen[0], [0.025, 0.975]).tolist())
    assert len(draws) == 4
    for replicate, value in enumerate(seen[0]):
        drawn_scores, drawn_clips = {}, []
        for (machine, section), counts in zip(sorted(scores), draws, strict=True):
            table = drawn_scores[machine, section] = {}
            cells = [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")]
            for cell, row in zip(cells, counts[replicate], strict=True):
                for group, times in enumerate(row):
                    for _ in range(int(times)):
                        name = f"{len(table)}.wav"
                        table[name] = -float(group)
                        drawn_clips.append(Truth(machine, section, name, *cell))
        assert metrics.evaluate(drawn_scores, None, drawn_clips, rule, replicates=0)["official_score"] == pytest.approx(
            value, abs=1e-12
        )


def test_bootstrap_interval_near_a_plain_loop():
    scores, _, clips = make_clips(7, machines=("fan",), per_cell=(40, 30, 35, 45), levels=30)
    values, anomalous, domain = columns(scores, clips)
    rng = np.random.default_rng(12)
    strata = [np.flatnonzero((domain == d) & (anomalous == a)) for d in ("source", "target") for a in (False, True)]
    scored = []
    for _ in range(1500):
        drawn = np.concatenate([rng.choice(members, len(members)) for members in strata])
        value, label, where = values[drawn], anomalous[drawn], domain[drawn]
        above = value[label]
        areas = []
        for name in ("source", "target"):
            normal = value[~label & (where == name)]
            areas.append(np.mean((above[:, None] > normal) + 0.5 * (above[:, None] == normal)))
        areas.append(roc.partial_auc(value, label))
        scored.append(3 / sum(1 / area for area in areas))
    found = metrics.evaluate(scores, None, clips, replicates=4000, seed=1)
    # The 2.5 % point of 1500 draws has a standard error of about 2.7 / sqrt(1500) standard deviations.
    allowed = 4 * 2.7 / np.sqrt(1500) * np.std(scored)
    assert found["ci95"] == pytest.approx(np.quantile(scored, [0.025, 0.975]).tolist(), abs=allowed)
    assert allowed < 0.3 * (found["ci95"][1] - found["ci95"][0])


def test_bootstrap_is_a_function_of_its_seed_and_keeps_the_strata():
    scores, _, clips = make_clips(8)
    first = metrics.evaluate(scores, None, clips, seed=3)["ci95"]
    assert metrics.evaluate(scores, None, clips, seed=3)["ci95"] == first
    assert metrics.evaluate(scores, None, clips, seed=4)["ci95"] != first
    strata = [np.array([2, 0, 0]), np.array([], dtype=int), np.array([1])]
    counts = intervals.resample_counts(strata, 3, 200, np.random.default_rng(0))
    assert counts.shape == (200, 3, 3)
    np.testing.assert_array_equal(counts.sum(axis=2), np.tile([3, 0, 1], (200, 1)))
    assert (counts[:, 0, 1] == 0).all()
    assert counts[:, 0].mean(axis=0) == pytest.approx([2, 0, 1], abs=0.3)


@pytest.mark.parametrize(
    ("rule", "dropped", "message"),
    [
        (2022, {("target", "normal")}, r"fan section 00: AUC \(target\).* target domain labelled normal"),
        (2022, {("source", "normal")}, r"fan section 00: AUC \(source\).* source domain labelled normal"),
        (
            2022,
            {("source", "anomaly"), ("target", "anomaly")},
            r"fan section 00: .*at least one clip labelled anomaly, found none",
        ),
        (2021, {("target", "anomaly")}, r"AUC \(target\).* target domain labelled anomaly, found none"),
        (
            2020,
            {("source", "normal"), ("target", "normal")},
            r"at least one clip labelled normal, found none",
        ),
    ],
)
def test_a_group_without_clips_is_named(rule, dropped, message):
    scores, _, clips = make_clips()
    clips = [clip for clip in clips if clip.machine != "fan" or (clip.domain, clip.label) not in dropped]
    kept = {clip.file for clip in clips if clip.machine == "fan"}
    scores["fan", "00"] = {file: score for file, score in scores["fan", "00"].items() if file in kept}
    with pytest.raises(WheeltapperError, match=message):
        metrics.evaluate(scores, None, clips, rule)


def test_anomalies_of_one_domain_only_are_enough_for_the_rule_of_2022():
    scores, _, clips = make_clips(per_cell=(5, 5, 5, 0))
    assert 0 < metrics.evaluate(scores, None, clips)["official_score"] < 1
