"""The same run under other circumstances gives the same files: ``python tools/determinism_matrix.py`` tries all."""

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fork_server import Server
from safetensors.torch import load_file
from toy_runs import ZIP, Reference, differences, recipe, results

from system import score_tables

# Largest difference of a score by the rounding of several threads or processes, relative to the scores' deviation.
ROUNDING = 1e-4


def check_same(run: Reference, *settings: str, **options) -> None:
    """A run from nothing under other circumstances has the reference's results, the settings' own file left out."""
    shutil.rmtree(run.exp)
    ended = run.run(0, 9, *(f"--set={setting}" for setting in settings), **options)
    assert ended.status == 0, ended.told
    assert [text for text in run.differences() if settings == () or "config.yaml" not in text] == []


CIRCUMSTANCES = {
    "again": {},
    "folders in another order": {"hook": ["abuse_hooks", {"name": "reversed_folders"}]},
    "Turkish": {"environment": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}},
    "plain C": {"environment": {"LC_ALL": "C"}},
    "time zone": {"environment": {"TZ": "Asia/Kathmandu"}},
    "another working directory": {"cwd": "/"},
    "clock": {"hook": ["abuse_hooks", {"name": "clock_backwards"}]},
}


@pytest.mark.matrix
@pytest.mark.parametrize("name", CIRCUMSTANCES)
def test_circumstances(toy, name):
    check_same(toy, **CIRCUMSTANCES[name])


@pytest.mark.matrix
def test_stage_by_stage(toy):
    shutil.rmtree(toy.exp)
    for stage in range(10):
        ended = toy.run(stage, stage)
        assert ended.status == 0, ended.told
    assert toy.differences() == []


@pytest.mark.matrix
@pytest.mark.parametrize("seed", ["0", "1"])
def test_hash_seed(toy, tmp_path, monkeypatch, seed):
    """Python's own hashes of text, which order its sets, are drawn when a process starts."""
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    with Server(tmp_path, fresh=True) as other:
        shutil.rmtree(toy.exp)
        ended = other.run(*recipe(toy.exp, toy.conf))
    assert ended.status == 0, ended.told
    assert toy.differences() == []


@pytest.mark.matrix
def test_workers(toy):
    """How many processes prepare the batches stands in the adapter's own settings, and nowhere else."""
    shutil.rmtree(toy.exp)
    ended = toy.run(0, 9, "--set=branches.main.loop.workers=3")
    assert ended.status == 0, ended.told
    other = [text.removesuffix(" differs") for text in toy.differences()]
    named = ("config.yaml", "adapt/main/adapter.safetensors", "stages/")
    assert [name for name in other if not name.startswith(named)] == []
    found, expected = (load_file(exp / "adapt/main/adapter.safetensors") for exp in (toy.exp, toy.finished))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def spread_of_differences(toy: Reference) -> float:
    """Largest difference of a score by the network from the reference's, relative to the scores' deviation."""
    worst = 0.0
    for path in sorted((toy.finished / "scores").glob("main.*.csv")):
        found, expected = (
            np.array([row.score for row in score_tables.read_rows(place / "scores" / path.name)])
            for place in (toy.exp, toy.finished)
        )
        worst = max(worst, float(np.abs(found - expected).max() / expected.std()))
    return worst


@pytest.mark.matrix
@pytest.mark.parametrize("threads", [2, 3])
def test_threads(toy, threads):
    """Several threads add in another order than one, so that weights and scores differ by rounding."""
    shutil.rmtree(toy.exp)
    ended = toy.run(0, 9, f"--set=threads={threads}")
    assert ended.status == 0, ended.told
    worst = spread_of_differences(toy)
    print(f"{threads} threads: scores differ by {worst:.1e} of their deviation")
    assert worst < ROUNDING
    again = {name: content for name, content in results(toy.exp).items() if name != "config.yaml"}
    shutil.rmtree(toy.exp)
    assert toy.run(0, 9, f"--set=threads={threads}").status == 0
    assert differences({name: results(toy.exp)[name] for name in again}, again) == []


@pytest.mark.matrix
@pytest.mark.parametrize("place", ["another place", "a/b/c"])
def test_place_without_networks(quick, tmp_path, place):
    ended = quick.server.run(*recipe(tmp_path / place, quick.conf))
    assert ended.status == 0, ended.told
    check_package(quick, tmp_path / place)


def test_place_and_order_of_folders_without_networks(quick, elsewhere):
    check_package(quick, elsewhere)


def check_package(quick: Reference, exp: Path) -> None:
    """Manifest and records name the place, the package and what is measured do not."""
    names = [ZIP, "metrics.json", *(name for name in quick.expected if name.startswith(("scores/", "systems/")))]
    found = results(exp)
    assert [name for name in names if found[name] != quick.expected[name]] == []


def test_no_time_stands_in_the_package(quick):
    """The zip's entries are dated 1980, the report in it 2000."""
    with zipfile.ZipFile(quick.finished / ZIP) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        for entry in archive.infolist():
            assert set(re.findall(rb"D:(\d{14})", archive.read(entry))) <= {b"20000101000000"}


@pytest.mark.matrix
def test_two_processes_pretrain(toy, server):
    """Gradients are summed in another order, so that weights differ by rounding; how far that carries is measured."""
    shutil.rmtree(toy.exp)
    assert toy.run(0, 0).status == 0
    common = ["--exp", str(toy.exp), "--conf", str(toy.conf)]
    ended = server.run("launch", "--processes", "2", "pretrain", *common)
    assert ended.status == 0, ended.told
    ended = toy.run(2, 6)
    assert ended.status == 0, ended.told
    worst = spread_of_differences(toy)
    print(f"two processes: scores differ by {worst:.1e} of their deviation")
    assert worst < ROUNDING
