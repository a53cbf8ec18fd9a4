"""``wheeltapper evaluate`` as a user types it."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from system.bin import main

CASE = Path(__file__).resolve().parents[2] / "fixtures" / "metrics" / "case1"


def evaluate(scores: Path, *options: object, truth: Path = CASE / "truth.csv") -> int:
    return main(["evaluate", "--scores", str(scores), "--truth", str(truth), *map(str, options)])


@pytest.fixture
def system(tmp_path) -> Path:
    return Path(shutil.copytree(CASE / "system", tmp_path / "system"))


def test_writes_json_and_prints_percent(tmp_path, capsys):
    out = tmp_path / "new" / "metrics.json"
    assert evaluate(CASE / "system", "--json", out, "--bootstrap", 200) == 0
    expected = json.loads((CASE / "reference.json").read_text())
    found = json.loads(out.read_text())
    assert found["official_score"] == pytest.approx(expected["official_score"], abs=1e-9)
    assert found["legacy_ci95"] == pytest.approx(expected["legacy_ci95"], rel=1e-9)
    assert found["year"] == 2026
    assert found["bootstrap"]["replicates"] == 200
    assert found["ci95"][0] < found["official_score"] < found["ci95"][1]
    text = capsys.readouterr().out
    assert "official score  67.35 %" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("3DPrinter"))
    assert row[:4] == ["3DPrinter", "63.58", "49.58", "52.79"]
    assert "note:" not in text


def test_the_table_as_csv_has_every_figure(tmp_path):
    out = tmp_path / "metrics.csv"
    assert evaluate(CASE / "system", "--csv", out, "--bootstrap", 0) == 0
    with out.open(newline="") as file:
        rows = {row.pop("machine"): row for row in csv.DictReader(file)}
    expected = json.loads((CASE / "reference.json").read_text())["per_machine"]
    assert list(rows)[-2:] == ["arithmetic mean", "harmonic mean"]
    assert set(expected) <= set(rows)
    for machine, values in expected.items():
        assert float(rows[machine]["pAUC"]) == pytest.approx(values["pAUC"], abs=1e-9)


def test_same_seed_same_file(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert evaluate(CASE / "system", "--json", tmp_path / name, "--seed", seed, "--bootstrap", 100) == 0
    texts = [(tmp_path / name).read_bytes() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_without_bootstrap_and_json_nothing_is_written(system, capsys):
    before = sorted(system.parent.rglob("*"))
    assert evaluate(system, "--bootstrap", 0) == 0
    assert "interval   " not in capsys.readouterr().out
    assert sorted(system.parent.rglob("*")) == before


def test_decisions_are_optional(system, capsys):
    (system / "decision_result_Scanner_section_00_test.csv").unlink()
    assert evaluate(system) == 0
    assert "no decisions for Scanner section 00" in capsys.readouterr().out
    for path in system.glob("decision_*"):
        path.unlink()
    assert evaluate(system) == 0
    text = capsys.readouterr().out
    assert "no decisions for any machine" in text
    assert "prec s" not in text


def test_other_machines_are_noted_and_not_read(system, capsys):
    (system / "anomaly_score_Sander_section_00_test.csv").write_text("damage")
    assert evaluate(system) == 0
    assert "not in the truth, ignored: Sander section 00" in capsys.readouterr().out


def test_missing_machines_are_listed(system, capsys):
    for machine in ("Scanner", "HairDryer"):
        (system / f"anomaly_score_{machine}_section_00_test.csv").unlink()
    assert evaluate(system) == 1
    captured = capsys.readouterr()
    assert "found none for HairDryer section 00, Scanner section 00" in captured.err
    assert f"{system} against {CASE / 'truth.csv'}: scores: " in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[1:], "found 1 missing (section_00_0000.wav)"),
        (
            lambda lines: [lines[0].replace("0000", "9999"), *lines[1:]],
            "1 missing (section_00_0000.wav) and 1 unexpected",
        ),
        (lambda lines: [*lines, lines[5]], "line 91: expected each clip once"),
        (lambda lines: ["file,score", *lines], "line 1: expected no header"),
        (lambda lines: [lines[0].split(",")[0] + ",nan", *lines[1:]], "line 1: expected a finite score, found nan"),
    ],
)
def test_damaged_scores_are_one_line_errors(system, tmp_path, capsys, damage, message):
    path = system / "anomaly_score_Scanner_section_00_test.csv"
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    assert evaluate(system, "--json", tmp_path / "out.json") == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Scanner" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_shuffled_rows_give_the_same_json(system, tmp_path):
    for path in system.glob("*.csv"):
        path.write_text("\r\n".join(sorted(path.read_text().splitlines(), key=lambda line: line[::-1])) + "\r\n")
    lines = (CASE / "truth.csv").read_text().splitlines()
    (tmp_path / "truth.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert evaluate(CASE / "system", "--json", tmp_path / "a.json") == 0
    assert evaluate(system, "--json", tmp_path / "b.json", truth=tmp_path / "truth.csv") == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("scores", ["none", "truth.csv"])
def test_missing_folder(tmp_path, capsys, scores):
    (tmp_path / "truth.csv").write_text("x")
    assert evaluate(tmp_path / scores) == 1
    assert "expected a folder of challenge CSVs" in capsys.readouterr().err


def test_unknown_year_and_negative_bootstrap(capsys):
    assert evaluate(CASE / "system", "--year", 2019) == 1
    assert "year: expected one of 2020, 2021, 2022, 2023, 2024, 2025, 2026, found 2019" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate(CASE / "system", "--bootstrap", -5)
    assert "expected a number from 0 on, found '-5'" in capsys.readouterr().err


def test_year_chooses_the_rule(tmp_path, capsys):
    assert evaluate(CASE / "system", "--year", 2021, "--json", tmp_path / "a.json") == 0
    assert json.loads((tmp_path / "a.json").read_text())["rule"] == 2021
    assert "pAUC s" in capsys.readouterr().out


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from system.bin import main; "
        f"main(['evaluate', '--scores', {str(CASE / 'system')!r}, '--truth', {str(CASE / 'truth.csv')!r}]); "
        "sys.exit(' '.join({'pandas', 'sklearn', 'scipy', 'torch', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
