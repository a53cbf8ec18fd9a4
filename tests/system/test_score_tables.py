"""Scores of whole runs per machine and section, systems, files."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from system import scoring
from system.config import ScorerConfig, SystemConfig
from system.embeddings.files import read_rows as read_embeddings
from system.embeddings.files import write_array, write_index
from system.errors import WheeltapperError
from system.fused_scores import fuse_system
from system.machine_scores import score_machines
from system.manifest import Clip
from system.score_tables import ScoreRow, read_rows, write_rows, write_system
from system.scoring.knn import KnnScorer
from system.scoring.mahalanobis import MahalanobisScorer

CONFIG = ScorerConfig("mahalanobis", {"bank": "domain"})


def run(seed: int = 0, machines=("fan", "pump"), sections=("00",)) -> tuple[list[Clip], dict]:
    """Twelve source, six target references and eight test clips of each machine and section."""
    generator = np.random.default_rng(seed)
    clips, embeddings = [], {}
    for machine in machines:
        for section in sections:
            for i in range(26):
                split = "train" if i < 18 else "test"
                domain = "" if split == "test" else "source" if i < 12 else "target"
                name = f"section_{section}_{domain}_{split}_{i:04d}.wav"
                clip = Clip("toy", machine, section, split, name, name, "normal" if split == "train" else "", domain)
                clips.append(clip)
                embeddings[clip.key] = generator.normal(size=5) + 3 * (domain == "target")
    return clips, embeddings


def by_key(rows: list[ScoreRow]) -> dict:
    return {(r.machine, r.section, r.split, r.file): r.score for r in rows}


def test_scores_are_those_of_each_machine_and_section_alone():
    clips, embeddings = run(sections=("00", "01"))
    rows = by_key(score_machines(clips, embeddings, CONFIG, 0))
    assert len(rows) == 2 * 2 * 26
    for machine in ("fan", "pump"):
        for section in ("00", "01"):
            own = [clip for clip in clips if (clip.machine, clip.section) == (machine, section)]
            train, test = ([c for c in own if c.split == split] for split in ("train", "test"))
            scorer = MahalanobisScorer("domain")
            scorer.fit(np.stack([embeddings[c.key] for c in train]), np.array([c.domain for c in train]))
            for clip, score in zip(train, scorer.reference_scores(), strict=True):
                assert rows[clip.key] == pytest.approx(score, rel=1e-9)
            for clip, score in zip(test, scorer.score(np.stack([embeddings[c.key] for c in test])), strict=True):
                assert rows[clip.key] == pytest.approx(score, rel=1e-12)


def test_rows_are_sorted_and_name_no_domain_of_a_test_clip():
    clips, embeddings = run()
    clips = [replace(c, domain="target", label="anomaly") if c.split == "test" else c for c in clips]
    rows = score_machines(clips[::-1], embeddings, CONFIG, 0)
    assert [(r.machine, r.section, r.split, r.file) for r in rows] == sorted(by_key(rows))
    assert {r.domain for r in rows if r.split == "test"} == {""}
    assert {r.domain for r in rows if r.split == "train"} == {"source", "target"}


@pytest.mark.parametrize("scorer", ["mahalanobis", "knn"])
def test_labels_names_order_and_company_of_test_clips_do_not_count(scorer):
    clips, embeddings = run()
    config = ScorerConfig(scorer, {"bank": "domain", "standardize": True})
    expected = by_key(score_machines(clips, embeddings, config, 0))
    test = [clip for clip in clips if clip.split == "test"]
    train = [clip for clip in clips if clip.split == "train"]
    order = np.random.default_rng(1).permutation(len(test))
    renamed = {c.key: replace(c, file=f"{n:04d}.wav", label="anomaly", domain="target") for n, c in enumerate(test)}
    moved = {renamed[key].key: embeddings[key] for key in renamed} | {c.key: embeddings[c.key] for c in train}
    found = by_key(score_machines([*(renamed[test[i].key] for i in order), *train], moved, config, 5))
    for clip in test:
        assert found[renamed[clip.key].key] == pytest.approx(expected[clip.key], rel=1e-9)
        alone = by_key(score_machines([*train, clip], embeddings, config, 0))
        assert alone[clip.key] == pytest.approx(expected[clip.key], rel=1e-9)


def test_supplemental_clips_and_machines_without_tests():
    clips, embeddings = run()
    extra = [replace(clips[0], split="supplemental", file=f"{i}.wav", machine="fan") for i in range(3)]
    elsewhere = [replace(clips[0], split="supplemental", section="07")]
    trained = [clip for clip in clips if clip.machine == "fan" or clip.split == "train"]
    rows = by_key(score_machines([*trained, *extra, *elsewhere], embeddings, CONFIG, 0))
    assert {key[2] for key in rows} == {"train", "test"}
    assert not [key for key in rows if key[:3] == ("pump", "00", "test")]
    full = by_key(score_machines(clips, embeddings, CONFIG, 0))
    assert all(rows[key] == pytest.approx(full[key], rel=1e-9) for key in rows)


def test_a_bank_too_small_is_told(caplog):
    clips, embeddings = run(machines=("fan",))
    few = [clip for clip in clips if clip.domain != "target" or clip.file.endswith("0012.wav")]
    score_machines(few, embeddings, CONFIG, 0)
    assert "fan section 00: 1 reference of domain target, fewer than 6: one bank for all" in caplog.text


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        (lambda c: c.split == "test", "expected embedded training clips, found no normal training clip"),
        (lambda c: c.split == "test" or c.file.endswith("0000.wav"), "expected at least 3 clips, found 1"),
    ],
)
def test_missing_references(keep, text):
    clips, embeddings = run()
    with pytest.raises(WheeltapperError, match=f"pump section 00: .*{text}"):
        score_machines([c for c in clips if c.machine == "fan" or keep(c)], embeddings, CONFIG, 0)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_clip_that_was_not_embedded(split):
    clips, embeddings = run()
    lost = next(clip for clip in clips if clip.split == split)
    del embeddings[lost.key]
    with pytest.raises(
        WheeltapperError, match=rf"fan section 00: .* no embedding of {lost.file} \(run stage 3 again\)"
    ):
        score_machines(clips, embeddings, CONFIG, 0)


def test_references_that_are_not_finite():
    clips, embeddings = run()
    embeddings[clips[0].key] = np.full(5, np.nan)
    with pytest.raises(WheeltapperError, match="fan section 00: normal references: expected finite"):
        score_machines(clips, embeddings, CONFIG, 0)


def systems(seed: int = 0) -> dict[str, list[ScoreRow]]:
    clips, embeddings = run(seed)
    return {
        "main": score_machines(clips, embeddings, CONFIG, 0),
        "aux": score_machines(clips, embeddings, ScorerConfig("knn", {"k": 3}), 0),
    }


def plain_z(train: np.ndarray, scores: np.ndarray) -> np.ndarray:
    median = np.median(train)
    return (scores - median) / (1.4826 * np.median(np.abs(train - median)))


def test_fusion_by_hand():
    branches = systems()
    rows, thresholds = fuse_system(branches, SystemConfig(weights={"main": 0.85, "aux": 0.15}), 0.1)
    found = by_key(rows)
    for machine in ("fan", "pump"):
        total = 0.0
        for name, weight in (("main", 0.85), ("aux", 0.15)):
            table = {k: v for k, v in by_key(branches[name]).items() if k[0] == machine}
            train = np.array([v for k, v in table.items() if k[2] == "train"])
            total = total + weight * plain_z(train, np.array(list(table.values())))
        np.testing.assert_allclose([found[key] for key in table], total, rtol=1e-9, atol=1e-12)
        train = {d: [r.score for r in rows if (r.machine, r.domain) == (machine, d)] for d in ("source", "target")}
        alarms = np.mean([np.mean(np.array(scores) > thresholds[machine, "00"]) for scores in train.values()])
        assert alarms == pytest.approx(0.1, abs=1 / 12)


def test_fusion_by_minimum():
    branches = systems()
    rows, _ = fuse_system(branches, SystemConfig(weights={"main": 1.0, "aux": 1.0}, fusion="minimum"), 0.1)
    found = by_key(rows)
    alone = [by_key(fuse_system(branches, SystemConfig(weights={name: 1.0}), 0.1)[0]) for name in branches]
    assert found == {key: min(table[key] for table in alone) for key in found}
    assert found not in alone


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("beam", {"varmin": 4, "bank": "domain", "standardize": "mean", "smote": 0.5, "memmixup": 0.1}),
        ("ldn", {"bands": True}),
        ("conditional_mahalanobis", {"bank": "domain", "standardize": True}),
        ("knn", {"k": 1}),
    ],
)
def test_rows_of_bands_survive_their_file(tmp_path, name, settings):
    clips, _ = run()
    generator = np.random.default_rng(5)
    values = generator.normal(size=(len(clips), 3, 4)).astype(np.float32)
    write_array(tmp_path / "x.npy", values)
    write_index(tmp_path / "x.csv", clips)
    rows = by_key(
        score_machines(clips, read_embeddings(tmp_path / "x.csv", tmp_path / "x.npy"), ScorerConfig(name, settings), 0)
    )
    for machine in ("fan", "pump"):
        train, test = (
            [i for i, c in enumerate(clips) if (c.machine, c.split) == (machine, s)] for s in ("train", "test")
        )
        scorer = scoring.build(name, **settings)
        scorer.fit(values[train], np.array([clips[i].domain for i in train]))
        expected = [*scorer.reference_scores(), *scorer.score(values[test])]
        found = [rows[clips[i].key] for i in [*train, *test]]
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_rows_of_different_bands():
    clips, embeddings = run(machines=("fan",))
    embeddings = {key: value.reshape(1, 5) for key, value in embeddings.items()}
    embeddings[clips[3].key] = np.zeros((2, 5))
    with pytest.raises(WheeltapperError, match="fan section 00: all input arrays must have the same shape"):
        score_machines(clips, embeddings, ScorerConfig("beam", {}), 0)


def test_a_branch_without_weight_is_not_read():
    rows, _ = fuse_system(systems(), SystemConfig(weights={"main": 2.0, "absent": 0.0}), 0.1)
    alone, _ = fuse_system(systems(), SystemConfig(weights={"main": 1.0}), 0.1)
    assert by_key(rows) == by_key(alone)


def test_branches_of_different_clips():
    branches = systems()
    lost = branches["aux"].pop()
    with pytest.raises(WheeltapperError, match=f"branch aux: expected the same clips in all branches, .*{lost.file}"):
        fuse_system(branches, SystemConfig(weights={"main": 0.5, "aux": 0.5}), 0.1)


def test_files_of_a_system(tmp_path):
    rows, thresholds = fuse_system(systems(), SystemConfig(weights={"main": 1.0}), 0.1)
    written = write_system(tmp_path / "label", rows, thresholds)
    assert sorted(path.name for path in written) == sorted(p.name for p in (tmp_path / "label").iterdir())
    assert {p.name for p in written} == {
        "references.csv",
        "thresholds.json",
        *(f"{k}_{m}_section_00_test.csv" for m in ("fan", "pump") for k in ("anomaly_score", "decision_result")),
    }
    limits = json.loads((tmp_path / "label" / "thresholds.json").read_text())
    assert limits == {f"{m}_section_{s}": t for (m, s), t in thresholds.items()}
    for machine in ("fan", "pump"):
        files = [
            tmp_path / "label" / f"{k}_{machine}_section_00_test.csv" for k in ("anomaly_score", "decision_result")
        ]
        scores, decisions = (dict(csv.reader(path.read_text().splitlines())) for path in files)
        expected = {r.file: r.score for r in rows if (r.machine, r.split) == (machine, "test")}
        assert {name: float(text) for name, text in scores.items()} == expected
        assert decisions == {name: str(int(s > thresholds[machine, "00"])) for name, s in expected.items()}
    assert read_rows(tmp_path / "label" / "references.csv") == [row for row in rows if row.split == "train"]


def test_a_machine_without_test_clips_has_no_challenge_file(tmp_path):
    rows, thresholds = fuse_system(systems(), SystemConfig(weights={"main": 1.0}), 0.1)
    rows = [row for row in rows if row.machine == "fan" or row.split == "train"]
    names = {path.name for path in write_system(tmp_path, rows, thresholds)}
    assert "anomaly_score_fan_section_00_test.csv" in names
    assert not [name for name in names if "pump" in name]


def test_rows_survive_their_file(tmp_path):
    rows = [
        ScoreRow("fan", "00", "test", "a, b.wav", "", 0.1 + 0.2),
        ScoreRow("fan", "00", "train", "c.wav", "source", -1e-300),
    ]
    write_rows(tmp_path / "x.csv", rows)
    assert read_rows(tmp_path / "x.csv") == rows


@pytest.mark.parametrize("content", [b"h\nfan,00,test,a.wav\n", b"h\nfan,00,test,a.wav,,high\n", b"\xff\n\xff"])
def test_damaged_scores(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(WheeltapperError, match=r"x\.csv: expected scores"):
        read_rows(tmp_path / "x.csv")
    with pytest.raises(WheeltapperError, match=r"no\.csv: expected scores"):
        read_rows(tmp_path / "no.csv")


def test_knn_is_what_the_configuration_says():
    clips, embeddings = run(machines=("fan",))
    train = [c for c in clips if c.split == "train"]
    matrix = np.stack([embeddings[c.key] for c in train])
    expected = KnnScorer(2, "global").fit(matrix, np.array([c.domain for c in train])).reference_scores()
    rows = by_key(score_machines(clips, embeddings, ScorerConfig("knn", {"k": 2}), 0))
    np.testing.assert_allclose([rows[c.key] for c in train], expected, rtol=1e-12)
