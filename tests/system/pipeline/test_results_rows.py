"""Rows of results tables from finished runs."""

import csv
import importlib.util
import shutil
from pathlib import Path

import development_runs
import numpy as np
import pytest
import yaml
from scipy import stats

from system import config as configuration
from system import manifest
from system.bin import main
from system.errors import WheeltapperError
from system.files import write_json
from system.manifest import Clip
from system.pipeline import results
from system.stage import Stage

CONF = {
    "branches": {"main": {}},
    "systems": [
        {"name": "first", "abbreviation": "a", "weights": {"main": 1}},
        {"name": "second", "abbreviation": "b", "weights": {"main": 1}, "view": "near_only"},
    ],
}


def result(score: float, interval=(0.4, 0.6)) -> dict:
    means = {"AUC (source)": score + 0.1, "AUC (target)": score, "pAUC": score - 0.1}
    return {"official_score": score, "ci95": list(interval) if interval else None, "harmonic_mean": means}


def make_run(folder: Path, seed: int, scores=(0.5, 0.55), evaluation=(), **changes) -> Path:
    folder.mkdir(parents=True)
    conf = folder / "conf.yaml"
    conf.write_text(yaml.safe_dump(CONF | {"seed": seed} | changes))
    configuration.save(folder / "config.yaml", configuration.load(conf))
    parts = {"systems": scores, "evaluation": evaluation}
    metrics = {part: {f"t_{k}": result(v) for k, v in enumerate(values)} for part, values in parts.items()}

    def work():
        write_json(folder / "metrics.json", {"year": 2026, **metrics})
        return [folder / "metrics.json"]

    Stage(0, "data", folder, {}).run(lambda: [], lambda text: None)
    Stage(6, "evaluate", folder, {}).run(work, lambda text: None)
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_one_run_has_its_bootstrap_interval_and_where_it_comes_from(tmp_path):
    run = results.read_run(make_run(tmp_path / "exp", 7))
    first, second = results.rows([run], "fans")
    assert (first["task"], first["system"], first["score"]) == ("fans", "1: first", "50.00")
    assert (first["95 % interval low"], first["95 % interval high"]) == ("40.0", "60.0")
    assert (first["AUC source"], first["AUC target"], first["pAUC"]) == ("60.00", "50.00", "40.00")
    assert (second["system"], second["score"], second["seeds"]) == ("2: second", "55.00", "7")
    records = results.read_records(run.folder)
    assert first["command"] == records[6]["command"] != ""
    assert set(first["commit"].split()) == {record["commit"] for record in records.values()}


def test_several_runs_have_the_t_interval_of_their_mean(tmp_path):
    scores = [0.52, 0.61, 0.55]
    runs = [results.read_run(make_run(tmp_path / str(seed), seed, (score,) * 2)) for seed, score in enumerate(scores)]
    (row,) = results.rows(runs, "fans", system=1)
    low, high = stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores))
    assert float(row["score"]) == pytest.approx(100 * np.mean(scores), abs=5e-3)
    found = float(row["95 % interval low"]), float(row["95 % interval high"])
    assert found == pytest.approx((100 * low, 100 * high), abs=0.05)
    assert (row["scores"], row["seeds"], row["interval by"]) == ("52.00 61.00 55.00", "0 1 2", "t, 3 runs")


def test_an_interval_ends_at_100_percent(tmp_path):
    scores = (0.99, 0.8, 0.97)
    runs = [results.read_run(make_run(tmp_path / str(seed), seed, (score,) * 2)) for seed, score in enumerate(scores)]
    assert results.rows(runs, "fans", system=1)[0]["95 % interval high"] == "100.0"


def test_development_and_evaluation_machines_have_rows_of_their_own(tmp_path):
    run = results.read_run(make_run(tmp_path / "exp", 0, (0.5, 0.6), (0.7, 0.8)))
    found = results.rows([run], "sim", baseline=("logmel", 45.0))
    assert [(row["task"], row["score"], row["baseline"]) for row in found] == [
        ("sim, development machines", "50.00", "45.00"),
        ("sim, development machines", "60.00", "45.00"),
        ("sim, evaluation machines", "70.00", ""),
        ("sim, evaluation machines", "80.00", ""),
    ]


def test_the_settings_hash_knows_everything_but_the_seed(tmp_path):
    runs = [results.read_run(make_run(tmp_path / name, seed, **more)) for name, seed, more in (
        ("a", 0, {}), ("b", 5, {}), ("c", 0, {"false_positive_rate": 0.2}),
    )]  # fmt: skip
    first, other_seed, other_setting = (results.settings_hash(run.config) for run in runs)
    assert first == other_seed != other_setting
    with pytest.raises(WheeltapperError, match=r"c: false_positive_rate: expected 0.1 .* found 0.2"):
        results.rows([runs[0], runs[2]], "fans")


@pytest.mark.parametrize("harm", ["changed", "no record", "no metrics"])
def test_metrics_that_the_run_did_not_write_are_refused(tmp_path, harm):
    folder = make_run(tmp_path / "exp", 0)
    if harm == "changed":
        write_json(folder / "metrics.json", {"systems": {"t": result(0.99)}})
    elif harm == "no record":
        (folder / "stages" / "6_evaluate.json").unlink()
    else:
        (folder / "metrics.json").unlink()
    with pytest.raises(WheeltapperError, match=r"metrics\.json: expected"):
        results.read_run(folder)


