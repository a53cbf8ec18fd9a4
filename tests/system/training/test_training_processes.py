"""Training in several processes, and in one that is killed: the same curve as in one undisturbed process."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_runs import CONFIG, SERVER, curve, in_processes, train, train_and_die

from system import processes
from system.errors import WheeltapperError
from system.pipeline import session
from system.pipeline.session import execute
from system.stage import Stage

# Largest relative difference of the loss and the gradient's norm over 24 steps: 1.3e-7 when measured.
TOLERANCE = 1e-5
WELL = (0, "")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of an undisturbed run in one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert in_processes(1, train, folder) == [WELL]
    return folder


def weights(folder) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["step"] == CONFIG.steps
    return state["module"]


def assert_same_bits(folder, reference) -> None:
    assert curve(folder) == curve(reference)
    expected = weights(reference)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(folder).items())


def assert_close(folder, reference) -> None:
    rows, expected = curve(folder), curve(reference)
    assert len(rows) == CONFIG.steps
    for name in ("loss", "gradient_norm", "slow"):
        column, other = ([float(row[name]) for row in each] for each in (rows, expected))
        np.testing.assert_allclose(column, other, rtol=TOLERANCE)
    assert [row["probe"] for row in rows] == [row["probe"] for row in expected]
    for name, tensor in weights(folder).items():
        torch.testing.assert_close(tensor, weights(reference)[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "change"),
    [(2, {}), (1, {"accumulate": 2}), (2, {"accumulate": 2, "workers": 3})],
    ids=["two processes", "accumulated", "both"],
)
def test_the_same_curve_however_a_batch_is_split(tmp_path, alone, count, change):
    assert in_processes(count, train, tmp_path, replace(CONFIG, **change)) == [WELL] * count
    assert_close(tmp_path, alone)


@pytest.mark.parametrize("index", [0, pytest.param(1, marks=pytest.mark.matrix)])
def test_one_of_two_processes_is_killed(tmp_path, alone, index):
    found = in_processes(2, train_and_die, tmp_path, replace(CONFIG, save_every=4), index, 9, seconds=30)
    assert found[index] == (-9, "")
    status, message = found[1 - index]
    assert status == 1
    assert message.startswith(
        f"LostPeer: another process of this run has ended; {tmp_path / 'state.pt'} holds 8 steps; "
        "the same command resumes there ("
    )
    count = 2 - index  # also resumes with another number of processes
    assert in_processes(count, train, tmp_path) == [WELL] * count
    assert_close(tmp_path, alone)


def test_killed_at_any_step(tmp_path, alone):
    steps = sorted(random.Random(7).sample(range(CONFIG.steps), 3))
    for step in steps:
        assert in_processes(1, train_and_die, tmp_path, replace(CONFIG, save_every=3), 0, step) == [(-9, "")]
    assert in_processes(1, train, tmp_path) == [WELL]
    assert_same_bits(tmp_path, alone)


@pytest.mark.matrix
def test_killed_at_any_time(tmp_path, alone):
    """Killed from outside while it computes or writes; each step writes a state."""
    delays = random.Random(3)
    for seen in (0, 4, 8):
        process = SERVER.Process(target=train, args=(tmp_path, replace(CONFIG, workers=2)))
        process.start()
        while process.is_alive() and steps_done(tmp_path) <= seen:
            time.sleep(0.002)
        time.sleep(delays.uniform(0.0, 0.03))
        process.kill()
        process.join()
    assert in_processes(1, train, tmp_path) == [WELL]
    assert_same_bits(tmp_path, alone)
    assert not list(tmp_path.glob(".*.tmp"))


def steps_done(folder) -> int:
    return len(curve(folder)) if (folder / "curve.csv").is_file() else 0


def test_a_loss_that_is_not_finite_in_one_process_stops_all(tmp_path):
    found = in_processes(2, train, tmp_path, replace(CONFIG, save_every=3), None, 7, seconds=30)
    assert found[0] == found[1]
    status, message = found[0]
    assert status == 1
    assert message.startswith(f"WheeltapperError: {tmp_path}: step 7: expected a finite loss, found nan")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in state["module"].values())


def test_a_batch_must_be_divisible(tmp_path):
    for status, message in in_processes(2, train, tmp_path, replace(CONFIG, accumulate=3)):
        assert status == 1
        assert "expected a multiple of 2 processes x accumulate 3, found 8" in message


def train_apart(folder) -> None:
    train(folder / ("a" if processes.is_main() else "b"))


def test_the_folder_must_be_shared(tmp_path):
    assert in_processes(1, train, tmp_path / "a", replace(CONFIG, save_every=CONFIG.steps)) == [WELL]
    for status, message in in_processes(2, train_apart, tmp_path):
        assert status == 1
        assert "expected one state for all processes, found states of [0, 24] steps" in message


def run_stages(exp, copies: int) -> None:
    """A stage in which each process writes a file that the main process records; repeated if requested."""
    processes.join("cpu")

    def work():
        path = exp / "out" / f"{processes.gather(processes.is_main()).count(True)}_{processes.is_main()}.txt"
        path.parent.mkdir(exist_ok=True)
        with open(path, "a") as file:
            file.write("x")
        return [path]

    for _ in range(copies):
        execute(Stage(1, "toy", exp, {}, [], owns=["out"]), work)
    processes.leave()


def test_a_stage_works_in_all_processes_once(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1_False.txt").write_text("of an earlier run, removed before the others begin")
    assert in_processes(2, run_stages, tmp_path, 2) == [WELL, WELL]
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "1_True.txt": "x",
        "1_False.txt": "x",
    }
    assert in_processes(2, run_stages, tmp_path, 1) == [WELL, WELL]  # complete, nothing to do
    assert (tmp_path / "out" / "1_False.txt").read_text() == "x"


def fail(kinds) -> None:
    processes.join("cpu")
    with session.one_voice():
        raise kinds[0 if processes.is_main() else 1]("why")


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ((WheeltapperError, WheeltapperError), [{"WheeltapperError: why", ""}]),
        ((WheeltapperError, processes.LostPeer), [{"WheeltapperError: why", ""}, {"LostPeer: why", ""}]),
        ((ZeroDivisionError, ZeroDivisionError), [{"ZeroDivisionError: why"}]),  # program errors: all of them
    ],
)
def test_one_process_says_why_all_stop(kinds, said):
    found = in_processes(2, fail, kinds)
    assert [status for status, _ in found] == [1, 1]
    assert {message for _, message in found} in said
