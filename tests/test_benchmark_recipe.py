"""recipes/siren/run.sh and recipes/rmis/run.sh from publishers' files to the table."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from faults_files import put_mat
from shell_scripts import run_script

from system.corpora.faults.cwru import NUMBERS

ROOT = Path(__file__).resolve().parent.parent
RMIS, SIREN = (ROOT / "recipes" / name / "run.sh" for name in ("rmis", "siren"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """All 105 recordings of CWRU as the publisher has them, a tone for each class."""
    folder = tmp_path_factory.mktemp("raw")
    time = np.arange(4000) / 12000
    kinds: dict[str, int] = {}
    for number, (end, fault, _) in NUMBERS.items():
        kind = f"{end}{fault[:2]}{fault.partition('@')[2]}"  # without the size of the fault
        place = kinds.setdefault(kind, len(kinds))
        noise = np.random.default_rng(number).normal(0, 0.05, len(time))
        wave = np.sin(2 * np.pi * 500.0 * (1 + place) * time) + noise
        put_mat(folder / "cwru" / f"{number}.mat", **{f"X{number:03d}_DE_time": wave[:, None]})
    assert len(kinds) == len({kind.replace("B0", "B") for kind in kinds}) == 10
    return folder


def test_from_raw_files_to_the_table(raw, tmp_path):
    places = ["--raw", str(raw), "--data", str(tmp_path / "data"), "--exp", str(tmp_path / "exp")]
    options = [*places, "--store", str(tmp_path / "store"), "--encoders", "default@random log-spectrum-mean"]
    done = run_script(SIREN, *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Ranking: log-spectrum-mean: no score, 1 of 11 figures" in done.stdout
    row = json.loads((tmp_path / "exp" / "log-spectrum-mean.json").read_text())
    assert row["scores"] == {"cwru": 100.0}
    assert row["sets"]["cwru"]["rows"] == 105
    with open(tmp_path / "exp" / "table.csv", newline="") as file:
        rows = {line["encoder"]: line for line in csv.DictReader(file)}
    assert (rows["log-spectrum-mean"]["cwru"], rows["ECHO small"]["origin"]) == ("100.00", "published")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.npy")}
    assert len(before) == 2
    assert run_script(SIREN, *options, "--stage", "2", folder=tmp_path).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.npy")}


def test_nothing_there_is_said(tmp_path):
    (tmp_path / "data").mkdir()
    places = ["--raw", str(tmp_path / "none"), "--data", str(tmp_path / "data"), "--exp", str(tmp_path / "exp")]
    done = run_script(RMIS, *places, "--encoders", "log-mel-mean", folder=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path / 'data'}: expected data sets prepared for rmis" in done.stderr
