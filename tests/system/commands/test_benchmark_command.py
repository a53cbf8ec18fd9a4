"""``wheeltapper benchmark`` over embeddings in a file, as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from system.bin import main

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "benchmarks"


def run(benchmark: str, embeddings: Path | str, *options: object) -> int:
    path = FIXTURES / embeddings / "data.npz" if isinstance(embeddings, str) else embeddings
    return main(["benchmark", benchmark, "--embeddings", str(path), *map(str, options)])


def reference(name: str) -> dict:
    return json.loads((FIXTURES / name / "reference.json").read_text())


@pytest.fixture
def changed(tmp_path):
    """A fixture with other fields."""

    def write(name: str, **fields: np.ndarray) -> Path:
        whole = dict(np.load(FIXTURES / name / "data.npz"))
        np.savez(tmp_path / "changed.npz", **(whole | fields))
        return tmp_path / "changed.npz"

    return write


def test_fixed_split(tmp_path, capsys):
    out = tmp_path / "new" / "out.json"
    assert run("rmis-fixed", "rmis_fixed", "--test-size", 0.2, "--json", out) == 0
    found, expected = json.loads(out.read_text()), reference("rmis_fixed")["settings"]["test_size_0.2"]
    assert (found["benchmark"], found["protocol"], found["changes"]) == ("rmis-fixed", "as-coded", [])
    assert (found["rows"], found["dimensions"], found["test_size"]) == (622, 96, 0.2)
    assert (found["mean"], found["std"]) == (expected["reported_mean"], expected["reported_std"])
    assert [run["seed"] for run in found["runs"]] == list(range(111, 121))
    assert [run["seed_used"] for run in found["runs"]] == [run["seed_used"] for run in expected["runs"]]
    assert found["per_class"] == expected["per_class_mean"]
    assert np.sum(found["confusion"]) == sum(run["n_test"] for run in expected["runs"])
    assert "commit" in found["record"]
    text = capsys.readouterr().out
    assert "macro accuracy 85.54 ± 4.48 %" in text
    assert "changed:" not in text


def test_multi_split(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert run("rmis-multisplit", "rmis_multisplit", "--json", out, "--memory", 1, "--workers", 2) == 0
    found, expected = json.loads(out.read_text()), reference("rmis_multisplit")
    for name in ("area", "curve", "end_points"):
        assert found[name] == expected[name]
    assert [row["mean"] for row in found["test_sizes"]] == [row["reported_mean"] for row in expected["test_sizes"]]
    assert "area 76.33 %" in capsys.readouterr().out


def test_anomaly_detection(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert run("rmis-ad", "rmis_ad", "--json", out) == 0
    found, expected = json.loads(out.read_text()), reference("rmis_ad")["as_coded"]
    assert found["total"] == expected["total"]
    assert found["eval"]["score"] == expected["eval"]["subset"]
    assert list(found["dev"]["machines"]["fan"].values()) == list(expected["dev"]["machines"]["fan"].values())
    assert "dev 59.07 %, eval 61.61 %, total 60.31 %" in capsys.readouterr().out
    assert run("rmis-ad", "rmis_ad", "--protocol", "clean", "--year", 2024) == 0
    text = capsys.readouterr().out
    assert "total 54.21 %" in text
    assert "changed: the banks' distances are compared as they are" in text
    assert run("siren-ad", "rmis_ad", "--json", out) == 0
    assert 50 < json.loads(out.read_text())["score"] < 70


@pytest.mark.parametrize(
    ("field", "protocol", "case"),
    [
        ("features_d90", "as-coded", "d90_plain"),
        ("features_d96", "as-coded", "d96_as_coded"),
        ("features_d96", "clean", "d96_clean"),
    ],
)
def test_leave_one_out(tmp_path, capsys, field, protocol, case):
    out, expected = tmp_path / "out.json", reference("siren_loocv")["cases"][case]
    assert run("siren-loocv", "siren_loocv", "--field", field, "--protocol", protocol, "--json", out) == 0
    found = json.loads(out.read_text())
    assert (found["correct"], found["n_test"]) == (expected["correct"], expected["n"])
    assert found["accuracy"] == pytest.approx(100 * expected["accuracy"])
    assert len(found["changes"]) == (protocol == "clean")
    assert f"{expected['correct']} of 103" in capsys.readouterr().out


def test_folds_and_given_sides(tmp_path, changed):
    out = tmp_path / "out.json"
    assert run("siren-kfold", "siren_loocv", "--field", "features_d90", "--json", out) == 0
    found = json.loads(out.read_text())
    assert len(found["folds"]) == 5
    assert np.sum(found["confusion"]) == 103
    split = np.where(np.arange(103) % 2, "train", "test")
    path = changed("siren_loocv", split=split)
    assert run("siren-official", path, "--field", "features_d96", "--json", out) == 0
    assert json.loads(out.read_text())["n_test"] == 52
    path = changed(
        "rmis_fixed", split=np.where(np.load(FIXTURES / "rmis_fixed/reference.npz")["test_mask_05"][0], "test", "train")
    )
    assert run("rmis-official", path, "--json", out) == 0
    expected = reference("rmis_fixed")["settings"]["test_size_0.5"]["runs"][0]
    found = json.loads(out.read_text())
    assert (found["macro_accuracy"], found["micro_accuracy"]) == (
        expected["macro_accuracy"],
        expected["micro_accuracy"],
    )
    assert found["curve"]["macro_accuracy"][4] == found["macro_accuracy"]


def test_sealed(tmp_path, changed, capsys):
    """Channels of one recording, each a recording of its own to the published code."""
    data = np.load(FIXTURES / "rmis_fixed" / "data.npz")
    group = np.array([str(int(name[4:]) // 2 * 2) for name in data["ori"]])
    out = tmp_path / "out.json"
    assert run("rmis-fixed", changed("rmis_fixed", group=group), "--sealed", "--json", out) == 0
    found = json.loads(out.read_text())
    assert (found["kept_together"], found["recordings"]) == ("group", len(set(group)))
    assert found["changes"] == ["rows of one group are never on both sides (--sealed)"]
    label = np.arange(103) % 10
    path = changed("siren_loocv", label=label, group=np.arange(103) // 30 + 10 * label)
    for benchmark in ("siren-loocv", "siren-kfold"):
        assert run(benchmark, path, "--field", "features_d96", "--sealed", "--json", out) == 0
        assert json.loads(out.read_text())["kept_together"] == "group"
    capsys.readouterr()
    assert run("siren-loocv", "siren_loocv", "--field", "features_d96", "--sealed") == 1
    assert "--sealed: expected a field group, or ori, found neither" in capsys.readouterr().err


def test_mistakes_name_file_and_place(tmp_path, changed, capsys):
    def refused(*arguments: object) -> str:
        assert run(*arguments, "--json", tmp_path / "out.json") == 1
        assert not (tmp_path / "out.json").exists()
        return capsys.readouterr().err

    data = np.load(FIXTURES / "rmis_fixed" / "data.npz")
    ori = np.where(data["label"] == 4, "rec_lonely", data["ori"])
    text = refused("rmis-fixed", changed("rmis_fixed", ori=ori))
    assert "changed.npz: expected at least 2 recordings of every class" in text
    assert "found 1 of: ventlow_noleak (rec_lonely)" in text
    rows = data["embeddings"].copy()
    rows[17, 3] = np.nan
    assert f"row 17 ({data['file_name'][17]})" in refused("rmis-multisplit", changed("rmis_fixed", embeddings=rows))
    assert "expected a field ori, found the fields" in refused("rmis-fixed", "siren_loocv", "--field", "features_d90")
    assert "expected a field embeddings, found" in refused("siren-loocv", "siren_loocv")
    assert "test size: expected a fraction" in refused("rmis-fixed", "rmis_fixed", "--test-size", 1.5)
    assert "at least 6 recordings on the test side" in refused("rmis-fixed", "rmis_fixed", "--test-size", 0.01)
    assert "--memory, --workers: expected at least 1" in refused("rmis-fixed", "rmis_fixed", "--memory", 0)
    assert "year: expected 2020 to 2025, found 2026" in refused("rmis-ad", "rmis_ad", "--year", 2026)
    names = np.append(np.load(FIXTURES / "siren_loocv/data.npz")["class_names"], "FE_X")
    label = np.append(np.load(FIXTURES / "siren_loocv/data.npz")["label"][:-1], 10)
    path = changed("siren_loocv", class_names=names, label=label)
    assert "found 1 of: FE_X (rec_102.mat)" in refused("siren-loocv", path, "--field", "features_d90")


def test_without_a_benchmark_it_is_a_stage(capsys):
    assert main(["benchmark"]) == 1
    assert "expected a benchmark (rmis, siren, rmis-fixed, " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["benchmark", "siren-kfold"])
    assert "the following arguments are required: --embeddings" in capsys.readouterr().err


def test_nothing_slow_is_imported():
    code = (
        "import sys; from system.bin import main; "
        f"assert not main(['benchmark', 'rmis-fixed', '--embeddings', {str(FIXTURES / 'rmis_fixed/data.npz')!r}]); "
        "print([name for name in ('torch', 'pandas', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
