"""What set-up notices of an environment that it made, and on which platforms it begins at all."""

import base64
import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"


@pytest.fixture(scope="module")
def tools():
    """The modules of tools/ that set-up consists of."""
    sys.path.insert(0, str(TOOLS))
    try:
        import environment
        import install
    finally:
        sys.path.remove(str(TOOLS))
    return environment, install


@pytest.fixture
def whole(tools, tmp_path):
    """An environment with one distribution, as set-up leaves it: its files are an hour older than the record."""
    found = tools[0].Environment(tmp_path / "env", developer=False)
    site = found.folder / "lib" / "python3.11" / "site-packages"
    files = {"toy/__init__.py": b"x = 1\n", "toy/data.bin": bytes(1000), "../../../bin/toy": b"#!/bin/sh\n"}
    rows = []
    for name, content in files.items():
        path = Path(os.path.normpath(site / name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}")
    info = site / "Toy_er-1.0.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("\n".join([*rows, "toy/__pycache__/x.pyc,,", "Toy_er-1.0.dist-info/RECORD,,"]) + "\n")
    (found.folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (found.folder / "bin" / "toy").chmod(0o755)
    for path in found.folder.rglob("*"):
        if path.is_file():
            past = path.stat().st_mtime - 3600
            os.utime(path, (past, past))
    found.write_stamp([info])
    return found


def site_of(environment) -> Path:
    return environment.folder / "lib" / "python3.11" / "site-packages"


def _rewrite(path: Path, content: bytes) -> None:
    """Same size, other content, an hour later."""
    path.write_bytes(content)
    later = path.stat().st_mtime + 3600
    os.utime(path, (later, later))


def test_an_environment_as_it_was_left_has_no_problem(whole):
    assert whole.problems() == []
    (site_of(whole) / "of_the_user.py").write_text("")
    os.utime(site_of(whole) / "toy" / "__init__.py")  # newer, with the same content
    assert whole.problems() == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda site: (site / "toy" / "__init__.py").unlink(), "toy-er: toy/__init__.py is gone"),
        (lambda site: shutil.rmtree(site / "toy"), "toy-er: toy/__init__.py is gone"),
        (lambda site: (site / "toy" / "data.bin").write_bytes(bytes(10)), "toy/data.bin has 10 bytes, not 1000"),
        (lambda site: _rewrite(site / "toy" / "data.bin", b"\1" * 1000), "toy-er: toy/data.bin was changed"),
        (lambda site: (site.parents[2] / "bin" / "toy").unlink(), "toy-er: ../../../bin/toy is gone"),
        (lambda site: (site / "Toy_er-1.0.dist-info" / "RECORD").unlink(), "Toy_er-1.0.dist-info/RECORD is gone"),
        (lambda site: (site / "Toy_er-1.0.dist-info" / "RECORD").write_text(""), "dist-info/RECORD was changed"),
        (lambda site: shutil.rmtree(site / "Toy_er-1.0.dist-info"), "Toy_er-1.0.dist-info/RECORD is gone"),
        (lambda site: shutil.rmtree(site.parent), "Toy_er-1.0.dist-info/RECORD is gone"),
        (
            lambda site: (site.parents[2] / "bin" / "toy").chmod(0o644),
            "toy-er: ../../../bin/toy is no program any more",
        ),
        (lambda site: (site.parents[2] / "pyvenv.cfg").unlink(), "pyvenv.cfg is gone"),
        (lambda site: (site.parents[2] / ".wheeltapper-setup").write_text('{"state": '), "not set up"),
        (lambda site: (site.parents[2] / ".wheeltapper-setup").write_text("[]"), "not set up"),
        (lambda site: (site.parents[2] / ".wheeltapper-setup").write_text('{"records": [1]}'), "not set up"),
        (lambda site: (site.parents[2] / ".wheeltapper-setup").write_text('{"records": {}}'), "not set up"),
        (lambda site: (site.parents[2] / ".wheeltapper-setup").unlink(), "not set up"),
    ],
)
def test_damage_is_noticed(whole, damage, expected):
    damage(site_of(whole))
    assert expected in "; ".join(whole.problems())


def test_other_pins_another_folder_and_the_developers_tools_are_noticed(tools, whole, monkeypatch, tmp_path):
    environment, _ = tools
    assert environment.Environment(whole.folder, developer=True).problems() == ["set up without the developer's tools"]
    moved = tmp_path / "moved"
    shutil.copytree(whole.folder, moved)
    assert environment.Environment(moved, developer=False).problems() == [
        "set up for other versions, another Python or another folder"
    ]
    (tmp_path / "tools").mkdir()
    shutil.copy(TOOLS.parent / "pyproject.toml", tmp_path)
    (tmp_path / "tools" / "constraints.txt").write_text("toy==2.0\n")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert whole.problems() == ["set up for other versions, another Python or another folder"]


def test_what_is_left_of_a_distribution_is_removed_and_nothing_else(tools, whole, tmp_path):
    outside = tmp_path / "letter.txt"
    outside.write_text("dear")
    info = site_of(whole) / "Toy_er-1.0.dist-info"
    with open(info / "RECORD", "a") as file:
        file.write("../../../../letter.txt,,4\n")  # no record may reach out of its environment
    tools[1].remove_distribution(info, whole.folder)
    assert not info.exists()
    assert not (site_of(whole) / "toy" / "data.bin").exists()
    assert (whole.folder / "pyvenv.cfg").exists()
    assert outside.read_text() == "dear"


@pytest.mark.parametrize(
    ("system", "machine", "libc", "expected"),
    [
        ("Linux", "x86_64", ("glibc", "2.36"), ""),
        ("Linux", "aarch64", ("glibc", "2.28"), ""),
        ("Darwin", "arm64", ("", ""), ""),
        ("Linux", "x86_64", ("glibc", "2.17"), "expected glibc 2.28 or newer, found glibc 2.17"),
        ("Linux", "x86_64", ("musl", "1.2.5"), "expected glibc 2.28 or newer, found musl 1.2.5"),
        ("Linux", "x86_64", ("", ""), "found another C library (musl?)"),
        ("Linux", "armv7l", ("glibc", "2.36"), "found Linux on armv7l"),
        ("Darwin", "x86_64", ("", ""), "found Darwin on x86_64"),
        ("Windows", "AMD64", ("", ""), "found Windows on AMD64"),
    ],
)
def test_platforms_without_wheels_are_named_before_anything_is_fetched(tools, system, machine, libc, expected):
    found = tools[1].platform_problem(system, machine, libc)
    assert expected in found
    assert bool(expected) == bool(found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("file", "expected a folder for the environment, found a file"), ("file/env", "Not a directory")],
)
def test_a_place_that_can_hold_no_environment_is_one_line(tools, tmp_path, monkeypatch, capsys, name, expected):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["install.py", str(tmp_path / name)])
    assert tools[1].main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
