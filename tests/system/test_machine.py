"""How many cores a process may use, and how many threads and workers follow from it."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from system import config, machine
from system.bin import shard
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.pipeline import resources

V2 = "31 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "33 30 0:30 /docker/ab /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 30 0:31 /docker/ab /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n"
)


@pytest.fixture
def free(monkeypatch):
    """A machine of 64 cores whose process may run on 48 of them, without OMP_NUM_THREADS."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16, 64)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def tree(root: Path, cgroup: str, mounts: str, **files: str) -> Path:
    """/proc and /sys of a machine; ``files`` below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/mountinfo").write_text("22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n" + mounts)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "cores"),
    [
        ("0::/\n", V2, {"cpu.max": "200000 100000"}, 2),  # docker run --cpus 2, with a name space of its own
        ("0::/\n", V2, {"cpu.max": "150000 100000"}, 2),  # a share of a core counts as one
        ("0::/\n", V2, {"cpu.max": "5000 100000"}, 1),
        ("0::/\n", V2, {"cpu.max": "max 100000"}, 48),
        ("0::/\n", V2, {"cpu.max": "9900000 100000"}, 48),  # more than the process is bound to
        ("0::/a/b\n", V2, {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),  # of the group above
        ("0::/a/b\n", V2, {"a/b/cpu.max": "100000 50000", "a/cpu.max": "300000 100000"}, 2),
        ("0::/../x\n", V2, {"cpu.max": "400000 100000"}, 4),  # outside the name space: what can be seen counts
        ("0::/\n", V2, {"cpu.max": "a b"}, 48),
        ("0::/\n", V2, {"cpu.max": ""}, 48),
        ("0::/\n", V2, {}, 48),
        (
            "5:cpuset:/docker/ab\n4:cpu,cpuacct:/docker/ab\n",
            V1,
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            "4:cpu,cpuacct:/docker/ab/job\n",
            V1,
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/cpu.cfs_period_us": "10000",
            },
            5,
        ),
        ("", "", {"cpu.max": "200000 100000"}, 48),  # nothing says that this is the process's
        ("garbage\n::\n0\n", V2 + "more garbage - \n - x\n", {"cpu.max": "700000 100000"}, 7),
    ],
)
def test_the_quota_of_the_tightest_group_counts(free, tmp_path, cgroup, mounts, files, cores):
    assert machine.cores(tree(tmp_path, cgroup, mounts, **files)) == cores


def test_without_proc_and_affinity_the_machine_counts(free, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "process_cpu_count", lambda: 12, raising=False)
    assert machine.cores(tmp_path) == 12
    monkeypatch.setattr(os, "process_cpu_count", lambda: None, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("asked", "threads"),
    [("3", 3), ("4,2", 4), (" 5 ", 5), ("96", 96), ("0", 48), ("-1", 48), ("many", 48), ("", 48), ("1.5", 48)],
)
def test_omp_num_threads_is_respected(free, monkeypatch, asked, threads):
    monkeypatch.setattr(machine, "quotas", lambda root: iter(()))
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert machine.threads() == threads
    assert machine.threads(7) == 7  # the configuration goes before it


def test_processes_of_a_run_share_the_cores(free, monkeypatch):
    monkeypatch.setattr(machine, "quotas", lambda root: iter([9.5]))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert machine.threads() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "40")
    assert machine.threads() == 1


@pytest.mark.parametrize(("asked", "configured", "expected"), [("3", 0, 3), ("3", 2, 2), (None, 0, 6)])
def test_torch_and_the_workers_follow(free, monkeypatch, asked, configured, expected):
    monkeypatch.setattr(machine, "quotas", lambda root: iter([6.0]))
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    resources.prepare_torch(Experiment(Path("exp"), config.Config(threads=configured)))
    assert seen == [expected]
    assert machine.one_thread_each(configured) == expected
    parser = argparse.ArgumentParser()
    shard.add_arguments(parser)
    assert parser.parse_args(["m.csv", "--out", "x"]).workers == 0  # as many as machine.threads says
    assert torch.get_num_threads() == before


def test_libraries_are_told_of_a_quota_and_of_nothing_else(free, monkeypatch):
    for quota, asked, told in ((2.0, None, "2"), (2.0, "8", "8"), (64.0, None, None)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if asked:
            monkeypatch.setenv("OMP_NUM_THREADS", asked)
        monkeypatch.setattr(machine, "quotas", lambda root, quota=quota: iter([quota]))
        machine.limit_library_threads()
        assert os.environ.get("OMP_NUM_THREADS") == told


def test_the_cpu_is_there_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert machine.choose_device("cpu") == "cpu"
    with pytest.raises(WheeltapperError, match="device: expected one of auto, cuda, mps, cpu, found 'gpu'"):
        machine.choose_device("gpu")
    assert machine.device_record() == {"device": "cpu", "gpu": ""}


WITHOUT = """
import sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None
import types, os
held = {}
def locking(number, mode, count):  # as Windows has it: bytes from where the file stands, for one handle
    key = (os.fstat(number).st_ino, os.lseek(number, 0, os.SEEK_CUR))
    if mode == 0:
        del held[key]
    elif held.setdefault(key, number) != number:
        raise OSError(36, "deadlock avoided")
from system import locks
if sys.argv[2] == "windows":
    locks.msvcrt = types.SimpleNamespace(locking=locking, LK_UNLCK=0, LK_LOCK=1, LK_NBLCK=2)
from pathlib import Path
from system.bin import main
from system.files import lock, read_json, write_json
from system.stage import Stage
from system.tuning.workers import Claims, JournalLock
from system.pipeline import resources
from system.errors import WheeltapperError
assert main(["prepare", "nowhere", "--out", "x.csv"]) == 1
exp = Path(sys.argv[1])
stage = Stage(3, "toy", exp, {}, owns=["out"])
def work():
    write_json(exp / "out" / "a.json", 1)
    return [exp / "out" / "a.json"]
with lock(exp):
    assert stage.run(work) and not stage.run(work)
    try:
        with lock(exp):
            print("held twice")
    except WheeltapperError as error:
        print(str(error).partition(": ")[2].partition(" (")[0])
first, second = Claims(exp / "claims"), Claims(exp / "claims")
with first.hold(3) as mine, second.hold(3) as other, second.hold(4) as another:
    print(mine, other, another)
journal = JournalLock(exp / "journal")
journal.acquire()
journal.release()
print(read_json(stage.marker)["peak_memory_mb"])
"""


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("windows", ["another wheeltapper process is using this folder", "True False True", "0"]),
        ("neither", ["held twice", "True True True", "0"]),
    ],
)
def test_a_stage_runs_without_the_modules_of_unix(tmp_path, kind, said):
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT, tmp_path / "exp", kind], capture_output=True, text=True, check=False
    )
    assert found.stdout.splitlines()[-3:] == said, found.stderr
