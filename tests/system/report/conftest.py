"""A synthetic run and its page."""

import shutil
from pathlib import Path

import pytest
from report_runs import build

from system.report import maps, write_report


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """An experiment folder; must not be changed."""
    return build(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def html(finished) -> str:
    return write_report(finished).read_text(encoding="utf-8")


@pytest.fixture
def folder(finished, tmp_path, monkeypatch) -> Path:
    """A copy for tests of damage, with the manifest's audio below it; t-SNE is replaced by a fast stand-in."""
    monkeypatch.setattr(maps, "tsne_each", lambda groups, seed: [vectors[:, :2] for vectors in groups])
    return Path(shutil.copytree(finished, tmp_path / "exp"))
