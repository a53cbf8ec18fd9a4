"""Record of a run, stored with every result: command, commit, versions and machine."""

import contextlib
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from system import __version__, processes
from system.machine import cores, device_record, peak_memory_mb


def run_record() -> dict[str, Any]:
    """Command, commit, versions and machine of this process, and the device that it has chosen."""
    name, versions = Path(sys.argv[0]).name, {}
    for package in ("torch", "torchaudio", "numpy", "scikit-learn", "peft", "soundfile"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "command": shlex.join(["wheeltapper" if name == "__main__.py" else name, *sys.argv[1:]]),
        "processes": processes.count(),
        "commit": commit(),
        "versions": {"wheeltapper": __version__, "python": platform.python_version(), **versions},
        "cpus": cores(),
        **device_record(),
        "peak_memory_mb": peak_memory_mb(),
    }


def commit() -> str:
    """Commit of the checkout of this code, with ``+`` if tracked files were changed; empty outside git."""
    root = Path(__file__).resolve().parent.parent
    try:
        head = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "-C", str(root), "diff", "--quiet", "HEAD"], capture_output=True, check=False
        ).returncode
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if dirty else "")
