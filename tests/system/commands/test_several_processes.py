"""Stages 1 to 3 in two processes: what one process writes, whatever the kind of a branch."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training_runs import curve, in_processes, run_command

from system.bin import main
from system.encoders import checkpoints

HERE = Path(__file__).resolve().parent
WELL = [(0, "")] * 2
LOOP = "{steps: 3, batch_size: 4, warmup_steps: 1, save_every: 1, log_every: 1}"
CONF = f"""
encoder: {{family: fisher, size: nano}}
pretrain: {{loop: {{steps: 0}}}}
threads: 1
branches:
  main:
    embedding_dim: 16
    crop_seconds: 0.3
    tune: full
    heads: {{kind: adacos, adaptive_scale: true}}
    loop: {LOOP}
  light: {{kind: spectrum, spectrum: {{bands: 16}}}}
  lighter: {{kind: spectrum, spectrum: {{bands: 8}}, inputs: [near]}}
  network:
    kind: autoencoder
    autoencoder: {{hidden: [8], bottleneck: 4, epochs: 1}}
    scorer: {{name: precomputed}}
systems: [{{name: all, abbreviation: all, weights: {{main: 0.7, light: 0.1, lighter: 0.1, network: 0.1}}}}]
"""
# Adapters above the depth of a branch, a choice of SimAM, pseudo-attributes, networks of folds.
CHOICES = f"""
base: conf.yaml
encoder: {{family: fisher, size: nano, simam: auto}}
branches:
  main: {{tune: lora, depth: 2, pseudo_attributes: {{clusters: 2}}}}
  network: {{autoencoder: {{folds: 2}}}}
  second: {{tune: frozen, embedding_dim: 8, crop_seconds: 0.3, loop: {LOOP}}}
"""
STAGES = ("--stage", "1", "--stop-stage", "3")
TRAINED = ("adapter.safetensors", "curve.csv")  # equal to rounding; all other files byte for byte


@pytest.fixture(scope="module")
def prepared(recordings, tmp_path_factory) -> Path:
    """A folder with configurations, and an experiment after stage 0."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "conf.yaml").write_text(CONF)
    (folder / "choices.yaml").write_text(CHOICES)
    given = ["--exp", str(folder / "exp"), "--conf", str(folder / "conf.yaml"), "--data", str(recordings)]
    assert main(["run", *given, "--stop-stage", "0"]) == 0
    return folder


def files(exp: Path, stage: str) -> dict[str, Path]:
    found = {str(path.relative_to(exp)): path for path in sorted((exp / stage).rglob("*")) if path.is_file()}
    return {name: path for name, path in found.items() if "tfevents" not in name}