def test_the_command_adds_rows_and_replaces_them(tmp_path, capsys):
    references, out = tmp_path / "references.json", tmp_path / "results" / "x.csv"
    write_json(references, {"systems": {"logmel": {"official_score": 0.41}}})
    exp = make_run(tmp_path / "exp", 0)
    command = ["results", str(exp), "--task", "fans", "--out", str(out)]
    assert main([*command, "--system", "1", "--name", "ours", "--baseline", "logmel", str(references)]) == 0
    assert main([*command, "--command", "./run.sh"]) == 0
    assert [(row["system"], row["baseline"]) for row in read(out)] == [
        ("ours", "41.00"),
        ("1: first", ""),
        ("2: second", ""),
    ]
    assert read(out)[1]["command"] == "./run.sh"
    again = make_run(tmp_path / "again", 0, (0.8, 0.9))
    assert main(["results", str(again), *command[2:], "--system", "2"]) == 0
    assert [row["score"] for row in read(out)] == ["50.00", "50.00", "90.00"]
    assert "90.00 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "ours"], "--name: expected --system K"),
        (["--task", " "], "--task: expected a text, found nothing"),
        (["--system", "3"], "--system: expected a number from 1 to 2, found 3"),
        (["--baseline", "logmel"], "--baseline logmel: expected references.json of one run or more, found none"),
    ],
)
def test_mistakes_of_the_command_are_one_line(tmp_path, capsys, options, said):
    exp = make_run(tmp_path / "exp", 0)
    assert main(["results", str(exp), "--task", "fans", "--out", str(tmp_path / "x.csv"), *options]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x.csv").exists()


def test_a_run_given_twice_is_refused(tmp_path, capsys):
    """By another path, or as a copy; the same seed with other recordings is another measurement."""
    run, out = make_run(tmp_path / "exp", 4), tmp_path / "x.csv"
    (tmp_path / "link").symlink_to(run)
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for other, said in ((tmp_path / "link", "each run once"), (copy, "another seed or other recordings")):
        assert main(["results", str(run), str(other), "--task", "fans", "--out", str(out)]) == 1
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    assert not out.exists()
    others = make_run(tmp_path / "others", 4, (0.6, 0.61))
    assert main(["results", str(run), str(others), "--task", "fans", "--out", str(out)]) == 0
    assert read(out)[0]["seeds"] == "4 4"
    clips = [Clip("toy", "fan", "00", "train", "a.wav", "a.wav", rate=8000, samples=10, digest="d", channels=1)]
    for folder in (run, others):  # one seed and one recording gave two results
        manifest.write(folder / "manifest.csv", clips)
    assert main(["results", str(run), str(others), "--task", "fans", "--out", str(out)]) == 1
    assert "found seed 4 and the same recordings" in capsys.readouterr().err


def test_a_link_to_a_folder_is_no_table(tmp_path, capsys):
    run, link = make_run(tmp_path / "exp", 4), tmp_path / "link"
    link.symlink_to(run)
    assert main(["results", str(run), "--task", "fans", "--out", str(link)]) == 1
    assert capsys.readouterr().err == f"wheeltapper results: {link}: Is a directory\n"
    assert link.is_symlink()


def test_a_table_with_other_columns_is_left_alone(tmp_path, capsys):
    out = tmp_path / "x.csv"
    out.write_text("a,b\n1,2\n")
    exp = make_run(tmp_path / "exp", 0)
    assert main(["results", str(exp), "--task", "fans", "--out", str(out)]) == 1
    assert "expected the columns task, system" in capsys.readouterr().err
    assert out.read_text() == "a,b\n1,2\n"


def test_the_table_of_branches_has_scores_and_where_they_come_from(tmp_path, monkeypatch, capsys):
    place = Path(__file__).resolve().parents[3] / "recipes" / "dcase2026" / "local" / "branch_table.py"
    spec = importlib.util.spec_from_file_location("branch_table", place)
    branch_table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(branch_table)
    exps = [development_runs.make_run(tmp_path / f"seed{seed}", seed=seed).folder for seed in (0, 1)]
    for exp in exps:
        for verb in ("score", "fuse", "evaluate"):
            assert main([verb, "--exp", str(exp)]) == 0
    # A system of the configuration is one of the fusions: its official score is the same as in metrics.json.
    fusion = "main=0.85,aux=0.15"
    table = tmp_path / "table.csv"
    monkeypatch.setattr("sys.argv", ["branch_table.py", *map(str, exps), "--fuse", fusion, "--csv", str(table)])
    branch_table.main()
    rows = read(table)
    assert [row["branch"] for row in rows] == ["aux", "main", "main 0.85 + aux 0.15"]
    scores = [100 * results.read_json(exp / "metrics.json")["official_score"] for exp in exps]
    assert [float(rows[2][exp.name]) for exp in exps] == pytest.approx(scores, abs=5e-3)
    assert float(rows[2]["mean"]) == pytest.approx(np.mean(scores), abs=6e-3)
    assert float(rows[2]["mean sd"]) == pytest.approx(np.std(scores, ddof=1), abs=6e-3)
    assert tuple(rows[0])[-4:] == ("command", "commit", "config", "seeds")
    assert all(rows[0][name] for name in ("command", "commit", "config", "seeds"))
    assert f"| {rows[2]['mean']} |" in capsys.readouterr().out
