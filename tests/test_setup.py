"""Set-up with a toy project, toy packages and pip itself: indexes are folders, nothing comes from a network."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = sysconfig.get_platform().replace("-", "_").replace(".", "_")

WORKS = "def sound():\n    return 'heard'\n"
# As soundfile's wheel for all platforms does where the system has no libsndfile.
NO_LIBRARY = "raise OSError('native library not found')\n"

# A build backend of the toy project, so that none has to be fetched.
BACKEND = """
import zipfile
METADATA = "Metadata-Version: 2.1\\nName: wheeltapper\\nVersion: 1.0\\nRequires-Dist: native\\nRequires-Dist: plain\\n"
METADATA += "Provides-Extra: dev\\nRequires-Dist: linter; extra == 'dev'\\n"

def build_editable(folder, settings=None, metadata=None):
    name = "wheeltapper-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("wheeltapper.pth", "")
        wheel.writestr("wheeltapper-1.0.dist-info/METADATA", METADATA)
        about = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("wheeltapper-1.0.dist-info/WHEEL", about)
        wheel.writestr("wheeltapper-1.0.dist-info/RECORD", "")
    return name

build_wheel = build_editable
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "wheeltapper"
version = "1.0"
dependencies = ["native", "plain"]

[project.optional-dependencies]
dev = ["linter"]
"""
DEPENDENCIES = """
def _sound(name):
    return lambda: _expect(importlib.import_module(name).sound() == "heard")


