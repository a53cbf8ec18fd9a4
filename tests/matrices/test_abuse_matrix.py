"""What may befall a run from outside: ``python tools/abuse_matrix.py`` tries all of it, the tests a few.

A run that cannot go on ends with status 1 and one line that names a file or folder; when the cause has gone, the same
command leads to the results of a run that nobody disturbed.
"""

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fork_server import Ended
from toy_runs import Reference, copy

from system.experiment import STAGES

# File and place of one output of each stage that is changed or lost after the stage was complete.
COMMANDS = ("prepare", *STAGES[1:])  # of the stages, by number
OUTPUTS = {
    0: "manifest.csv",
    1: "pretrain/encoder.safetensors",
    2: "adapt/main/adapter.safetensors",
    3: "embeddings/main/two_channel.npy",
    4: "scores/frozen.two_channel.csv",
    5: "systems/Wheeltapper_Demo_task2_1/anomaly_score_SimPump_section_00_test.csv",
    6: "metrics.json",
    7: "Wheeltapper_Demo_task2.zip",
    8: "benchmark.json",
    9: "report.html",
}
# A setting and the first stage that depends on it.
SETTINGS = [
    ("seed=1", 0),
    ("pretrain.loop.learning_rate=2.0e-3", 1),
    ("branches.main.loop.learning_rate=2.0e-3", 2),
    ("branches.frozen.readout=gem", 3),
    ("branches.lines.scorer.settings.k=2", 4),
    ("false_positive_rate=0.2", 5),
    ("evaluate.bootstrap=30", 6),
    ("package.title=Another", 7),
    ("benchmark.runs=3", 7),  # a package is of one whole configuration
]


def check_refused(ended: Ended, named: Path | str, text: str) -> None:
    """Status 1 and one line with a name and a reason."""
    said = [line for line in ended.told.splitlines() if line.startswith("wheeltapper ")]
    assert (ended.status, len(said)) == (1, 1), ended.told
    assert "Traceback" not in ended.told
    assert str(named) in said[0], said[0]
    assert re.search(text, said[0]), said[0]


def check_recovers(run: Reference, first: int = 0) -> Ended:
    ended = run.run(first)
    assert ended.status == 0, ended.told
    assert run.differences() == []
    return ended


def wait_for(path: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.01)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own at a folder; skips where none may be mounted."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here (needs root)")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def put(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, copy_function=shutil.copy2, dirs_exist_ok=True)


def fill(folder: Path, leave: int) -> Path:
    """Leaves ``leave`` kilobytes on the disk of a folder."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free - 1024 * leave
    filler.write_bytes(b"\1" * max(free, 0))
    return filler


@pytest.mark.parametrize(
    "verb", ["run", *(pytest.param(verb, marks=pytest.mark.matrix) for verb in ("report", "adapt"))]
)
def test_two_at_once(quick, verb):
    """The second one is refused, between the stages of the first one too, and does no harm."""
    shutil.rmtree(quick.exp)
    first = quick.server.start(
        ["run", "--exp", str(quick.exp), "--conf", str(quick.conf)], log=quick.folder / "first.txt"
    )
    wait_for(quick.exp / "stages")
    second = quick.server.run(verb, "--exp", str(quick.exp), "--conf", str(quick.conf), log=quick.folder / "second.txt")
    check_refused(second, quick.exp, "another wheeltapper process is using this folder")
    assert quick.server.wait(first).status == 0
    assert quick.differences() == []


@pytest.mark.matrix
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("stage", range(10))
def test_full_disk_by_a_hook(quick, stage, after):
    copy(quick.before(stage), quick.exp)
    hook = ["abuse_hooks", {"name": "disk_full", "exp": str(quick.exp), "after": after}]
    ended = quick.run(stage, hook=hook)
    check_refused(ended, quick.exp, "No space left on device")
    check_recovers(quick)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("stage", "leave"),
    [(0, 0), (0, 300), (1, 0), (1, 100), (2, 20), (2, 200), (3, 0), (3, 40), (4, 8), (5, 12), (6, 0), (7, 40), (9, 60)],
)
def test_full_disk(toy, stage, leave):
    with small_disk(toy.exp, 40):
        put(toy.before(stage), toy.exp)
        filler = fill(toy.exp, leave)
        ended = toy.run(stage)
        check_refused(ended, toy.exp, "No space left on device|of free space")
        filler.unlink()
        check_recovers(toy)


@pytest.mark.parametrize("stage", [pytest.param(stage, marks=pytest.mark.matrix) for stage in (1, 2, 4, 7)] + [9])
def test_read_only_folder(quick, stage):
    with small_disk(quick.exp, 40):
        put(quick.before(stage), quick.exp)
        subprocess.run(["mount", "-o", "remount,ro", str(quick.exp)], check=True)
        check_refused(quick.run(stage), quick.exp, "Read-only file system")
        subprocess.run(["mount", "-o", "remount,rw", str(quick.exp)], check=True)
        check_recovers(quick)


@pytest.mark.matrix
@pytest.mark.parametrize("change", ["rewritten", "lost"])
@pytest.mark.parametrize("stage", OUTPUTS)
def test_an_output_is_changed_after_its_stage(toy, stage, change):
    copy(toy.finished, toy.exp)
    path = toy.exp / OUTPUTS[stage]
    if change == "lost":
        path.unlink()
    else:
        rewrite(path)
    assert min(stages_that_ran(check_recovers(toy))) == stage


def test_a_quick_output_is_changed_after_its_stage(quick):
    copy(quick.finished, quick.exp)
    rewrite(quick.exp / "scores" / "lines.two_channel.csv")
    assert stages_that_ran(check_recovers(quick)) == [4, 9]  # the report reads all records


def rewrite(path: Path) -> None:
    """Changes a bit of a file; size and time stay."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def stages_that_ran(ended: Ended) -> list[int]:
    lines = [line for line in ended.told.splitlines() if re.match(r"stage \d \w+: wrote ", line)]
    return [int(line.split()[1]) for line in lines]


