"""The structure of the program: rooms (packages and loose modules) import one another in one direction only."""

import ast
import graphlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 430


def sources() -> list[Path]:
    return [path for top in ("system", "submission") for path in sorted((ROOT / top).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return "submission" if module.startswith("submission") else ".".join(module.split(".")[:2])


def imported(path: Path, modules: set[str]) -> Iterator[str]:
    """Modules of the program that a file imports, anywhere in it: at its top, in functions, for annotations."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name in modules and name != "system")


def check_order(arrows: dict[str, dict[str, str]]) -> None:
    """Fails with the files of a circle."""
    try:
        list(graphlib.TopologicalSorter(arrows).static_order())
    except graphlib.CycleError as error:
        steps = itertools.pairwise(error.args[1][::-1])
        pytest.fail("; ".join(f"{one} imports {other} ({arrows[one].get(other)})" for one, other in steps))


@pytest.fixture(scope="module")
def arrows() -> dict[str, dict[str, str]]:
    """Room -> room that it imports -> the file in which it does."""
    modules = {module_of(path) for path in sources()}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sources():
        room = room_of(module_of(path))
        for target in imported(path, modules):
            if room_of(target) != room and room != "system":
                found[room].setdefault(room_of(target), str(path.relative_to(ROOT)))
    return found


def test_no_circle_of_rooms(arrows):
    check_order(arrows)


def test_no_circle_of_files():
    modules = {module_of(path): path for path in sources()}
    faces = {module for module, path in modules.items() if path.name == "__init__.py"}  # they hand on what they hold
    check_order(
        {
            module: {target: module for target in imported(path, modules.keys() - faces) if target != module}
            for module, path in modules.items()
            if module not in faces
        }
    )


def test_a_circle_would_be_found():
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b": ""}, "b": {"c": ""}, "c": {"a": ""}}).static_order())


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        (
            "system.config",
            {"system.channel_choice", "system.errors", "system.files", "system.corpora", "system.machine"},
        ),
        ("system.scoring", {"system.config", "system.errors"}),
        ("system.evaluation", {"system.errors", "system.files", "system.naming"}),
        ("system.frontends", {"system.config", "system.errors"}),
    ],
)
def test_low_rooms_stay_low(arrows, room, allowed):
    assert set(arrows[room]) <= allowed


def test_only_the_top_imports_the_package(arrows):
    assert {room for room, targets in arrows.items() if "submission" in targets} <= {
        "system.bin",
        "system.compliance",
        "system.pipeline",
    }


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