DEPENDENCIES = (
    Dependency("plain", _sound("plain")),
    Dependency("native", _sound("native"), library="libnative (apt-get install it)"),
    Dependency("linter", _sound("linter"), developer=True),
)
"""


def write_wheel(folder: Path, name: str, code: str, tag: str = "any", needs: str = "") -> None:
    """A wheel of release 1.0 in an index: folder/NAME/."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.0.dist-info"
    needed = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{name}/__init__.py": code,
        f"{name}/part.py": "x = 1\n" * 50,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needed}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(tag == 'any').lower()}\nTag: py3-none-{tag}\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text)}\n")
    with zipfile.ZipFile(place / f"{name}-1.0-py3-none-{tag}.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(rows) + f"{info}/RECORD,,\n")
    links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>\n' for wheel in sorted(place.glob("*.whl")))
    (place / "index.html").write_text(f"<html><body>{links}</body></html>")


@pytest.fixture(scope="module")
def indexes(tmp_path_factory) -> dict[str, Path]:
    """Folders in the layout of a package index: one with the wheel of this platform, one with that of all."""
    folder = tmp_path_factory.mktemp("indexes")
    found = {"whole": folder / "whole", "pure": folder / "pure"}
    for index in found.values():
        write_wheel(index, "plain", "import helper\nsound = helper.sound\n", needs="helper")
        write_wheel(index, "helper", WORKS)
        write_wheel(index, "linter", WORKS)
        write_wheel(index, "native", NO_LIBRARY)
    write_wheel(found["whole"], "native", WORKS, PLATFORM)
    return found


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A toy project with the real set-up scripts, in a folder with a space."""
    return make_checkout(tmp_path / "a checkout")


def make_checkout(folder: Path) -> Path:
    (folder / "tools").mkdir(parents=True)
    (folder / "system").mkdir()
    for name in ("tools/setup.sh", "tools/path.sh", "tools/environment.py", "tools/install.py", "system/__init__.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "tools" / "constraints.txt").write_text("native==1.0\nplain==1.0\nhelper==1.0\nlinter==1.0\n")
    program = (ROOT / "system" / "dependencies.py").read_text()
    main = 'if __name__ == "__main__":'
    assert program.count(main) == 1
    (folder / "system" / "dependencies.py").write_text(program.replace(main, DEPENDENCIES + main))
    return folder


@pytest.fixture
def setup(indexes) -> Callable[..., subprocess.CompletedProcess]:
    def run(checkout: Path, *options: str, index: str = "whole", **settings: str) -> subprocess.CompletedProcess:
        return start(checkout, indexes, *options, index=index, **settings)

    return run


def start(checkout, indexes, *options, index="whole", **settings) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "WHEELTAPPER_"))}
    interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    clean |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_REQUIRE_VIRTUALENV": "1",  # whatever fails, nothing is installed outside
        "PIP_INDEX_URL": indexes[index].as_uri(),
        "PATH": f"{interpreter.parent}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        ["tools/setup.sh", *options],
        env={**clean, "CDPATH": ".:/", **settings},
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=120,
    )


def site_of(folder: Path) -> Path:
    return next(folder.glob("lib/python*/site-packages"))


def sound(folder: Path) -> str:
    """What the packages of an environment say."""
    code = "import native, plain; print(native.sound(), plain.sound())"
    return subprocess.run([str(folder / "bin/python"), "-c", code], capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def finished(indexes, tmp_path_factory) -> tuple[Path, Path]:
    """A checkout and an environment beside it that was set up once, from two indexes; tests leave it whole."""
    folder = tmp_path_factory.mktemp("finished")
    checkout, environment = make_checkout(folder / "checkout"), folder / "environment"
    two = {"index": "pure", "PIP_EXTRA_INDEX_URL": indexes["whole"].as_uri()}
    result = start(checkout, indexes, WHEELTAPPER_VENV=str(environment), **two)
    assert result.returncode == 0, result.stderr
    return checkout, environment


@pytest.fixture
def again(finished, indexes) -> Callable[..., subprocess.CompletedProcess]:
    """Sets ``finished`` up again."""
    return lambda *options: start(finished[0], indexes, *options, WHEELTAPPER_VENV=str(finished[1]))


@pytest.fixture
def named(finished, tmp_path) -> Path:
    """Somebody's own environment, with pip and a module of theirs."""
    folder = tmp_path / "somebody's environment"
    copy_environment(finished[1], folder)
    (site_of(folder) / "own.py").write_text("x = 1\n")
    return folder


def copy_environment(source: Path, target: Path) -> None:
    """An environment with nothing but pip, for much less than ensurepip takes."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True)
    for place in site_of(source).glob("pip*"):
        shutil.copytree(place, site_of(target) / place.name)
    for script in source.glob("bin/pip*"):
        shutil.copy(script, target / "bin")


def test_of_equal_releases_the_wheel_of_this_platform_is_taken(finished, again):
    assert sound(finished[1]) == "heard heard"
    assert not (site_of(finished[1]) / "linter").exists()  # the developer's tools are not needed to run
    result = again()
    assert (result.returncode, "nothing to do" in result.stdout) == (0, True)


def test_a_package_that_cannot_work_is_named_with_what_mends_it(setup, checkout, named):
    result = setup(checkout, index="pure", WHEELTAPPER_VENV=str(named))
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "setup: native does not work (native library not found); install libnative (apt-get install it) and start again"
    ]
    assert result.stdout.count("installing it again") == 1
    # Nothing half-done is taken for done, and the next call mends it.
    result = setup(checkout, WHEELTAPPER_VENV=str(named))
    assert result.returncode == 0, result.stderr
    assert sound(named) == "heard heard"
    assert (site_of(named) / "own.py").exists()
    assert not (checkout / ".venv").exists()


def test_what_is_damaged_is_mended(finished, again):
    site = site_of(finished[1])
    shutil.rmtree(site / "helper")
    shutil.rmtree(site / "helper-1.0.dist-info")
    (site / "plain" / "part.py").write_text("x = 1\n")  # half-written
    (site / "native-1.0.dist-info" / "RECORD").unlink()
    shutil.rmtree(site / "pip" / "_internal")
    result = again()
    assert result.returncode == 0, result.stderr
    assert "helper: helper-1.0.dist-info/RECORD is gone; installing it again" in result.stdout
    assert "plain: plain/part.py has 6 bytes, not 300; installing it again" in result.stdout
    assert sound(finished[1]) == "heard heard"
    assert (site / "plain" / "part.py").stat().st_size == 300
    assert "nothing to do" in again().stdout


def test_a_killed_installation_is_taken_up(finished, again):
    environment = finished[1]
    (environment / ".wheeltapper-setup").unlink()
    (environment / ".wheeltapper-setup-started").touch()
    (site_of(environment) / "native" / "__init__.py").write_text("")  # of a write that was cut off
    result = again()
    assert result.returncode == 0, result.stderr
    assert "did not finish" in result.stdout
    assert sound(environment) == "heard heard"


def test_an_interpreter_that_is_gone_is_replaced(finished, again):
    python = finished[1] / "bin" / "python"
    python.unlink()
    python.symlink_to(finished[0] / "no interpreter")
    result = again()
    assert result.returncode == 0, result.stderr
    assert sound(finished[1]) == "heard heard"


def test_an_environment_that_lost_its_settings_is_never_taken_for_the_python_behind_it(finished, again):
    (finished[1] / "pyvenv.cfg").unlink()
    result = again()
    assert result.returncode == 0, result.stderr
    assert (finished[1] / "pyvenv.cfg").exists()
    assert sound(finished[1]) == "heard heard"


def test_two_at_once_and_the_developers_tools(finished, again):
    with ThreadPoolExecutor() as pool:
        results = [each.result() for each in [pool.submit(again, "--dev") for _ in range(2)]]
    assert [result.returncode for result in results] == [0, 0]
    assert sum("installing the project" in result.stdout for result in results) == 1
    assert (site_of(finished[1]) / "linter").exists()
    assert "nothing to do" in again().stdout  # more than enough


def test_a_moved_checkout_gets_an_environment_of_its_own(setup, checkout, finished, tmp_path):
    copy_environment(finished[1], checkout / ".venv")
    moved = tmp_path / "moved"
    checkout.rename(moved)
    result = setup(moved)
    assert result.returncode == 0, result.stderr
    assert "making an environment" in result.stdout
    assert str(moved) in (moved / ".venv" / "bin" / "activate").read_text()


def test_pips_own_constraint_counts(setup, checkout, named, tmp_path):
    (tmp_path / "own.txt").write_text("native<1.0\n")
    result = setup(checkout, WHEELTAPPER_VENV=str(named), PIP_CONSTRAINT=str(tmp_path / "own.txt"))
    assert result.returncode == 1
    assert "native<1.0" in result.stderr
    assert "the installation failed" in result.stderr.splitlines()[-1]


def test_nothing_is_written_over_a_folder_that_is_no_environment(setup, checkout, tmp_path):
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    result = setup(checkout, WHEELTAPPER_VENV=str(folder))
    assert result.returncode == 1
    assert f"{folder}: expected a Python environment or an empty folder, found other files" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_without_python_it_says_what_is_missing(setup, checkout, tmp_path):
    tools = tmp_path / "tools_only"
    tools.mkdir()
    for name in ("bash", "cat", "dirname", "sed", "env"):
        (tools / name).symlink_to(shutil.which(name))
    result = setup(checkout, PATH=str(tools))
    assert result.returncode == 1
    assert "expected Python 3.11 to 3.14" in result.stderr
    assert "apt-get install" in result.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("arguments", [["--develop"], ["--dev", "again"], ["x"]])
def test_wrong_usage(setup, checkout, arguments):
    result = setup(checkout, *arguments)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert not (checkout / ".venv").exists()
