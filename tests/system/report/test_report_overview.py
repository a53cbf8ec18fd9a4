"""The first screen of a report, its sounds and maps, from a synthetic experiment folder."""

import re
from dataclasses import replace

import numpy as np
import pytest
from report_runs import ODD, Page, build

from system import manifest
from system.evaluation import challenge_csv
from system.report import maps, summary, write_report
from system.report.findings import collect_findings
from system.report.load_run import read_run


def test_the_first_screen_says_which_machines_are_judged_well():
    judgement = summary.Judgement
    assert judgement(0.93, [0.85, 0.97]).verdict == "well"
    assert judgement(0.7, [0.6, 0.8]).verdict == "partly"
    assert judgement(0.85, [0.49, 0.99]).verdict == "not"
    assert judgement(0.45, None).verdict == "not"
    assert judgement().verdict == "unknown"


def test_the_first_screen_counts_the_clips_to_listen_to(html, finished):
    run = read_run(finished)
    folder = finished / "systems" / run.best
    files = [path for key, path in challenge_csv.list_folder(folder).items() if key[0] == challenge_csv.DECISION]
    decided = [value for path in files for value in dict(challenge_csv.read(path, challenge_csv.DECISION)).values()]
    first = " ".join(Page(html).sections["headline"].split())
    assert f"{int(sum(decided))} of {len(decided)} clips" in first
    assert "not known Secret" in first


def test_the_interval_of_a_machine_is_that_of_a_bootstrap(finished):
    """Against plain resampling of the three AUCs with sklearn."""
    from sklearn.metrics import roc_auc_score

    run = read_run(finished)
    found = summary.judge(run)["Pump"]
    (unit,) = [unit for unit in run.development if unit.machine == "Pump"]
    rng = np.random.default_rng(5)
    strata = [np.flatnonzero((unit.domains == d) & (unit.anomalous == a)) for d in ("source", "target") for a in (0, 1)]
    values = []
    for _ in range(250):
        drawn = np.concatenate([rng.choice(members, len(members)) for members in strata])
        scores, labels, domains = unit.scores[drawn], unit.anomalous[drawn], unit.domains[drawn]
        areas = [roc_auc_score(labels[k], scores[k]) for d in ("source", "target") for k in [labels | (domains == d)]]
        areas.append(roc_auc_score(labels, scores, max_fpr=0.1))
        values.append(3 / np.sum(1 / np.maximum(areas, 1e-12)))
    assert found.score == pytest.approx(run.systems[run.best]["per_machine"]["Pump"]["hmean"])
    assert found.interval == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.06)


def test_an_unlabelled_run_says_what_to_listen_to_and_plays_it(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "tsne_each", lambda groups, seed: [vectors[:, :2] for vectors in groups])
    folder = build(tmp_path, development=(), evaluation=("One", "Two"))
    html = write_report(folder).read_text(encoding="utf-8")
    assert "of 24 clips" in " ".join(Page(html).sections["headline"].split())
    assert "Official score" not in Page(html).sections["headline"]
    assert html.count("<audio") == 8
    assert "truth not known" in " ".join(Page(html).sections["hint"].split())


def test_sound_is_cut_so_that_many_machines_fit_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "tsne_each", lambda groups, seed: [vectors[:, :2] for vectors in groups])
    folder = build(tmp_path, development=tuple(f"Machine{n:02d}" for n in range(15)), evaluation=())
    html = write_report(folder).read_text(encoding="utf-8")
    assert html.count("<audio") == 60
    assert html.count('<details class="unit" open') == 6
    assert len(html) < 1e7


def test_maps_are_coloured_by_kind_domain_attribute_and_alarm(folder):
    clips = manifest.read(folder / "manifest.csv")
    clips = [replace(c, attributes=f"speed_{n % 9}" if c.split == "train" else "") for n, c in enumerate(clips)]
    manifest.write(folder / "manifest.csv", clips)
    shown = maps.maps(read_run(folder))
    keys = {view["way"]: [text for _, text in view["key"]] for view in shown["units"][0]["views"]}
    assert list(keys) == list(maps.COLOURINGS)
    assert keys["kind"][:3] == ["healthy reference", "healthy test clip", "anomaly"]
    assert keys["domain"] == ["source domain", "target domain"]
    assert len(keys["attribute"]) == maps.MOST_VALUES + 1
    assert keys["attribute"][0].startswith("speed ")
    assert keys["attribute"][-2:] == ["4 others", "not known"]
    for view in shown["units"][0]["views"]:
        paths = re.findall(r'class="(?:circle|triangle)[^"]*" d="([^"]*)"', view["chart"])
        drawn = sum(path.count("M") for path in paths)
        assert drawn == 22


def test_a_branch_of_one_number_gives_way_to_the_next(folder):
    np.save(folder / "embeddings" / "main" / "two_channel.npy", np.ones((66, 1), np.float32))
    np.save(folder / "embeddings" / "main" / "near_only.npy", np.ones((66, 1), np.float32))
    run = read_run(folder)
    ensemble = next(label for label in run.systems if label.endswith("_1"))
    assert maps.maps(replace(run, best=ensemble))["branch"] == "aux"
    single = maps.maps(replace(run, best=next(label for label in run.systems if label.endswith("_2"))))
    assert "one number" in single


def test_findings_alike_are_told_once(folder):
    found = collect_findings(read_run(folder))
    assert f"{ODD}, Pump, Secret: only 2 normal references of the target domain." in found
