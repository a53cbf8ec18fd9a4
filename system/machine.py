"""Resources of this machine that the program may use: processor cores, memory, device.

torch is imported only when needed.
"""

import contextlib
import logging
import math
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from system import processes
from system.errors import WheeltapperError

ROOT = Path("/")
AUTO = "auto"
ACCELERATORS = ("cuda", "mps")  # in the order in which auto takes them
DEVICES = (AUTO, *ACCELERATORS, "cpu")
NAMES = {"cuda": "CUDA", "mps": "Metal"}
_chosen: dict[str, str] = {}  # what this process computes on, once that is known
_said: set[str] = set()

log = logging.getLogger(__name__)


def cores(root: Path = ROOT) -> int:
    """Number of processor cores that this process may use, at least 1.

    The minimum of the cores of the machine, the cores that the process is bound to (taskset, SLURM), and the quotas of
    its control groups (containers), rounded up.

    Args:
        root: folder that contains /proc and /sys, for tests.
    """
    found = [bound_cores(), *(math.ceil(quota) for quota in quotas(root))]
    return max(1, min(found))


def bound_cores() -> int:
    """Number of cores that this process may run on, without regard to quotas."""
    counts = [os.cpu_count() or 1]
    if hasattr(os, "process_cpu_count"):  # since Python 3.13; respects PYTHON_CPU_COUNT too
        counts.append(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        with contextlib.suppress(OSError):
            counts.append(len(os.sched_getaffinity(0)))
    return max(1, min(counts))


def omp_threads() -> int:
    """Number in OMP_NUM_THREADS, the first one of a list such as ``4,2``; 0 if it is not set."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if re.fullmatch("[0-9]{1,6}", first) else 0


def threads(configured: int = 0) -> int:
    """Number of threads or workers: the configured one, or OMP_NUM_THREADS, or one per core.

    Several processes of a run on this machine share its cores.
    """
    return configured or omp_threads() or max(1, cores() // processes.per_machine())


def one_thread_each(workers: int = 0) -> int:
    """Number of workers for recordings that are embedded side by side; sets torch to one thread in each of them.

    Args:
        workers: number wanted; 0 for one a core.
    """
    import torch

    torch.set_num_threads(1)
    return threads(workers)


def limit_library_threads() -> None:
    """Limits the threads of OpenMP and BLAS, which ignore quotas, by OMP_NUM_THREADS; call before importing them."""
    if not omp_threads() and cores() < bound_cores():
        os.environ["OMP_NUM_THREADS"] = str(threads())


def quotas(root: Path = ROOT) -> Iterator[float]:
    """Quotas of processor time, in cores, of this process's control groups (versions 1 and 2) up to the root."""
    for kind, folder in _groups(root, "cpu"):
        if kind == "cgroup2":
            given, period, *_ = [*_words(folder / "cpu.max"), "", ""]
        else:
            given, period = (" ".join(_words(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
        if given.isdecimal() and period.isdecimal() and int(given) and int(period):
            yield int(given) / int(period)


def memory(root: Path = ROOT) -> int:
    """Bytes of memory that this process may use: the machine's, or the limit of its control groups; 0 if unknown."""
    found = [int(line.split()[1]) * 1024 for line in _lines(root / "proc/meminfo") if line.startswith("MemTotal:")]
    for kind, folder in _groups(root, "memory"):
        limit = " ".join(_words(folder / ("memory.max" if kind == "cgroup2" else "memory.limit_in_bytes")))
        found += [int(limit)] if limit.isdecimal() and int(limit) else []
    return min(found, default=0)


def _groups(root: Path, controller: str) -> Iterator[tuple[str, Path]]:
    """Kind and folder of this process's control groups for a controller, and of the groups above."""
    for kind, mounted, inside in _mounts(root, controller):
        for place in (inside, *inside.parents):
            yield kind, root / mounted.relative_to("/") / place


def _mounts(root: Path, controller: str) -> Iterator[tuple[str, Path, Path]]:
    """Hierarchies of control groups: kind, mount point, and this process's group relative to it."""
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        groups["cgroup2" if number == "0" else "cgroup" if controller in controllers.split(",") else ""] = path
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2") or kind[0] not in groups:
            continue
        if kind[0] == "cgroup" and controller not in kind[2].split(","):
            continue
        top, mounted = (_plain(field) for field in fields[3:5])
        # In a container its own group is the top of the mount, whatever the path outside.
        own = Path(groups[kind[0]])
        inside = own.relative_to(top) if own.is_relative_to(top) and ".." not in own.parts else Path()
        yield kind[0], Path(mounted), inside


def _plain(text: str) -> str:
    """Decodes a path of mountinfo, in which spaces are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def peak_memory_mb() -> int:
    """Peak memory of this process so far, in MB; 0 if the system does not report it (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3))  # bytes there, kilobytes elsewhere


def prepare_metal() -> None:
    """Lets the processor do what torch has no Metal kernel for; call before torch is imported."""
    if sys.platform == "darwin":
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def check_device_name(device: str) -> None:
    """Raises WheeltapperError for an unknown device."""
    if device not in DEVICES:
        raise WheeltapperError(f"device: expected one of {', '.join(DEVICES)}, found {device!r}")


def choose_device(wanted: str = AUTO) -> str:
    """The device that this process computes on.

    Of several processes of a run each gets the CUDA device of its local rank, as ``cuda:N``: threads must call it so.

    Args:
        wanted: ``cuda``, ``mps`` or ``cpu``; ``auto`` takes the first of them that works, and says in a note which
            ones are there and do not.

    Returns:
        ``cuda``, ``cuda:N``, ``mps`` or ``cpu``. For ``cpu`` torch is not imported.

    Raises:
        WheeltapperError: the device is unknown, not there, or its first operation fails.
    """
    check_device_name(wanted)
    device = wanted
    if wanted in ACCELERATORS:
        _, problem = try_device(wanted)
        if problem:
            raise WheeltapperError(f"device: {problem}; device: {AUTO} takes what works")
    elif wanted == AUTO:
        device = _first_that_works()
    if device == "cuda" and processes.count() > 1:
        import torch

        torch.cuda.set_device(processes.local_rank())
        device = f"cuda:{processes.local_rank()}"
    _chosen.update(device=device, gpu=gpu_name(device))
    return device


def _first_that_works() -> str:
    useless = []
    for device in ACCELERATORS:
        there, problem = try_device(device)
        if not problem:
            break
        useless += [problem] * there
    else:
        device = "cpu"
    for problem in useless:
        if problem not in _said:
            _said.add(problem)
            log.warning("note: device: %s; %s computes instead", problem, device)
    return device


def try_device(device: str) -> tuple[bool, str]:
    """Whether there is a ``cuda`` or ``mps`` device, and why it cannot be computed on, empty where it can."""
    import torch

    with warnings.catch_warnings(record=True) as heard:  # of a driver that torch cannot use
        warnings.simplefilter("always")
        there = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if not there:
        reason = f": {_first_line(heard[0].message)}" if heard else ""
        return bool(heard), f"expected a {NAMES[device]} device for {device}, torch finds none on this machine{reason}"
    count, own = torch.cuda.device_count() if device == "cuda" else 1, processes.per_machine()
    if count < own:
        expected = f"expected a {NAMES[device]} device for each of the {own} processes on this machine"
        return True, f"{expected}, found {count}"
    # A build of torch without kernels for the device fails with the first product, as do libraries that do not load.
    try:
        place = f"cuda:{processes.local_rank()}" if own > 1 else device
        torch.mm(torch.ones(2, 2, device=place), torch.ones(2, 2, device=place)).tolist()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        fails = f"its first operation fails with torch {torch.__version__}: {_first_line(error)}"
        return True, f"expected a {NAMES[device]} device that works for {device}, {fails}"
    return True, ""


def _first_line(error: Warning | Exception | str) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def gpu_name(device: str) -> str:
    """The name of the accelerator's hardware; empty for the processor."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(torch.cuda.current_device()))
    return platform.processor() or "Metal" if device == "mps" else ""


def describe_device(device: str, configured: int = 0) -> str:
    """A device for messages: ``cuda (NVIDIA H200)`` or ``cpu (2 threads)``.

    Args:
        device: cuda, mps or cpu.
        configured: number of threads, 0 for the usual one.
    """
    if device == "cpu":
        count = threads(configured)
        return f"cpu ({count} thread{'s' * (count != 1)})"
    return f"{device} ({gpu_name(device)})"


def device_record() -> dict[str, str]:
    """Device and name of its hardware for records; empty where this process has chosen none."""
    return dict(_chosen)
