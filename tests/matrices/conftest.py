"""Runs of toy size that the matrices share."""

from pathlib import Path

import pytest
from kill_points import Matrix
from toy_runs import QUICK, Reference, recipe, write_conf


@pytest.fixture(scope="session")
def quick(server, tmp_path_factory) -> Reference:
    """A run without networks."""
    folder = tmp_path_factory.mktemp("quick")
    return Reference(folder, server, write_conf(folder, QUICK))


@pytest.fixture(scope="session")
def elsewhere(quick, tmp_path_factory) -> Path:
    """The folder of the same run at another place, which lists folders in another order and may use no network."""
    exp = tmp_path_factory.mktemp("elsewhere") / "Ort mit Lücken ünd 'Zeichen'"
    ended = quick.server.run(
        *recipe(exp, quick.conf), hook=["abuse_hooks", {"name": "reversed_folders_without_network"}]
    )
    assert ended.status == 0, ended.told
    return exp


@pytest.fixture(scope="session")
def toy(server, tmp_path_factory) -> Matrix:
    """A run with every kind of branch."""
    folder = tmp_path_factory.mktemp("toy")
    return Matrix(folder, server, write_conf(folder))
