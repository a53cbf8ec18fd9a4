"""Creates and repairs the Python environment and tries every package. Called by tools/setup.sh.

    python install.py VENV [--dev]      exits with 1 after one line that names what failed

Only the standard library is imported, because this runs before anything is installed.
"""

import argparse
import contextlib
import csv
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from environment import Environment, distribution_name  # noqa: E402

from system.dependencies import DEPENDENCIES, PYTHONS, failed_probes, named, normal  # noqa: E402

OLDEST_GLIBC = (2, 28)
LAST_LINES = 15  # of pip's output, shown where it failed and nobody watched


class SetupError(Exception):
    """One line for the user."""


def say(text: str) -> None:
    """Prints a line of progress."""
    print(f"setup: {text}", flush=True)


def run_python(environment: Environment, *arguments: str, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Runs the environment's interpreter, without the modules of the folder that it is called from."""
    command = [str(environment.python), "-P", *arguments]
    return subprocess.run(command, check=check, **{"capture_output": True, "text": True, **options})


def distributions(environment: Environment) -> dict[str, Path]:
    """Metadata folders of all installed distributions by normal name."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'), sysconfig.get_path('platlib'), sep='\\n')"
    sites = sorted(set(run_python(environment, "-c", code).stdout.splitlines()))
    return {distribution_name(place): place for site in sites for place in sorted(Path(site).glob("*.dist-info"))}


def required(environment: Environment) -> list[Path]:
    """Metadata folders of what the project needs, directly or not, as it is installed."""
    asked = "wheeltapper[dev]" if environment.developer else "wheeltapper"
    names = json.loads(run_python(environment, "-c", _CLOSURE, asked).stdout)
    installed = distributions(environment)
    return [installed[name] for name in names if name in installed]


# Run by the environment's own interpreter: names of all distributions that the one in argv[1] needs there, pip's too.
_CLOSURE = """
import importlib.metadata as metadata, json, sys
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name
found, waiting = {"pip"}, [Requirement(sys.argv[1])]
done = set()
while waiting:
    wanted = waiting.pop()
    name = canonicalize_name(wanted.name)
    if (name, frozenset(wanted.extras)) in done:
        continue
    done.add((name, frozenset(wanted.extras)))
    try:
        needs = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        continue
    found.add(name)
    for text in needs:
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
            waiting.append(need)
print(json.dumps(sorted(found)))
"""


def remove_distribution(place: Path, environment: Path) -> None:
    """Removes what is left of a distribution, so that the installer takes it for absent."""
    site = place.parent
    with contextlib.suppress(OSError):
        for row in csv.reader((place / "RECORD").read_text(encoding="utf-8", errors="replace").splitlines()):
            file = Path(os.path.normpath(site / row[0])) if row else site
            if file.is_relative_to(environment):
                with contextlib.suppress(OSError):
                    shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
    shutil.rmtree(place, ignore_errors=True)


def make(environment: Environment) -> None:
    """Makes the virtual environment, or what is missing of one, pip included."""
    folder, python = environment.folder, environment.python
    if _is_whole(environment) and not _is_moved(environment):
        if _has_pip(environment) or _restore_pip(environment):
            return
        if not environment.is_own:
            raise SetupError(f"{folder}: expected an environment with pip, found none that works; mend or remove it")
    known = any((folder / name).exists() for name in ("pyvenv.cfg", environment.stamp.name, "bin/activate"))
    if any(folder.iterdir()) and not known:
        raise SetupError(f"{folder}: expected a Python environment or an empty folder, found other files")
    base = getattr(sys, "_base_executable", sys.executable)
    if python.is_symlink():
        moved = _is_whole(environment) and _is_moved(environment)
        found = "was made for another folder" if moved else f"no longer belongs to {os.path.realpath(python)}"
        say(f"{folder}: the environment {found}")
    say(f"making an environment in {folder} (Python {platform.python_version()})")
    if environment.is_own:  # what may hold somebody's own packages is mended in place, never emptied
        options = ["--clear"]
    else:
        options = []
        for link in python.parent.glob("python*"):
            if not link.exists():  # of an interpreter that is gone
                link.unlink()
    if subprocess.run([base, "-m", "venv", *options, str(folder)]).returncode or not _is_whole(environment):
        raise SetupError(f"{folder}: making the environment failed, see above; remove the folder and start again")
    if not _has_pip(environment) and not _restore_pip(environment):
        raise SetupError(f"{folder}: the environment has no pip that works; remove the folder and start again")


def _works(python: Path, *arguments: str) -> bool:
    """Whether an interpreter of a version that is known to work runs."""
    code = f"import sys; sys.exit(not {PYTHONS[0]} <= sys.version_info[:2] <= {PYTHONS[1]})"
    with contextlib.suppress(OSError):
        return not subprocess.run([str(python), *(arguments or ("-c", code))], capture_output=True).returncode
    return False


def _is_whole(environment: Environment) -> bool:
    """Whether the environment's interpreter runs, installs into the environment, and is the one it was made with."""
    if not _works(environment.python):
        return False
    code = (
        "import os, sys, sysconfig; print(os.path.realpath(sys.prefix), os.path.isdir(sysconfig.get_path('purelib')))"
    )
    return run_python(environment, "-c", code, check=False).stdout.strip() == f"{environment.folder} True"


def _is_moved(environment: Environment) -> bool:
    """Whether the checkout was moved or copied with its environment, whose scripts still name the old folder."""
    activate = environment.python.with_name("activate")
    return environment.is_own and not (
        activate.is_file() and str(environment.folder) in activate.read_text(encoding="utf-8", errors="replace")
    )


def _has_pip(environment: Environment) -> bool:
    """Whether pip is there and whole; one from outside the environment counts as whole."""
    place = distributions(environment).get("pip")
    if place and place.is_relative_to(environment.folder) and environment.damaged([place]):
        return False
    # Isolated, since a mistake in pip's settings is no damage: the installation will name it.
    return _works(environment.python, "-m", "pip", "--isolated", "--version")


def _restore_pip(environment: Environment) -> bool:
    say("pip is damaged or missing: installing it again")
    place = distributions(environment).get("pip")
    if place and place.is_relative_to(environment.folder):
        remove_distribution(place, environment.folder)
    run_python(environment, "-m", "ensurepip", "--upgrade", "--default-pip", check=False)
    return _has_pip(environment)


def clear_damage(environment: Environment) -> None:
    """Removes half-written and half-deleted distributions, which pip would take for installed or could not remove."""
    places = [environment.folder / name for name in environment.read_stamp().get("records", {})]
    if environment.started.is_file() or not places:
        if environment.started.is_file():
            say("an earlier set-up did not finish: checking what it left")
        pinned = {normal(line.partition("==")[0]) for line in _constraints()} | {"wheeltapper"}
        for name, place in distributions(environment).items():
            # What else may be in somebody's own environment is none of our business.
            if environment.is_own or name in pinned or name.startswith(("nvidia-", "cuda-")):
                places.append(place)
    for place, reason in environment.damaged(places).items():
        if distribution_name(place) != "pip":  # made whole before
            say(f"{distribution_name(place)}: {reason}; installing it again")
            remove_distribution(place, environment.folder)


def _constraints() -> list[str]:
    return [line for line in (ROOT / "tools/constraints.txt").read_text().splitlines() if "==" in line]


def pip_install(environment: Environment, *arguments: str) -> bool:
    """Runs pip install with the pins; settings of pip that would install elsewhere are left out."""
    settings = {**os.environ, "PIP_USER": "0"}
    for name in ("TARGET", "PREFIX", "ROOT", "PYTHON", "NO_DEPS", "DRY_RUN", "REQUIRE_HASHES"):
        settings.pop(f"PIP_{name}", None)
    command = [str(environment.python), "-P", "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--constraint", "tools/constraints.txt", *arguments]
    if sys.stderr.isatty():
        return not subprocess.run(command, cwd=ROOT, env=settings).returncode
    result = subprocess.run(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        print(*result.stdout.splitlines()[-LAST_LINES:], sep="\n", file=sys.stderr)
    return not result.returncode


def prove(environment: Environment) -> None:
    """Every direct dependency must import and do one thing. One that does not is installed again, with what it names
    as the cause; raises SetupError where that does not help."""
    installed = distributions(environment)
    # Of the developer's tools some have no wheels for some platforms.
    names = [each.name for each in DEPENDENCIES if not each.developer or each.name in installed]
    tried: set[str] = set()
    while failures := failed_probes(environment.python, names):
        package, reason = failures[0].package, failures[0].reason
        suspects = [name for name in dict.fromkeys((package, failures[0].culprit)) if name not in tried]
        suspects = [name for name in suspects if name in installed or named(name)]
        if not suspects or not all(_install_again(environment, name, reason, tried) for name in suspects):
            dependency = named(package)
            mends = dependency.library if dependency and dependency.library else ""
            raise SetupError(
                f"{package} does not work ({reason}); "
                + (f"install {mends}" if mends else f"remove {environment.folder}, or choose another Python,")
                + " and start again"
            )
        names = [failure.package for failure in failures]


def _install_again(environment: Environment, name: str, reason: str, tried: set[str]) -> bool:
    say(f"{name} does not work ({reason}): installing it again")
    tried.add(name)
    return pip_install(environment, "--force-reinstall", "--no-deps", "--no-cache-dir", name)


def platform_problem(system: str, machine: str, libc: tuple[str, str]) -> str:
    """Why the pinned packages have no wheels for a platform, as the module ``platform`` names it; empty if they have.

    Args:
        libc: name and version of the C library, as ``platform.libc_ver`` gives them.
    """
    works = "Linux on x86-64 and aarch64 with glibc 2.28 or newer, macOS on arm64"
    version = tuple(int(part) for part in libc[1].split(".")[:2] if part.isdigit())
    if system == "Linux" and (libc[0] != "glibc" or version < OLDEST_GLIBC):
        return (
            f"expected glibc 2.28 or newer, found {' '.join(libc).strip() or 'another C library (musl?)'}; {works} work"
        )
    if (system, machine) not in {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64")}:
        return f"found {system} on {machine}; {works} work (docs/installation.md)"
    return ""


@contextlib.contextmanager
def locked(environment: Environment) -> Iterator[None]:
    """Lets one set-up at a time work on an environment; the lock is on the folder itself and ends with the process."""
    folder = environment.folder
    descriptor = os.open(folder, os.O_RDONLY)
    environment.locks = (descriptor,)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another set-up of {folder}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def install(environment: Environment) -> None:
    """Makes or mends the environment; raises SetupError."""
    begin = time.monotonic()
    if environment.folder.exists() and not environment.folder.is_dir():
        raise SetupError(f"{environment.folder}: expected a folder for the environment, found a file")
    environment.folder.mkdir(parents=True, exist_ok=True)
    with locked(environment):
        if _is_whole(environment) and not environment.problems():
            say(f"nothing to do ({environment.folder}), the other set-up has finished")
            return
        make(environment)
        unknown = platform_problem(platform.system(), platform.machine(), platform.libc_ver(sys.executable))
        if unknown and "torch" not in distributions(environment):
            raise SetupError(unknown)
        clear_damage(environment)
        environment.stamp.unlink(missing_ok=True)
        environment.started.touch()
        new = "torch" not in distributions(environment)
        say(f"installing the project and {len(_constraints())} pinned packages" + " (a few GB; minutes)" * new)
        if not pip_install(environment, "--no-compile", "--editable", ".[dev]" if environment.developer else "."):
            raise SetupError("the installation failed, see above; start again after mending it")
        say("trying every package")
        prove(environment)
        environment.write_stamp(required(environment))
        environment.started.unlink()
    say(f"done in {time.monotonic() - begin:.0f} s")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dev", action="store_true", help="with what the tests need")
    args = parser.parse_args()
    environment = Environment(args.folder, args.dev)
    environment.developer |= bool(environment.read_stamp().get("developer"))
    try:
        install(environment)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or environment.folder
        print(
            f"setup: {where}: {error.strerror or error}; the environment belongs in {environment.folder}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; start again to go on", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError as error:
        last = (str(error.stderr).strip().splitlines() or [""])[-1]
        print(f"setup: {environment.folder}: its Python failed ({last[:200]}); remove it, start again", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
