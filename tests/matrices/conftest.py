"""Runs of toy size that the matrices share."""

from collections.abc import Iterator

import pytest
from kill_points import Matrix
from toy_runs import QUICK, Reference, Server, write_conf


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def quick(server, tmp_path_factory) -> Reference:
    """A run without networks."""
    folder = tmp_path_factory.mktemp("quick")
    return Reference(folder, server, write_conf(folder, QUICK))


@pytest.fixture(scope="session")
def toy(server, tmp_path_factory) -> Matrix:
    """A run with every kind of branch."""
    folder = tmp_path_factory.mktemp("toy")
    return Matrix(folder, server, write_conf(folder))
