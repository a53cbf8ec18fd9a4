"""The report beside the simple reference systems: rows, the sentence on all machines, and machines far below."""

import json

from report_runs import ODD, Page

from system.report import write_report


def with_references(folder, scores: dict[str, list[float]], left_out: dict | None = None) -> Page:
    """The page where reference systems reach scores on the two machines."""
    metrics = json.loads((folder / "metrics.json").read_text())
    systems = {}
    for name, values in scores.items():
        rows = {
            machine: {**dict.fromkeys(("AUC (source)", "AUC (target)", "AUC (all)", "pAUC"), value), "hmean": value}
            for machine, value in zip((ODD, "Pump"), values, strict=True)
        }
        overall = 2 / sum(1 / value for value in values)
        systems[name] = {"official_score": overall, "ci95": [0.5, 0.9], "per_machine": rows, "harmonic_mean": {}}
    metrics["references"] = {"systems": systems, "left_out": left_out or {}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_rows_and_sentences(folder):
    own = json.loads((folder / "metrics.json").read_text())["systems"]
    best = max(own.values(), key=lambda found: found["official_score"])
    page = with_references(folder, {"logmel_knn": [0.5, 0.999], "logmel_mahalanobis": [0.6, 0.6]})
    rows = page.tables["Systems"][1:]
    assert [row[0] for row in rows[2:]] == ["logmel_knn", "logmel_mahalanobis"]
    assert rows[3][1:6] == ["60.00", "50.00 – 90.00", "60.00", "60.00", "60.00"]
    text = " ".join(page.sections["headline"].split())
    side = "below" if best["official_score"] < 2 / (1 / 0.5 + 1 / 0.999) else "not below"
    assert f"The best system is {side} the best of 2 simple reference systems on the same clips" in text
    pump = best["per_machine"]["Pump"]["hmean"]
    assert pump < 0.969
    assert f"Pump ({100 * pump:.1f} against 99.9 % of logmel_knn)" in text


def test_no_common_score_of_other_machines_and_nothing_without_references(folder):
    page = with_references(folder, {"logmel_knn": [0.999, 0.5]}, {"Pump section 00": "silence"})
    text = page.sections["headline"]
    assert "The best system is" not in text
    assert "More than 3 points below the best reference system" in text
    without = Page(write_report(folder).read_text(encoding="utf-8"))
    assert len(without.tables["Systems"]) == len(page.tables["Systems"])
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["references"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    bare = Page(write_report(folder).read_text(encoding="utf-8"))
    assert len(bare.tables["Systems"]) == 3
    assert "reference system" not in bare.sections["headline"]
