"""The SLURM jobs of the recipes on two stand-in machines: srun starts a command twice on this one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from system import manifest
from system.bin import main
from system.manifest import Clip

ROOT = Path(__file__).resolve().parent.parent
SRUN = """#!/bin/bash
# Starts what follows its options on as many machines as the job has; ends with the first status that is not 0.
while [[ $1 == --* ]]; do shift; done
for ((i = 0; i < ${SLURM_NNODES:-1}; i++)); do SLURM_PROCID=$i "$@" & started+=($!); done
status=0
for pid in "${started[@]}"; do wait "$pid" || status=$?; done
exit "$status"
"""
CONF = """
encoder: {family: fisher, size: nano}
threads: 1
pretrain:
  crop_seconds: 0.4
  max_rate: 8000
  mask: {clones: 2}
  decoder: {dim: 16, layers: 1, kernel: 3}
  loop: {steps: 3, batch_size: 4, warmup_steps: 1, log_every: 1}
"""
pytestmark = [pytest.mark.matrix, pytest.mark.slow]


@pytest.fixture
def submit(tmp_path):
    """Runs a job script with ``environment`` beside that of a job."""
    (tmp_path / "bin").mkdir()
    for name, text in {"srun": SRUN, "scontrol": "#!/bin/sh\necho localhost\n"}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def run(script: str, *options: object, **environment: str) -> subprocess.CompletedProcess:
        job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "localhost", "WHEELTAPPER_ROOT": str(ROOT)}
        known = job | {"WHEELTAPPER_VENV": sys.prefix, "OMP_NUM_THREADS": "1"} | environment
        known["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        command = [str(ROOT / "recipes" / script), *map(str, options)]
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | known, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture
def listed(recordings, tmp_path) -> Path:
    """A manifest of a few recordings."""
    paths = sorted(recordings.rglob("train/*.wav"))[:8]
    assert main(["prepare", str(recordings), "--out", str(tmp_path / "all.csv")]) == 0
    clips: list[Clip] = [clip for clip in manifest.read(tmp_path / "all.csv") if Path(clip.path) in paths]
    manifest.write(tmp_path / "some.csv", clips)
    return tmp_path / "some.csv"


def curve(exp: Path) -> list[float]:
    with open(exp / "pretrain" / "curve.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_pretraining_on_two_machines(submit, listed, tmp_path):
    (tmp_path / "conf.yaml").write_text(CONF)
    given = ["--conf", tmp_path / "conf.yaml", "--source", listed]
    found = submit("pretrain/slurm.sh", "--exp", tmp_path / "two", *given, SLURM_NNODES="2")
    assert found.returncode == 0, found.stderr
    assert main(["pretrain", "--exp", str(tmp_path / "one"), *map(str, given)]) == 0
    np.testing.assert_allclose(curve(tmp_path / "two"), curve(tmp_path / "one"), rtol=1e-5)


def test_embedding_by_two_tasks_of_an_array(submit, listed, tmp_path):
    given = ["--audio", listed, "--store", tmp_path / "array"]
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "2"}
    told = [submit("embed/slurm.sh", *given, SLURM_ARRAY_TASK_ID=task, **array) for task in "12"]
    assert [found.returncode for found in told] == [0, 0]
    assert "4 of 8 recordings are there" in told[0].stdout
    assert "8 recordings (index.csv)" in told[1].stdout
    assert main(["embed", "--audio", str(listed), "--store", str(tmp_path / "one")]) == 0
    for name in ("embeddings.npy", "index.csv"):
        assert (tmp_path / "array" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_the_main_recipe_on_two_machines(submit, recordings, tmp_path):
    toy = ROOT / "recipes" / "dcase2026" / "conf" / "toy.yaml"
    given = ["--data", recordings, "--candidates", toy, "--exp", tmp_path / "e", "--stop-stage", "0"]
    found = submit("dcase2026/slurm.sh", *given, SLURM_NNODES="2")
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("stage 3 embed: wrote") == found.stdout.count("stage 6 evaluate: wrote") == 1
    assert (tmp_path / "e" / "development" / "toy" / "metrics.json").is_file()
