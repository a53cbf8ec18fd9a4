"""Metrics where a domain or a label is missing, against scikit-learn and the official measures."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from system.errors import WheeltapperError
from system.evaluation import available, metrics
from system.evaluation.folder import table
from system.evaluation.truth import Truth

WHOLE = (("source", "normal"), ("source", "anomaly"), ("target", "normal"), ("target", "anomaly"))


def case(**machines):
    """Random scores and decisions of machines, each with 12 clips of each of its kinds."""
    rng = np.random.default_rng(1)
    scores, decisions, clips = {}, {}, []
    for machine, kinds in machines.items():
        own = [
            Truth(machine, "00", f"{n}.wav", *kind) for n, kind in enumerate(kind for kind in kinds for _ in range(12))
        ]
        values = [round(rng.normal() + (clip.label == "anomaly"), 1) for clip in own]
        scores[machine, "00"] = {clip.file: value for clip, value in zip(own, values, strict=True)}
        decisions[machine, "00"] = {name: int(value > 0.5) for name, value in scores[machine, "00"].items()}
        clips += own
    return scores, decisions, clips


def areas(scores, clips, machine: str, domain: str = "") -> tuple[float, float]:
    """AUC and partial AUC of a machine; with a domain over its normal clips and all anomalies."""
    own = [c for c in clips if c.machine == machine and (c.label == "anomaly" or c.domain == domain or not domain)]
    labels = [clip.label == "anomaly" for clip in own]
    values = [scores[machine, "00"][clip.file] for clip in own]
    return roc_auc_score(labels, values), roc_auc_score(labels, values, max_fpr=0.1)


def harmonic(values) -> float:
    return len(values) / sum(1 / value for value in values)


def test_nothing_changes_where_nothing_is_missing():
    of = case(fan=WHOLE, valve=WHOLE)
    assert available.evaluate(*of, replicates=50) == metrics.evaluate(*of, replicates=50)
    assert available.gaps(of[2], 2022) == {}


@pytest.mark.parametrize("domain", ["source", "target", ""])
def test_one_domain_or_none(domain):
    scores, decisions, clips = case(fan=[(domain, "normal"), (domain, "anomaly")])
    found = available.evaluate(scores, decisions, clips, replicates=200)
    auc, pauc = areas(scores, clips, "fan")
    assert (found["official_score"], found["ci95"]) == (None, None)
    row, other = found["per_machine"]["fan"], found[available.WITHOUT]
    assert (row["AUC (all)"], row["pAUC"]) == pytest.approx((auc, pauc), abs=1e-12)
    assert row[f"AUC ({domain or 'all'})"] == pytest.approx(auc, abs=1e-12)
    assert row[f"recall ({domain or 'all'})"] >= 0
    assert other["score"] == row[available.SCORE] == pytest.approx(harmonic([auc, pauc]), abs=1e-12)
    assert other["ci95"][0] < other["score"] < other["ci95"][1]
    assert available.main_score(found) == (other["score"], other["ci95"])
    assert "(no official score)" in table(found)


def test_machines_of_all_kinds_together():
    scores, decisions, clips = case(
        whole=WHOLE, source=WHOLE[:2], shifted=WHOLE[:3], normal=WHOLE[::2], anomaly=WHOLE[1:2]
    )
    found = available.evaluate(scores, decisions, clips, replicates=50)
    kept = [clip for clip in clips if clip.machine in ("whole", "shifted")]
    official = metrics.evaluate(scores, decisions, kept, replicates=50)
    assert {name: found[name] for name in ("official_score", "ci95")} == {
        name: official[name] for name in ("official_score", "ci95")
    }
    assert list(found["per_machine"]) == ["shifted", "source", "whole"]
    assert {name: found["per_machine"][name] for name in official["per_machine"]} == official["per_machine"]
    aucs, paucs = zip(*(areas(scores, clips, name) for name in ("shifted", "source", "whole")), strict=True)
    assert found[available.WITHOUT]["auc"] == pytest.approx(harmonic(aucs), abs=1e-12)
    assert found[available.WITHOUT]["pauc"] == pytest.approx(harmonic(paucs), abs=1e-12)
    assert found[available.WITHOUT]["score"] == pytest.approx(harmonic([*aucs, *paucs]), abs=1e-12)
    gaps = available.gaps(clips, 2022)
    assert gaps == {
        "anomaly section 00": "no normal test clip",
        "normal section 00": "no anomalous test clip",
        "source section 00": "no normal target test clip",
    }
    assert {clip.machine for clip in available.complete(clips, 2022)} == {"whole", "shifted"}


def test_a_target_of_anomalies_alone_has_an_auc_over_all_domains():
    scores, decisions, clips = case(fan=[*WHOLE[:2], WHOLE[3]])
    row = available.evaluate(scores, decisions, clips, replicates=0)["per_machine"]["fan"]
    assert (row["AUC (source)"], row["pAUC"]) == pytest.approx(areas(scores, clips, "fan", "source"), abs=1e-12)
    assert "AUC (target)" not in row


def test_nothing_to_measure_is_said_once_for_each_reason():
    scores, decisions, clips = case(**{f"m{k}": WHOLE[::2] for k in range(7)}, other=WHOLE[1:2])
    with pytest.raises(WheeltapperError, match="expected normal and anomalous test clips of some machine, found none"):
        available.evaluate(scores, decisions, clips)
    said = available.sentences(available.gaps(clips, 2022))
    assert said == [
        "no official score of "
        + ", ".join(f"m{k} section 00" for k in range(5))
        + " and 2 more: no anomalous test clip",
        "no official score of other section 00: no normal test clip",
    ]
