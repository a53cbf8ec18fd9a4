"""Diagnosis of the installation for bug reports: versions, device, threads, disk, pip settings.

Only the standard library is imported, because everything else may be damaged; packages are tested in separate
processes. Passwords and tokens are not shown.
"""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from system import __version__, machine, plugins
from system.dependencies import DEPENDENCIES, PYTHONS, advice, ending, failed_probes
from system.pipeline import disk
from system.record import commit

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".wheeltapper-setup"  # file that tools/setup.sh writes to an environment
VARIABLES = re.compile(
    r"WHEELTAPPER_.*|.*_NUM_THREADS|OMP_.*|CUDA_VISIBLE_DEVICES|(https?|no|all)_proxy", re.IGNORECASE
)
SECRET = re.compile("(?i)secret|token|passw|passphrase|credential|auth|api.?key")
HIDDEN = "***"
# Program that asks the packages themselves; the part of a package that fails is omitted.
ASK = """
import contextlib, json
found = {}
with contextlib.suppress(Exception):
    import soundfile
    found["libsndfile"] = soundfile.__libsndfile_version__
with contextlib.suppress(Exception):
    import torch
    found["threads"] = torch.get_num_threads()
    found["cuda"] = torch.version.cuda or ""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found["devices"] = ["cpu", *(torch.cuda.get_device_name(number) for number in range(count))]
with contextlib.suppress(Exception):
    import logging
    from system import machine
    logging.disable()
    trials = [machine.try_device(name) for name in machine.ACCELERATORS]
    found["unusable"] = [f"device: {problem}" for there, problem in trials if there and problem]
    found["device: auto"] = machine.describe_device(machine.choose_device())
print(json.dumps(found))
"""


def examine(exp: str, quick: bool = False) -> dict[str, Any]:
    """Collects the information for a bug report.

    Args:
        exp: experiment folder, whose disk is examined too.
        quick: skip the tests of the packages and questions to torch, which take seconds.

    Returns:
        Values that can be stored as JSON; ``problems`` has one line for everything that does not work.
    """
    packages = {dependency.name: _version(dependency.name) for dependency in DEPENDENCIES if not dependency.developer}
    failures = _failures(list(packages)) if not quick else _missing(packages)
    asked = {} if quick else _ask()
    plugged = {name: plugins.failure(name) for name in plugins.names()}
    problems = [*dict.fromkeys(failures.values()), *filter(None, plugged.values()), *asked.get("unusable", [])]
    version = sys.version_info[:2]
    if not PYTHONS[0] <= version <= PYTHONS[1]:
        first, last = (".".join(map(str, each)) for each in PYTHONS)
        problems.append(
            f"Python {platform.python_version()}: expected {first} to {last}; run tools/setup.sh, which looks for one"
        )
    return {
        "wheeltapper": {"version": __version__, "commit": commit(), "folder": str(ROOT)},
        "python": {"version": platform.python_version(), "program": sys.executable},
        "platform": {"system": platform.platform(), "libc": " ".join(platform.libc_ver())},
        "environment": {"folder": sys.prefix, "set up": (Path(sys.prefix) / STAMP).is_file()},
        "packages": {
            name: {"version": found, "works": False if name in failures else None if quick else True}
            for name, found in packages.items()
        },
        "libsndfile": asked.get("libsndfile", ""),
        "torch": {name: asked[name] for name in ("threads", "cuda", "devices", "device: auto") if name in asked},
        "processor": {
            "cores of the machine": os.cpu_count(),
            "cores for this process": machine.cores(),
            "threads": machine.threads(),
        },
        "memory": disk.size(machine.memory()) if machine.memory() else "",
        "disk": {name: _free(path) for name, path in _places(exp).items()},
        "pip": _pip_settings(),
        "variables": {key: hide(key, value) for key, value in sorted(os.environ.items()) if VARIABLES.fullmatch(key)},
        "plug-ins": {name: problem or "works" for name, problem in plugged.items()},
        "problems": [hide("", problem) for problem in problems],
    }


