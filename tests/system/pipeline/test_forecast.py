"""The line that says where a run computes and how long that will take."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from system.bin import main
from system.config import load
from system.experiment import Experiment
from system.pipeline import forecast

TOY = Path(__file__).resolve().parents[3] / "recipes" / "dcase2026" / "conf" / "toy.yaml"
HOUR = 3600.0


@pytest.mark.parametrize(
    ("parts", "device", "said"),
    [
        ([("branch main", 20.0)], "cpu", ": about 1 min"),
        ([("branch main", 1000.0), ("branch aux", 1200.0)], "cpu", ": about 37 min"),
        ([("branch main", 1.5 * HOUR)], "cpu", ": about 1.5 h for branch main"),
        (
            [("branch main", 70.2 * HOUR), ("embedding with main", 2.04 * HOUR), ("branch aux", 600.0)],
            "cpu",
            ": about 70 h for branch main, 2.0 h for embedding with main; a GPU is recommended",
        ),
        ([("branch main", 30 * HOUR)], "cuda", ": about 30 h for branch main"),
        ([("a", 0.55 * HOUR), ("b", 0.55 * HOUR)], "cpu", ": about 0.6 h for a, 0.6 h for b"),
    ],
)
def test_parts_are_named_where_they_are_long(parts, device, said):
    assert forecast.text(parts, device) == said


@pytest.fixture
def prepared(recordings, tmp_path, capsys) -> Experiment:
    exp = tmp_path / "exp"
    assert main(["prepare", "--exp", str(exp), "--conf", str(TOY), "--data", str(recordings)]) == 0
    capsys.readouterr()
    return Experiment(exp, replace(load(TOY), device="cpu", threads=1))


def test_what_is_short_by_its_arithmetic_is_not_measured(prepared, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "_timed", None)
    forecast.announce(prepared, ["data", "pretrain", "adapt", "embed", "score"])
    assert capsys.readouterr().out == "on cpu (1 thread): under 10 min of training and embedding\n"
    forecast.announce(prepared, ["score", "evaluate"])
    assert capsys.readouterr().out == ""


def test_the_rest_is_measured_with_the_real_networks(prepared, monkeypatch, capsys):
    """Each piece of work is done with the run's own recordings; the times are told by a clock that counts rows."""
    monkeypatch.setattr(forecast, "SHORT", 0.0)
    done: list[int] = []

    def timed(work, rows: int, device: str) -> float:
        work(rows)
        done.append(rows)
        return rows * 1e4  # seconds

    monkeypatch.setattr(forecast, "_timed", timed)
    state = torch.random.get_rng_state()
    forecast.announce(prepared, ["pretrain", "adapt", "embed"])
    assert torch.equal(torch.random.get_rng_state(), state)
    line = capsys.readouterr().out.splitlines()[-1]
    config, clips = prepared.config, 50
    passes = {"pre-training": config.pretrain.loop.steps * config.pretrain.loop.batch_size}
    for name, branch in prepared.encoder_branches.items():
        passes[f"branch {name}"] = branch.loop.steps * branch.loop.batch_size
        passes[f"embedding with {name}"] = clips
    times = ", ".join(f"{count * 1e4 / 3600:.0f} h for {name}" for name, count in passes.items())
    assert line == f"on cpu (1 thread): about {times}; a GPU is recommended"
    assert done == [2, 1, 1, 1, 1]


def test_a_complete_stage_takes_no_time(prepared, tmp_path, capsys):
    exp = tmp_path / "again"
    shutil.copytree(prepared.folder, exp)
    settings = ["--set", "device=cpu", "--set", "threads=1", "--set", "pretrain.loop.steps=0"]
    assert main(["pretrain", "--exp", str(exp), "--conf", str(TOY), *settings]) == 0
    capsys.readouterr()
    assert main(["pretrain", "--exp", str(exp), *settings]) == 0
    assert "on cpu" not in capsys.readouterr().out


def test_what_cannot_be_measured_has_no_time(prepared, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "SHORT", 0.0)
    monkeypatch.setattr("system.adaptation.input_crop", lambda *_: (_ for _ in ()).throw(OSError("gone")))
    forecast.announce(prepared, ["adapt"])
    assert capsys.readouterr().out.splitlines()[-1] == "on cpu (1 thread)"


@pytest.mark.parametrize(
    ("times", "seconds"),
    [([12.0, 2.0], 2.0), ([40.0], 40.0), ([3.0, 0.05, 0.16], 0.02)],
    ids=["done once", "too long for a second", "quick, so of all rows"],
)
def test_what_is_done_once_does_not_count(monkeypatch, times, seconds):
    told = iter(times)
    monkeypatch.setattr(forecast, "_timed", lambda *_: next(told))
    assert forecast._per_row(print, 8, "cpu") == pytest.approx(seconds)
    assert next(told, None) is None
