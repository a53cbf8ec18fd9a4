"""Several processes of one command: what is said and left when one of them dies."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import launched
import pytest
import training_runs
from test_training_processes import assert_close

import system.bin
from system.bin import launch
from system.config import LoopConfig
from system.errors import WheeltapperError
from system.pipeline.session import LOST, session

SCRIPT = Path(__file__).with_name("launched.py")


def command(*options) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[1])])  # launched and training_runs
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, options)], capture_output=True, text=True, env=environment, timeout=120
    )


@pytest.mark.slow
@pytest.mark.matrix
def test_a_process_is_killed_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "conf.yaml").write_text("seed: 0\n")
    toy = ("toy", "--exp", tmp_path / "exp", "--conf", tmp_path / "conf.yaml")
    found = command("launch", "--processes", 2, *toy, "--die", 1)
    assert found.returncode == 1
    said = r"wheeltapper launch: toy: process 1 of 2 \(pid \d+\) was killed by SIGKILL; (.*)\n"
    left = f"{tmp_path}/exp/pretrain/state.pt holds 8 steps; the same command resumes there"
    assert re.fullmatch(said, found.stderr).group(1) == left
    assert not (tmp_path / "exp" / "stages" / "1_toy.json").exists()
    monkeypatch.setitem(system.bin.COMMANDS, "toy", "train the small network")
    monkeypatch.setitem(sys.modules, "system.bin.toy", launched)
    assert system.bin.main([*map(str, toy)]) == 0  # or with as many processes as one likes
    assert "stage 1 toy: taking up what an interrupted run left\nprocess 0 is done\n" in capsys.readouterr().out
    training_runs.train(tmp_path / "alone")
    assert_close(tmp_path / "exp" / "pretrain", tmp_path / "alone")


def failures(*codes: int) -> dict:
    return {
        rank: SimpleNamespace(exitcode=code, pid=100 + rank, message={"message": "LostPeer: one is gone"})
        for rank, code in enumerate(codes)
        if code
    }


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ((0, -9), r"process 1 of 4 \(pid 101\) was killed by SIGKILL; no step was saved yet"),
        ((LOST, -9), r"process 1 of 4 \(pid 101\) was killed by SIGKILL"),
        ((-15, -11), r"process 1 of 4 \(pid 101\) was killed by SIGSEGV"),
        ((-15, 0), r"process 0 of 4 \(pid 100\) was killed by SIGTERM"),
        ((LOST, LOST), "one is gone$"),
        ((LOST, -15), r"process 1 of 4 \(pid 101\) was killed by SIGTERM"),
    ],
)
def test_who_died(codes, said):
    with pytest.raises(WheeltapperError, match=f"^pretrain: {said}"):
        launch._explain(failures(*codes), 4, ["pretrain", "--exp", "nowhere"])


@pytest.mark.parametrize("codes", [(1, LOST), (LOST, 1), (-15, 1), (1, 1)])
def test_who_spoke_needs_no_other_message(codes):
    assert launch._explain(failures(*codes), 2, ["pretrain"]) == 1


def test_the_saved_steps_are_those_of_the_experiment(tmp_path):
    training_runs.train(tmp_path / "pretrain", LoopConfig(steps=5, batch_size=8, save_every=2))
    assert "pretrain/state.pt holds 5 steps" in launch._left(
        ["pretrain", "--conf", "x", f"--exp={tmp_path}", "--set=a=b"]
    )


def test_other_commands_leave_what_is_finished(tmp_path):
    kept = "what was finished is kept, the same command goes on"
    assert launch._left(["embed", "--exp", str(tmp_path)]) == launch._left(["benchmark", "rmis"]) == kept
    training_runs.train(tmp_path / "adapt" / "main", LoopConfig(steps=3, batch_size=8, save_every=1))
    assert "adapt/main/state.pt holds 3 steps" in launch._left(["run", "--exp", str(tmp_path)])


@pytest.mark.parametrize(
    "wrong",
    [
        ["--processes", "2"],
        ["--processes", "0", "pretrain"],
        ["--processes", "1", "--machines", "2", "pretrain"],
        ["--processes", "2", "tune", "--exp", "a"],
    ],
)
def test_wrong_usage(wrong):
    parser = argparse.ArgumentParser()
    launch.add_arguments(parser)
    with pytest.raises(WheeltapperError, match="expected"):
        launch.main(parser.parse_args(wrong))


def test_wrong_options_of_the_command_are_said_once(capsys):
    with pytest.raises(SystemExit) as ended:
        system.bin.main(["launch", "--processes", "2", "--", "run", "--exp", "x", "--processes", "2"])
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err == "wheeltapper run: unrecognized arguments: --processes 2 (wheeltapper run --help)\n"
    )


def test_other_verbs_run_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(WheeltapperError, match="runs in one process, found 2"), session(tmp_path / "exp"):
        pass
