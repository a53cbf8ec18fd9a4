"""``wheeltapper tune`` on runs that are made of numbers: figures, configuration, what it refuses."""

import json
import shutil
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import development_runs as toy
import numpy as np
import pytest
import yaml

from system import config, manifest, selection
from system.bin import main
from system.embeddings import files
from system.experiment import Experiment
from system.files import read_json
from system.tuning.results import Tuned


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Two runs of the same machines in other noise."""
    root = tmp_path_factory.mktemp("runs")
    return [toy.make_run(root / f"run{seed}", seed=seed).folder for seed in (1, 2)]


@pytest.fixture(scope="module")
def tuned(runs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "out"
    assert main(["tune", *map(str, runs), "--out", str(out), "--anyway"]) == 0
    return out


def refused(capsys, *arguments) -> str:
    assert main(["tune", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def measured(exp: Path, conf: Path, capsys) -> dict:
    """metrics.json of a copy of a run through the stages score, fuse and evaluate with another configuration."""
    copy = exp.with_name(f"{exp.name}-{conf.parent.name}")
    shutil.copytree(exp, copy, dirs_exist_ok=True)
    for verb in ("score", "fuse", "evaluate"):
        assert main([verb, "--exp", str(copy), "--conf", str(conf)]) == 0
    capsys.readouterr()
    return read_json(copy / "metrics.json")


def test_the_written_configuration_gives_the_figures(runs, tuned, capsys):
    record = read_json(tuned / "tune.json")
    for exp, expected in zip(runs, record["in_sample_by_run"], strict=True):
        assert measured(exp, tuned / "tuned.yaml", capsys)["official_score"] == pytest.approx(expected, abs=1e-9)
    names = [f"{machine} ({exp.name})" for machine in ("fan", "pump", "valve") for exp in runs]
    assert sorted(record["in_sample"]["per_machine"]) == sorted(names)


def test_the_untuned_figure_is_that_of_the_first_system(tmp_path, capsys):
    exp = toy.make_run(tmp_path / "run", seed=5).folder
    assert main(["tune", str(exp), "--out", str(tmp_path / "out"), "--trials", "30"]) == 0
    found = measured(exp, exp / "config.yaml", capsys)
    record = read_json(tmp_path / "out" / "tune.json")
    assert record["untuned"]["official_score"] == pytest.approx(found["official_score"], abs=1e-9)
    assert record["untuned"]["ci95"] == pytest.approx(next(iter(found["systems"].values()))["ci95"], abs=1e-9)
    score = record["official_score"]
    assert score["in_sample"] >= max(score["cross_validated"], score["untuned"])
    assert score["optimism"] == pytest.approx(score["in_sample"] - score["cross_validated"])


def test_each_fold_is_what_its_choice_reaches_on_the_machine_left_out(runs, tuned, tmp_path, capsys):
    """The configuration of a fold, run through the stages, has the score on its machine that tune.json says."""
    fold = read_json(tuned / "tune.json")["folds"][1]
    base = config.load(runs[0] / "config.yaml")
    from system.tuning import candidates

    for name, label in fold["choice"]["scorers"].items():
        known = candidates.of_branch(base.branches[name], base.tune.scorers)
        base.branches[name] = replace(base.branches[name], scorer=known[label])
    weights = {name: weight for name, weight in fold["choice"]["weights"].items() if weight > 0}
    base.systems = [replace(base.systems[0], view=fold["choice"]["view"], weights=weights)]
    conf = tmp_path / "fold" / "conf.yaml"
    config.save(conf, base)
    official = ("AUC (source)", "AUC (target)", "pAUC")
    values = [measured(exp, conf, capsys)["per_machine"][fold["machine"]][name] for exp in runs for name in official]
    assert len(values) / np.sum(1.0 / np.array(values)) == pytest.approx(fold["held_out"], abs=1e-9)


def test_a_tuned_run_is_selected_and_frozen(runs, tuned, tmp_path, capsys):
    exp = tmp_path / "final"
    shutil.copytree(runs[0], exp)
    for verb in ("score", "fuse", "evaluate"):
        assert main([verb, "--exp", str(exp), "--conf", str(tuned / "tuned.yaml")]) == 0
    out = tmp_path / "frozen.yaml"
    assert main(["select", str(exp), "--out", str(out)]) == 0
    frozen = config.load(out)
    assert selection.config_hash(frozen) == selection.config_hash(config.load(tuned / "tuned.yaml"))
    final = replace(frozen, tune=replace(frozen.tune, trials=7), data=replace(frozen.data, frozen=str(out)))
    selection.check_frozen(final, "final")  # how a configuration was found is no part of it


@pytest.mark.slow
def test_tuned_again_with_several_processes_it_is_the_same(runs, tuned, tmp_path):
    """And more trials may be added to those that are there."""
    out = tmp_path / "out"
    assert main(["tune", *map(str, runs), "--out", str(out), "--trials", "20", "--processes", "2"]) == 0
    assert main(["tune", *map(str, runs), "--out", str(out), "--processes", "2", "--anyway"]) == 0
    first, second = (read_json(path / "tune.json") for path in (tuned, out))
    for name in ("choice", "folds", "in_sample", "cross_validated"):
        assert first[name] == second[name]
    assert (out / "tuned.yaml").read_text() == (tuned / "tuned.yaml").read_text()
    page = (out / "tune.html").read_text()
    assert page == (tuned / "tune.html").read_text()
    assert page.count('<svg viewBox="0 0 360') == 7  # folds, history, importance, two charts of each branch


def test_a_choice_is_written_only_where_it_is_better_on_machines_left_out(runs, tmp_path, monkeypatch, capsys):
    """The figures decide; a configuration of an earlier call with fewer trials does not stay."""
    out = tmp_path / "out"
    command = ["tune", *map(str, runs), "--out", str(out), "--trials", "20"]
    assert main([*command, "--anyway"]) == 0
    capsys.readouterr()
    scores = read_json(out / "tune.json")["official_score"]
    better = scores["cross_validated"] > scores["untuned"]
    for turned in (False, True):
        monkeypatch.setattr(Tuned, "is_better", better != turned)
        assert main(command) == 0
        said = capsys.readouterr().out
        assert (out / "tuned.yaml").exists() is (better != turned)
        assert (read_json(out / "tune.json")["config_sha256"] is None) is (better == turned)
        assert ("tuned.yaml is not written (--anyway writes it)" in said) is (better == turned)
        assert ("tuning does not help, keep the untuned configuration" in said) is (better == turned)
        figures = [f"{100 * scores[name]:.2f} % {text}" for name, text in FIGURES]
        assert f"on machines left out: {', '.join(figures)}; a machine gains " in said


FIGURES = (("cross_validated", "tuned"), ("untuned", "untuned"))


def test_what_scoring_says_of_machines_is_said_once(tmp_path, capfd, caplog):
    fan = toy.clips_of("fan")
    few = [clip for clip in fan if clip.split == "train" and clip.domain == "target"][2:]
    clips = [clip for clip in fan if clip not in few] + toy.clips_of("pump")
    exp = toy.make_run(tmp_path / "run", clips=clips).folder
    for _ in range(2):
        assert main(["tune", str(exp), "--out", str(tmp_path / "out"), "--trials", "10"]) == 0
        said = capfd.readouterr()
        lines = [line for line in said.out.splitlines() if "references of domain target, fewer than" in line]
        assert lines
        assert len(lines) == len(set(lines))
        assert all(line.startswith("note: ") for line in lines)
        assert "references of domain" not in said.err + caplog.text


def places(journal: Path) -> list[int]:
    """Places of the trials in a journal, as its lines tell."""
    lines = [json.loads(line) for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [line["user_attrs"]["point"] for line in lines if "user_attrs" in line]


@pytest.mark.slow
def test_killed_it_goes_on_and_has_the_trials_of_a_run_in_one_go(runs, server, tmp_path):
    out, other = tmp_path / "killed", tmp_path / "whole"
    command = ["tune", *map(str, runs), "--trials", "300", "--out"]
    running = server.start([*command, str(out)])
    journal, limit = out / "journal.log", time.monotonic() + 60
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 75:
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert server.wait(running, seconds=0).status == -signal.SIGKILL
    assert 0 < len(places(journal)) < 250
    assert not (out / "tune.json").exists()
    assert main([*command, str(out)]) == 0
    assert main([*command, str(other)]) == 0
    first, second = (read_json(path / "tune.json") for path in (out, other))
    assert sorted(places(journal)) == sorted(places(other / "journal.log")) == list(range(300))
    assert first["choice"] == second["choice"]
    assert first["folds"] == second["folds"]


def test_per_machine_is_a_diagnostic(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["tune", *map(str, runs), "--out", str(out), "--per-machine"]) == 0
    assert "against" not in (said := capsys.readouterr().out)
    assert "none is written" in said
    assert not (out / "tuned.yaml").exists()
    found = read_json(out / "per_machine.json")
    assert main(["tune", *map(str, runs), "--out", str(out)]) == 0
    assert found["in_sample"]["official_score"] >= read_json(out / "tune.json")["in_sample"]["official_score"]
    assert set(found["choices"]) == {"fan", "pump", "valve"}


def test_per_machine_by_configuration_is_against_the_rules(runs, tmp_path, capsys):
    said = refused(capsys, runs[0], "--out", tmp_path / "out", "--set", "tune.choose_for=machine")
    assert "tune.choose_for: machine is against the rules" in said


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"scorer": {}}, "unknown key tune.scorer: did you mean scorers"),
        ({"scorers": {"knn": {"k": []}}}, "tune.scorers.knn.k: expected a list of at least one value, found []"),
        ({"scorers": {"knn": {"k": 3}}}, "tune.scorers.knn.k: expected a list of at least one value, found 3"),
        (
            {"scorers": {"knn": {"q": [3]}}},
            "tune.scorers.knn.q: the scorer knn has no such setting: known settings: k, bank",
        ),
        ({"scorers": {"knn": {"k": [0]}}}, "tune.scorers.knn.k: expected at least 1, found 0"),
        ({"scorers": {"fan": {"k": [1]}}}, "tune.scorers.fan: expected one of"),
        ({"scorers": {"knn": [1]}}, "tune.scorers.knn: expected settings with the values to try"),
        ({"views": []}, "tune.views: expected at least one, each once, found none"),
        ({"views": ["far"]}, "tune.views.0: expected one of two_channel, near_only, found 'far'"),
        ({"fusions": []}, "tune.fusions: expected at least one, each once, found none"),
        ({"fusions": ["product"]}, "tune.fusions.0: expected one of sum, minimum, found 'product'"),
        ({"sampler": "grid"}, "tune.sampler: expected one of sobol, tpe, found 'grid'"),
        ({"trials": 0}, "tune.trials: expected at least 1, found 0"),
    ],
)
def test_a_wrong_section_is_refused(runs, tmp_path, capsys, section, expected):
    conf = tmp_path / "tune.yaml"
    conf.write_text(yaml.safe_dump({"tune": section}))
    assert expected in refused(capsys, runs[0], "--conf", conf, "--out", tmp_path / "out")


def test_the_configured_view_must_be_tried(runs, tmp_path, capsys):
    said = refused(capsys, runs[0], "--set", "tune.views=[near_only]", "--out", tmp_path / "out")
    assert "tune.views: expected two_channel, the setting of system 1, among them" in said


def test_runs_with_evaluation_machines_are_refused(tmp_path, capsys):
    clips = toy.clips_of("fan") + toy.clips_of("pump")
    clips += [replace(clip, label="") if clip.split == "test" else clip for clip in toy.clips_of("rotor")]
    exp = toy.make_run(tmp_path / "run", clips=clips).folder
    said = refused(capsys, exp, "--out", tmp_path / "out")
    assert "expected development machines only (data.machines: development), found rotor" in said
    assert not (tmp_path / "out").exists()


def test_one_machine_cannot_be_cross_validated(tmp_path, capsys):
    exp = toy.make_run(tmp_path / "run", machines=("fan",)).folder
    said = refused(capsys, exp, "--out", tmp_path / "out")
    assert (
        "expected labelled test clips of at least two machines, of which one can be left out, found fan with all"
        in said
    )


def test_unfinished_and_changed_runs_are_refused(tmp_path, capsys):
    exp = toy.make_run(tmp_path / "run").folder
    settings = yaml.safe_load((exp / "config.yaml").read_text())
    settings["branches"]["main"]["crop_seconds"] = 2.0
    saved = (exp / "config.yaml").read_text()
    (exp / "config.yaml").write_text(yaml.safe_dump(settings))
    assert "found stage 2 adapt incomplete with its configuration" in refused(capsys, exp, "--out", tmp_path / "out")
    (exp / "config.yaml").write_text(saved)
    path = exp / "embeddings" / "main" / "two_channel.npy"
    files.write_array(path, np.load(path) + 1.0)  # of equal size
    assert "found stage 3 embed incomplete with its configuration" in refused(capsys, exp, "--out", tmp_path / "out")


def test_embeddings_that_changed_since_are_noticed(tmp_path, capsys):
    run = toy.make_run(tmp_path / "run")
    assert main(["tune", str(run.folder), "--out", str(tmp_path / "out"), "--trials", "10"]) == 0
    toy.store_branch(run, manifest.read(run.manifest), "aux", 77)
    (run.folder / "stages" / "3_embed.json").unlink()
    toy.finish(run, "embed")
    said = refused(capsys, run.folder, "--out", tmp_path / "out", "--trials", "10")
    assert "expected the embeddings that this tuning was started with, found others (1 aux two_channel)" in said


def test_runs_of_different_configurations_are_refused(runs, tmp_path, capsys):
    other = toy.make_run(tmp_path / "other", data={"rate": 8000}).folder
    said = refused(capsys, runs[0], other, "--out", tmp_path / "out")
    assert f"{other}: data.rate: expected 16000 as in {runs[0]}, found 8000" in said
    later = toy.make_run(tmp_path / "later", evaluate={"year": 2021}).folder
    assert "evaluate.year: expected 2026, found 2021" in refused(capsys, runs[0], later, "--out", tmp_path / "out")
    assert "expected each run once" in refused(capsys, runs[0], runs[0], "--out", tmp_path / "out")


def test_runs_may_differ_in_what_comes_after_the_embeddings(runs, tmp_path):
    systems = [toy.CONF["systems"][0] | {"view": "near_only"}]
    other = toy.make_run(tmp_path / "other", systems=systems, seed=9).folder
    assert main(["tune", str(runs[0]), str(other), "--out", str(tmp_path / "out"), "--trials", "10"]) == 0


def test_the_configuration_loads_and_names_what_was_tuned(tuned):
    found, record = config.load(tuned / "tuned.yaml"), read_json(tuned / "tune.json")
    system = found.systems[0]
    assert system.view == record["choice"]["view"]
    assert system.weights == {name: weight for name, weight in record["choice"]["weights"].items() if weight > 0}
    assert asdict(found)["branches"]["main"]["scorer"]["name"] in ("mahalanobis", "knn")
    assert Experiment(tuned, found).views  # usable as a run's configuration
