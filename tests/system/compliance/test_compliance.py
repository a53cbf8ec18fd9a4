"""Every rule, on a run that breaks it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scored_run import (
    CONF,
    LABEL,
    SCORED,
    accept,
    adapted,
    broken,
    check,
    document,
    edit_rows,
    embed,
    open_run,
    score_again,
    write_recordings,
    write_wav,
)

from submission.facts import RunFacts
from system import audio, compliance, machine_scores, manifest, score_tables
from system.bin import main
from system.compliance import package as sent
from system.compliance import records, scores
from system.config import SystemConfig
from system.experiment import Experiment
from system.files import read_json, write_json
from system.pipeline.stages import fuse
from system.pipeline.stages.package import _machine_settings


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    """A run up to its metrics, with its recordings in its own folder."""
    place = tmp_path_factory.mktemp("compliance")
    write_recordings(place / "exp" / "recordings")
    conf = place / "conf.yaml"
    conf.write_text(yaml.safe_dump(CONF))
    exp = place / "exp"
    assert main(["prepare", "--exp", str(exp), "--conf", str(conf), "--data", str(exp / "recordings")]) == 0
    run = open_run(exp)
    embed(run)
    adapted(run)
    assert [main([verb, "--exp", str(exp)]) for verb in SCORED] == [0, 0, 0]
    return exp


@pytest.fixture
def run(scored, tmp_path) -> Experiment:
    exp = tmp_path / "exp"
    shutil.copytree(scored, exp, copy_function=shutil.copy2)
    record = read_json(exp / "stages" / "0_data.json")
    record["settings"]["data"] = str(exp / "recordings")
    write_json(exp / "stages" / "0_data.json", record)
    return open_run(exp)


def test_a_clean_run_keeps_all_rules(run):
    rules = check(run)
    assert {rule.name: rule.violations for rule in rules if rule.violations} == {}
    assert len({rule.name for rule in rules}) == len(rules) == 13
    checked = {rule.name: rule.checked for rule in rules}
    assert checked["training"] == "24 training clips"
    assert checked["overlap"] == "content of 16 test clips against 24 training clips"
    assert checked["recordings"] == "40 recordings"
    # Two views of main and one of aux, 40 clips each; two systems of 40 fused scores, 32 of them test clips.
    assert checked["distances"].startswith("120 scores")
    assert checked["fusion"].startswith("80 fused scores of 2")
    assert checked["names"].startswith("32 fused scores of 2")


def test_a_minimum_of_branches_keeps_all_rules(run):
    record = run.folder / "stages" / "5_fuse.json"
    usual = read_json(record)["sha256"]
    conf = yaml.safe_load((run.folder / "config.yaml").read_text())
    before = {path: path.read_text() for path in (run.folder / "systems").rglob("anomaly_score_*.csv")}
    conf["systems"][0] |= {"weights": {"main": 0.5, "aux": 0.5}, "fusion": "minimum"}
    (run.folder / "conf.yaml").write_text(yaml.safe_dump(conf))
    verbs = [["fuse", "--conf", str(run.folder / "conf.yaml")], ["evaluate"]]
    assert [main([*verb, "--exp", str(run.folder)]) for verb in verbs] == [0, 0]
    assert read_json(record)["sha256"] != usual
    changed = open_run(run.folder)
    assert changed.config.systems[0].fusion == "minimum"
    assert {path: path.read_text() for path in (run.folder / "systems").rglob("anomaly_score_*.csv")} != before
    accept(changed)
    assert broken(changed) == {}


def test_default_settings_are_not_in_the_fingerprint_of_fusion():
    """Runs from before other fusion rules existed stay complete."""
    weights = {"main": 0.85, "aux": 0.15}
    assert fuse._settings(SystemConfig(weights=weights)) == {"view": "two_channel", "weights": weights}
    found = fuse._settings(SystemConfig(weights=weights, fusion="minimum", threshold="batches"))
    assert found == {"view": "two_channel", "weights": weights, "fusion": "minimum", "threshold": "batches"}


def test_the_result_is_written_whole_and_readable(run):
    rules = [
        compliance.ComplianceRule("a", "Says a.", "one file"),
        compliance.ComplianceRule("b", "Says b.", "two", ["x is y"], ["odd"]),
    ]
    compliance.write(run.compliance, rules)
    stored = read_json(run.compliance)
    assert stored["passed"] is False
    assert [rule["violations"] for rule in stored["rules"]] == [[], ["x is y"]]
    assert compliance.violations(rules) == ["b: x is y"]
    lines = compliance.markdown(rules)
    assert lines[0] == "Rules checked by the program: 2, 1 of them broken."
    assert "  - broken: x is y" in lines


def test_a_test_clip_copied_into_train(run, capsys):
    folder = run.folder / "recordings" / "Pump"
    name = "section_00_source_train_normal_0099_noAttribute.wav"
    shutil.copy(folder / "test" / "section_00_0003.wav", folder / "train" / name)

    def copied(rows):
        row = next(row for row in rows if row["file"] == "section_00_0003.wav")
        said = {"split": "train", "file": name, "label": "normal", "domain": "source"}
        return [*rows, row | said | {"path": str(folder / "train" / name)}]

    edit_rows(run.manifest, copied)
    score_again(run)
    found = broken(run)
    assert list(found) == ["overlap"]
    assert "Pump/test/section_00_0003.wav" in found["overlap"][0]
    assert name in found["overlap"][0]
    assert main(["prepare", "--exp", str(run.folder), "--data", str(folder.parent)]) == 1
    assert "expected no test clip among the training clips, found 1 of Pump" in capsys.readouterr().err


@pytest.mark.parametrize("renamed", [False, True])
def test_an_anomalous_clip_in_the_training_manifest(run, renamed):
    def change(rows):
        row = next(r for r in rows if r["split"] == "test" and r["label"] == "anomaly")
        row |= {"split": "train", "label": "normal"}
        if renamed:
            row["file"] = row["file"].replace("_test_anomaly_0000", "_train_normal_0077")

    edit_rows(run.manifest, change)
    score_again(run)
    found = broken(run)
    assert "anomaly_0000" in found["training"][0]
    # A row renamed in the manifest is consistent in itself; its path is not.
    assert set(found) == ({"training"} if renamed else {"training", "recordings"})


def test_an_anomaly_by_label_is_refused(run):
    edit_rows(run.manifest, lambda rows: next(r for r in rows if r["split"] == "train").update(label="anomaly"))
    rule = records.check_training(run, manifest.read(run.manifest))
    assert "found anomaly train" in rule.violations[0]


def test_stages_that_learned_from_other_clips(run):
    edit_rows(run.manifest, lambda rows: [row for row in rows if row["file"].count("train_normal_0003") == 0])
    found = broken(run)
    assert any("stage adapt: expected training clips of fingerprint" in text for text in found["learned"])
    assert any("expected the record of stage 4 score" in text for text in found["learned"])
    assert any("manifest.csv" in text for text in found["files"])


def test_a_setting_changed_without_running_again(run):
    changed = Experiment(run.folder, replace(run.config, false_positive_rate=0.2))
    found = broken(changed)
    assert any("stage 5 fuse with this configuration" in text for text in found["learned"])
    assert any("expected the threshold" in text for text in found["fusion"])


def test_a_changed_csv_after_fuse(run):
    path = run.system(LABEL) / "anomaly_score_Pump_section_00_test.csv"
    lines = path.read_text().splitlines()
    name, value = lines[2].split(",")
    digit = "1" if value[-1] != "1" else "2"
    lines[2] = f"{name},{value[:-1]}{digit}"  # within rounding, and of the same size
    path.write_text("\n".join(lines) + "\n")
    found = broken(run)
    assert any(f"{path}: expected the content that 5_fuse.json records" in text for text in found["files"])
    lines[2] = f"{name},9.5"
    path.write_text("\n".join(lines) + "\n")
    found = broken(run)
    assert any(f"{LABEL}: Pump/{name}: expected the score" in text for text in found["fusion"])


def test_scores_normalised_over_test_clips(run):
    """Ranks over the test clips of a machine, which some systems use; the records do not show them."""
    from system.evaluation import challenge_csv

    path = run.system(LABEL) / "anomaly_score_Fan_section_00_test.csv"
    values = dict(challenge_csv.read(path))
    order = sorted(values, key=values.get)
    challenge_csv.write_scores(path, {name: order.index(name) / len(order) for name in values})
    accept(run)
    found = broken(run)
    assert sum("Fan/" in text for text in found["fusion"]) >= 5
    assert "names" in found
    assert "files" not in found


def test_a_branch_whose_scores_are_normalised_over_test_clips(run):
    path = run.scores("main", "two_channel")
    rows = score_tables.read_rows(path)
    tests = [row.score for row in rows if row.split == "test" and row.machine == "Pump"]
    mean, spread = np.mean(tests), np.std(tests)
    score_tables.write_rows(
        path,
        [
            replace(row, score=float((row.score - mean) / spread))
            if row.split == "test" and row.machine == "Pump"
            else row
            for row in rows
        ],
    )
    assert main(["fuse", "--exp", str(run.folder)]) == 0
    assert main(["evaluate", "--exp", str(run.folder)]) == 0
    accept(run)
    found = broken(run)
    assert sum("Pump/section_00_" in text for text in found["distances"]) == 5
    assert "and 3 more" in found["distances"][-1]


def test_a_program_that_reads_labels_is_caught(run, monkeypatch):
    honest = machine_scores.score_machines

    def leaking(clips, embeddings, config, seed, progress=None):
        labels = {clip.key: clip.label == "anomaly" for clip in clips}
        return [
            replace(row, score=row.score + labels.get((row.machine, row.section, row.split, row.file), False))
            for row in honest(clips, embeddings, config, seed)
        ]

    monkeypatch.setattr(machine_scores, "score_machines", leaking)
    (run.folder / "stages" / "4_score.json").unlink()
    assert [main([verb, "--exp", str(run.folder)]) for verb in SCORED] == [0, 0, 0]
    found = broken(run)
    assert all("Fan/" in text or "more" in text for text in found["names"])
    assert "distances" in found


def test_a_program_that_reads_positions_is_caught(run, monkeypatch):
    honest = machine_scores.score_machines

    def leaking(clips, embeddings, config, seed, progress=None):
        rows = honest(clips, embeddings, config, seed)
        return [replace(row, score=row.score + 0.1 * number) for number, row in enumerate(rows)]

    monkeypatch.setattr(machine_scores, "score_machines", leaking)
    (run.folder / "stages" / "4_score.json").unlink()
    assert [main([verb, "--exp", str(run.folder)]) for verb in SCORED] == [0, 0, 0]
    assert broken(run)["names"]


def test_labels_among_the_inputs_of_a_stage(run):
    path = run.folder / "stages" / "4_score.json"
    record = read_json(path)
    record["reads"]["metrics.json"] = ""
    write_json(path, record)
    assert broken(run)["labels"] == ["stage score: expected no labels among its inputs, found metrics.json"]


def test_a_recording_changed_or_from_elsewhere(run, tmp_path):
    clips = manifest.read(run.manifest)
    write_wav(Path(clips[0].path), 999)
    outside = tmp_path / "elsewhere.wav"
    shutil.copy(clips[1].path, outside)
    clips[1] = replace(clips[1], path=str(outside))
    found = records.check_recordings(run, clips).violations
    assert f"{clips[0].path}: expected the content that stage 0 read, found another" in found
    assert any(text.startswith(f"{outside}: expected a recording in ") for text in found)
    assert len(found) == 2


def test_a_label_that_contradicts_the_name(run):
    clips = manifest.read(run.manifest)
    index = next(i for i, clip in enumerate(clips) if clip.label == "anomaly")
    clips[index] = replace(clips[index], label="normal")
    found = records.check_recordings(run, clips).violations
    assert [text.split(": ", 1)[1] for text in found] == ["label: expected anomaly as the name says, found normal"]


@pytest.mark.parametrize(("which", "other"), [("development", "Pump"), ("evaluation", "Fan")])
def test_machines_of_the_other_phase(run, which, other):
    changed = replace(run.config, data=replace(run.config.data, machines=which))
    rule = records.check_machines(Experiment(run.folder, changed), manifest.read(run.manifest))
    assert len(rule.violations) == 1
    assert other in rule.violations[0]


def test_an_undeclared_checkpoint(run):
    facts = RunFacts(external_models={LABEL: ["BEATs"]})
    found = broken(run, facts)
    assert list(found) == ["declared"]
    assert "expected BEATs, which the system uses" in found["declared"][0]
    rule = records.check_declared(run, facts, {LABEL: document("BEATs (iteration 3)")})
    assert rule.violations == []


def test_published_weights_that_are_others(run, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "BEATs_iter3.pt").write_bytes(b"not these")
    encoder = replace(run.config.encoder, family="beats", size="base", checkpoint="beats-iter3")
    config = replace(run.config, encoder=encoder, data=replace(run.config.data, folder=str(tmp_path)))
    rule = records.check_declared(Experiment(run.folder, config), RunFacts(), {})
    assert "encoder.checkpoint: " in rule.violations[0]
    assert "expected SHA-256 8d1b2340" in rule.violations[0]


def test_a_setting_of_one_machine_is_noted(run):
    scorer = replace(run.config.branches["main"].scorer, settings={"bank": "domain", "per": {"Fan": 1, "Pump": 2}})
    branches = run.config.branches | {"main": replace(run.config.branches["main"], scorer=scorer)}
    own = _machine_settings(Experiment(run.folder, replace(run.config, branches=branches)))
    rule = records.check_one_setting(RunFacts(machine_settings=own))
    assert rule.violations == []
    assert "branches.main.scorer.settings.per" in rule.notes[0]
    clean = records.check_one_setting(RunFacts(machine_settings=_machine_settings(run)))
    assert clean.notes == []


def test_recomputed_scores_are_those_of_plain_numpy(run):
    """Mean cosine distance to the three nearest references, each clip separately."""
    clips = [clip for clip in manifest.read(run.manifest) if clip.machine == "Fan"]
    generator = np.random.default_rng(5)
    embeddings = {clip.key: generator.normal(size=4) for clip in clips}
    found = scores.score_alone(clips, embeddings, "knn", {"k": 3, "bank": "global"})
    unit = {key: value / np.linalg.norm(value) for key, value in embeddings.items()}
    references = [clip.key for clip in clips if clip.split == "train"]
    for clip in clips:
        near = sorted(1 - unit[clip.key] @ unit[key] for key in references if key != clip.key)[:3]
        assert found[clip.key] == pytest.approx(np.mean(near), rel=1e-9)


def test_embeddings_computed_again(run, tmp_path):
    clips = manifest.read(run.manifest)
    stored = {
        (branch, view): np.load(run.embeddings(branch, view))
        for branch in ("main", "aux")
        for view in run.views[branch]
    }
    index = {clip.digest: row for row, clip in enumerate(clips)}
    seen = []

    def honest(branch, clip):
        seen.append((clip.file, clip.label, Path(clip.path).name))
        row = index[audio.digest(clip.path)]
        return {view: stored[branch, view][row : row + 1] for view in run.views[branch]}

    rule = sent.check_embeddings(run, clips, 5, honest, tmp_path / "a", 1e-6)
    assert rule.violations == []
    assert "5 test clips embedded again, largest difference 0" in rule.checked
    assert all(not label and file == name and "section" not in file for file, label, name in seen)

    def company(branch, clip):
        return {view: value * 1.01 for view, value in honest(branch, clip).items()}

    rule = sent.check_embeddings(run, clips, 2, company, tmp_path / "b", 1e-4)
    assert "expected the stored embedding, found one that differs" in rule.violations[0]


def test_a_run_without_embeddings_is_checked_from_its_scores(run):
    """A branch without embeddings: what can be recomputed is checked, the rest is a note."""
    shutil.rmtree(run.index("aux").parent)
    clips = manifest.read(run.manifest)
    distances = scores.check_distances(run, clips)
    assert distances.violations == []
    assert distances.notes == ["branch aux: no embeddings, its scores were not computed again"]
    assert scores.check_anonymous(run, clips).violations == []
    assert scores.check_fusion(run).violations == []