def assert_same_adaptation(exp: Path, reference: Path) -> None:
    """Losses to 1e-6, trained weights to 5e-5, all else equal."""
    found, wanted = files(exp, "adapt"), files(reference, "adapt")
    assert found.keys() == wanted.keys()
    for name, path in wanted.items():
        if path.name not in TRAINED or "network" in name:
            assert found[name].read_bytes() == path.read_bytes(), name
        elif path.name == "curve.csv":
            for row, other in zip(curve(found[name].parent), curve(path.parent), strict=True):
                for figure in ("loss", "loss_attribute", "loss_domain"):
                    np.testing.assert_allclose(float(row[figure]), float(other[figure]), rtol=1e-6)
        else:
            tensors, others = (checkpoints.load_file(each)["model"] for each in (found[name], path))
            assert tensors.keys() == others.keys()
            for key, tensor in others.items():
                np.testing.assert_allclose(tensors[key].numpy(), tensor.numpy(), rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("conf", ["conf.yaml", pytest.param("choices.yaml", marks=pytest.mark.matrix)])
def test_two_processes_write_what_one_does(prepared, tmp_path, capsys, conf):
    one, two, again = (shutil.copytree(prepared / "exp", tmp_path / name) for name in ("one", "two", "again"))
    given = ("--conf", str(prepared / conf), *STAGES)
    assert main(["run", "--exp", str(one), *given]) == 0
    assert in_processes(2, run_command, ["run", "--exp", str(two), *given], tmp_path) == WELL
    assert (tmp_path / "1.out").read_text() == ""
    assert "stage 3 embed: wrote" in (tmp_path / "0.out").read_text()
    assert_same_adaptation(two, one)
    # The rows of the same weights are equal byte for byte.
    shutil.rmtree(again)
    shutil.copytree(two, again)
    shutil.rmtree(again / "embeddings")
    assert main(["embed", "--exp", str(again)]) == 0
    found, wanted = files(two, "embeddings"), files(again, "embeddings")
    assert found.keys() == wanted.keys()
    assert len(found) == (14 if conf == "conf.yaml" else 19)
    for name, path in wanted.items():
        assert found[name].read_bytes() == path.read_bytes(), name
    capsys.readouterr()
    assert main(["run", "--exp", str(two), *given]) == 0  # complete for any number of processes
    assert capsys.readouterr().out.count("complete, nothing to do") == 3


def launch(*options, die: str = "") -> subprocess.CompletedProcess:
    """A command line in two processes by ``launch``; ``die``: see ``dying``."""
    path = os.pathsep.join([str(HERE), str(HERE.parents[2])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    environment |= {"WHEELTAPPER_PLUGINS": "dying", "DIE": die} if die else {}
    command = [sys.executable, "-m", "system.bin", "launch", "--processes", "2", "--", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize(
    ("die", "left"),
    [
        ("0 adapt/main/state.pt", "adapt/main/state.pt holds 1 steps; the same command resumes there"),
        ("1 SimGearbox.safetensors", "what was finished is kept, the same command goes on"),
        ("1 light/SimGearbox-0000.npz", "what was finished is kept, the same command goes on"),
    ],
    ids=["trains", "trains others", "embeds"],
)
def test_a_process_is_killed_and_the_run_goes_on(prepared, tmp_path, die, left):
    exp = shutil.copytree(prepared / "exp", tmp_path / "exp")
    found = launch("run", "--exp", exp, *STAGES, die=die)
    assert found.returncode == 1
    said = re.fullmatch(
        r"wheeltapper launch: run: process (\d) of 2 \(pid \d+\) was killed by SIGKILL; (.*)\n", found.stderr
    )
    assert said, found.stderr
    assert said[1] == die[0]
    assert said[2].removeprefix(f"{exp}/") == left
    found = launch("run", "--exp", exp, *STAGES)
    assert (found.returncode, found.stderr) == (0, "")
    assert "taking up what an interrupted run left" in found.stdout
    one = shutil.copytree(prepared / "exp", tmp_path / "one")
    assert main(["run", "--exp", str(one), *STAGES]) == 0
    assert_same_adaptation(exp, one)
    assert files(exp, "embeddings").keys() == files(one, "embeddings").keys()


@pytest.mark.slow
@pytest.mark.matrix
def test_all_stages_in_two_processes(recordings, tmp_path):
    """Stages of one process too, between and after those of all; errors are said once."""
    exp, conf = tmp_path / "exp", "recipes/dcase2026/conf/toy.yaml"
    found = launch("run", "--exp", exp, "--conf", HERE.parents[2] / conf, "--data", recordings)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("stage 9 report: wrote report.html") == 1
    assert found.stdout.count("\npackage: ") == 1
    again = launch("run", "--exp", exp)
    assert again.stdout.count("complete, nothing to do") == 10
    odd = launch("run", "--exp", exp, "--set", "branches.main.loop.batch_size=5")
    assert odd.returncode == 1
    assert odd.stderr.count("loop.batch_size: expected a multiple of 2 processes x accumulate 1, found 5") == 1
    (exp / "embeddings" / "main" / "index.csv").unlink()
    damaged = launch("run", "--exp", exp, "--stage", "5")
    assert damaged.returncode == 1
    assert damaged.stderr.count("\n") == 1
