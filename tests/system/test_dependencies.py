"""Failing dependencies: found by probes, reported in one line, and not confused with other errors."""

import importlib
import py_compile
import re
import sys
import tomllib
from pathlib import Path

import pytest

from system import dependencies
from system.dependencies import DEPENDENCIES, PYTHONS, Dependency, import_failure, run_probes

ROOT = Path(__file__).resolve().parents[2]


def test_every_direct_dependency_has_a_probe():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", text)[0]).lower() for text in requirements}

    assert names(project["dependencies"]) == {each.name for each in DEPENDENCIES if not each.developer}
    assert names(project["optional-dependencies"]["dev"]) == {each.name for each in DEPENDENCIES if each.developer}


def test_the_pythons_are_the_same_everywhere():
    (_, low), (_, high) = PYTHONS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">=3.{low},<3.{high + 1}"
    assert f"not (3, {low}) <= sys.version_info[:2] <= (3, {high})" in (ROOT / "tools" / "setup.sh").read_text()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Writes modules among installed packages, to be imported in this test alone."""
    site = tmp_path / "site-packages"

    def write(**modules: str) -> Path:
        for name, code in modules.items():
            path = site.joinpath(*name.split("__"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".py").write_text(code)
        importlib.invalidate_caches()
        return site

    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def caught(code: str) -> BaseException:
    try:
        exec(compile(code, "program.py", "exec"), {})
    except Exception as error:
        return error
    raise AssertionError(f"{code}: expected an exception")


@pytest.mark.parametrize(
    ("modules", "code", "package", "reason", "culprit"),
    [
        ({}, "import toy_gone", "toy-gone", "No module named 'toy_gone'", "toy-gone"),
        ({"toy": "raise OSError('library not found')"}, "import toy", "toy", "library not found", "toy"),
        ({"toy": "import toy_part"}, "import toy", "toy", "No module named 'toy_part'", "toy-part"),
        ({"toy": "import part", "part": "1 / 0"}, "import toy", "toy", "ZeroDivisionError: division by zero", "part"),
        ({"toy": "x = (1,"}, "import toy", "toy", "SyntaxError: '(' was never closed", "toy"),
        (
            {"toy": "def f():\n    import nowhere_x"},
            "import toy; toy.f()",
            "toy",
            "No module named 'nowhere_x'",
            "nowhere-x",
        ),
        ({"toy": "x = 1"}, "from toy import y", "toy", "cannot import name 'y' from 'toy'", "toy"),
        (
            {"toy__part": "x = 1"},
            "import toy; toy.array",
            "toy",
            "AttributeError: module 'toy' has no attribute",
            "toy",
        ),
        (
            {"toy": "try:\n    import gone_x\nexcept ImportError as e:\n    raise RuntimeError('lazy') from e"},
            "import toy",
            "toy",
            "RuntimeError: lazy",
            "toy",
        ),
        (
            {"toy": "raise ImportError('\\n\\nRead this.\\n\\nOriginal error was: no _core\\n')"},
            "import toy",
            "toy",
            "Original error was: no _core",
            "toy",
        ),
    ],
)
def test_an_import_that_fails_is_told_in_one_line(installed, modules, code, package, reason, culprit):
    installed(**modules)
    found = import_failure(caught(code))
    assert (found.package, found.culprit) == (package, culprit)
    assert found.reason.startswith(reason)
    assert str(found).startswith(f"{package} does not work here ({reason}")
    assert "\n" not in str(found)
    assert "tools/setup.sh" in str(found)


def test_byte_code_that_was_cut_short_is_told_from_a_mistake_of_ours(installed):
    source = installed(toy="x = 1\n" * 100) / "toy.py"
    compiled = Path(py_compile.compile(str(source)))
    compiled.write_bytes(compiled.read_bytes()[:60])
    found = import_failure(caught("import toy"))
    assert (found.package, found.culprit) == ("toy", "toy")
    assert "delete the folders __pycache__" in str(found)


def test_the_remedy_fits_the_package():
    missing = ModuleNotFoundError("No module named '_lzma'", name="_lzma")
    assert "this Python was built without that module" in str(import_failure(missing))
    assert "git status" in str(import_failure(ModuleNotFoundError("No module named 'system.x'", name="system.x")))
    soundfile = import_failure(ModuleNotFoundError("No module named 'soundfile'", name="soundfile"))
    assert "apt-get install libsndfile1" in str(soundfile)


@pytest.mark.parametrize(
    ("modules", "code"),
    [
        ({}, "1 / 0"),
        ({"toy": "def f():\n    raise ValueError('bad')"}, "import toy; toy.f()"),
        ({"toy": "def f():\n    raise OSError('no such thing')"}, "import toy; toy.f()"),
        ({}, "import json; json.array"),
        ({}, "try:\n    import gone_x\nexcept ImportError:\n    raise ValueError('a mistake of ours')"),
    ],
)
def test_other_exceptions_are_not_taken_for_imports(installed, modules, code):
    installed(**modules)
    assert import_failure(caught(code)) is None


def test_probes_say_which_package_fails_and_why(installed, monkeypatch):
    installed(toy_good="x = 1", toy_bad="import toy_part", toy_part="raise OSError('no library')", toy_wrong="x = 2")

    def is_one(name: str):
        return lambda: dependencies._expect(importlib.import_module(name).x == 1)

    table = tuple(Dependency(f"toy-{name}", is_one(f"toy_{name}")) for name in ("good", "bad", "wrong", "unasked"))
    monkeypatch.setattr(dependencies, "DEPENDENCIES", table)
    found = dict(run_probes(["toy-wrong", "toy-bad", "toy-good"]))
    assert list(found) == ["toy-good", "toy-bad", "toy-wrong"]
    assert found["toy-good"] is None
    assert (found["toy-bad"].reason, found["toy-bad"].culprit) == ("no library", "toy-part")
    assert (found["toy-wrong"].reason, found["toy-wrong"].culprit) == ("ValueError: a result is wrong", "toy-wrong")


INTERPRETER = """#!/bin/sh
# Stands in for Python: answers as the probes do.
shift 2
for name; do
    case $name in
        good) echo 'said by a package'; echo '["good", null]' ;;
        bad) echo '["bad", {"package": "bad", "reason": "no library", "culprit": "part"}]' ;;
        deadly) kill -SEGV $$ ;;
        last) echo '["last", null]' ;;
    esac
done
"""


def test_a_package_that_takes_its_process_down_is_named_and_the_others_are_still_tried(tmp_path):
    python = tmp_path / "python"
    python.write_text(INTERPRETER)
    python.chmod(0o755)
    found = dependencies.failed_probes(python, ["good", "bad", "deadly", "last"])
    assert [(each.package, each.reason, each.culprit) for each in found] == [
        ("bad", "no library", "part"),
        ("deadly", "it ends the process by SIGSEGV", "deadly"),
    ]