def own_recordings(quick: Reference) -> Path:
    """The toy's recordings as a folder of a user's own."""
    place = quick.folder / "own"
    if not place.exists():
        shutil.copytree(quick.finished / "data", place, copy_function=shutil.copy2)
    return place


def roll(path: Path) -> None:
    """Other sound of the same length."""
    wave, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, np.roll(wave, 100, axis=0), rate, subtype="PCM_16")


INPUTS = {
    "rewritten, same size": lambda folder: roll(sorted((folder / "SimFan" / "train").iterdir())[0]),
    "lost": lambda folder: sorted((folder / "SimFan" / "test").iterdir())[0].unlink(),
    "another one": lambda folder: shutil.copy2(
        next((folder / "SimFan" / "test").glob("section_00_source_test_normal_*")),
        folder / "SimFan" / "test" / "section_00_source_test_normal_0999_noAttribute.wav",
    ),
    "truth": lambda folder: (folder / "truth.csv").write_text(
        re.sub(r"(?m)^(SimPump,.*),anomaly", r"\1,normal", (folder / "truth.csv").read_text(), count=1)
    ),
}


@pytest.mark.matrix
@pytest.mark.parametrize("change", INPUTS)
def test_an_input_is_changed_after_all_stages(quick, change):
    """It is noticed, the results change; put back, they are as they were."""
    data = own_recordings(quick)
    shutil.rmtree(quick.exp)
    assert quick.run(0, 9, "--data", str(data)).status == 0
    before = quick.differences()
    saved = quick.folder / "saved"
    copy(data, saved)
    INPUTS[change](data)
    ended = quick.run(0, 9, "--data", str(data))
    assert ended.status == 0, ended.told
    assert quick.differences() != before
    copy(saved, data)
    assert quick.run(0, 9, "--data", str(data)).status == 0
    assert quick.differences() == before


@pytest.mark.matrix
@pytest.mark.parametrize(("setting", "first"), SETTINGS)
def test_a_changed_setting_and_back(toy, setting, first):
    """The stages that depend on it run again, no earlier one does; put back, all is as it was."""
    copy(toy.finished, toy.exp)
    ended = toy.run(0, 9, f"--set={setting}")
    assert ended.status == 0, ended.told
    wrote = [
        int(line.split()[1]) for line in ended.told.splitlines() if line.startswith("stage ") and ": wrote" in line
    ]
    assert min(wrote) == first
    check_recovers(toy)


@pytest.mark.parametrize(
    ("setting", "first"), [pytest.param("seed=1", 4, marks=pytest.mark.matrix), ("branches.lines.spectrum.bands=16", 5)]
)
def test_a_package_never_mixes_settings(quick, setting, first):
    """Later stages under other settings than the earlier ones: no package comes of it, stage by stage either."""
    copy(quick.before(first), quick.exp)
    check_refused(quick.run(first, 7, f"--set={setting}"), quick.exp, "complete with these settings")
    conf = ["--conf", str(quick.conf), f"--set={setting}"]
    for verb in COMMANDS[first:8]:
        ended = quick.server.run(verb, "--exp", str(quick.exp), *conf)
        assert (ended.status == 0) == (verb != "package"), ended.told
    check_refused(ended, quick.exp, "with this configuration")
    assert not list(quick.exp.glob("*.zip"))
    check_recovers(quick)


@pytest.mark.matrix
@pytest.mark.parametrize("stage", [0, 1, 4, 7])
def test_the_clock_goes_backwards(toy, stage):
    copy(toy.before(stage), toy.exp)
    later = time.time() + 1e8
    for path in toy.exp.rglob("*"):
        if path.is_file() and "data" not in path.relative_to(toy.exp).parts[:1]:
            os.utime(path, (later, later))
    ended = toy.run(stage, hook=["abuse_hooks", {"name": "clock_backwards"}])
    assert ended.status == 0, ended.told
    assert toy.differences() == []
    check_recovers(toy)