def render(found: dict[str, Any]) -> str:
    """Formats the result of ``examine`` as text."""
    lines = []
    for section, content in found.items():
        if section == "problems":
            continue
        if section == "packages":
            lines += ["packages", *(_package_line(name, about) for name, about in content.items())]
        elif isinstance(content, dict):
            lines += [f"{section}{'' if content else ': none'}"]
            lines += [f"  {name}: {_text(value)}" for name, value in content.items()]
        else:
            lines.append(f"{section}: {_text(content)}")
    problems = found["problems"]
    lines += ["", f"{len(problems)} problems:", *problems] if problems else ["", "no problem found"]
    return "\n".join(lines)


def hide(key: str, text: str) -> str:
    """Removes secrets from a text: user names and passwords, queries, and parts of addresses that look like tokens.

    Args:
        key: name of the setting; if it suggests a secret, the whole text is hidden.
        text: value of the setting.
    """
    return HIDDEN if SECRET.search(key) else re.sub(r"[^\s'\",]+", lambda word: _hide_word(word[0]), text)


def _hide_word(word: str) -> str:
    scheme, is_address, rest = word.rpartition("://")
    name, is_named, host = rest.rpartition("@")
    if is_named and (is_address or ":" in name):
        rest = f"{HIDDEN}@{host}"
    if is_address:
        rest = re.sub("[?#].*", f"?{HIDDEN}", rest)
        rest = re.sub(r"/(?=[^/]*\d)[\w.~+=%-]{16,}(?=/|$)", f"/{HIDDEN}", rest)
    return scheme + is_address + rest


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _package_line(name: str, about: dict[str, Any]) -> str:
    state = {True: "works", False: "DOES NOT WORK", None: ""}[about["works"]]
    return f"  {name} {about['version'] or '(not installed)'} {state}".rstrip()


def _version(name: str) -> str:
    """Version of an installed distribution; empty if it is missing or its metadata is damaged."""
    try:
        return importlib.metadata.version(name) or ""
    except Exception:
        return ""


def _missing(versions: dict[str, str]) -> dict[str, str]:
    return {name: f"{name} is not installed; {advice(name)}" for name, found in versions.items() if not found}


def _python(*arguments: str) -> subprocess.CompletedProcess:
    """Runs this Python with this checkout first on its path, and without the current folder."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    }
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)


def _failures(names: list[str]) -> dict[str, str]:
    """Package to message for packages that do not work; packages with the same cause share one message."""
    found = failed_probes(sys.executable, names)
    told: dict[str, str] = {}
    for failure in found:
        others = sum(each.culprit == failure.culprit for each in found) - 1
        needed = f" ({others} more need {failure.culprit})" if others else ""
        told.setdefault(failure.culprit, f"{failure}{needed}")
    return {failure.package: told[failure.culprit] for failure in found}


def _ask() -> dict[str, Any]:
    try:
        return dict(json.loads(_python("-c", ASK).stdout.splitlines()[-1]))
    except (ValueError, IndexError):
        return {}


def _places(exp: str) -> dict[str, Path]:
    try:
        here = Path.cwd()
    except OSError:  # it was deleted
        here = ROOT
    return {"this folder": here, "experiments": here / exp, "temporary files": Path(tempfile.gettempdir())}


def _free(path: Path) -> str:
    try:
        usage = shutil.disk_usage(disk.nearest(path))
    except OSError as error:
        return f"{path}: {error.strerror}"
    return f"{disk.size(usage.free)} free of {disk.size(usage.total)} ({path})"


def _pip_settings() -> dict[str, str]:
    """Settings of pip from files and environment variables, without secrets."""
    done = _python("-m", "pip", "config", "list")
    if done.returncode:
        return {"pip": f"does not work ({hide('', ending(done))})"}
    return dict(_settings(done.stdout.splitlines()))


def _settings(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        key, _, value = line.partition("=")
        yield key, hide(key, value.strip("'\""))
