"""The shell layer: options, pins, and no trace of anybody's machine in the repository."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TOY = f"""#!/usr/bin/env bash
# Toy script.
#
# Usage: toy.sh [options]
# shellcheck disable=SC2034
set -eu
stage=0            # first stage to run
data_folder=data   # where the recordings are
verbose=false      # tell more
suffix=            # nothing by default
set=()             # settings
PRIVATE=1
{{positional}}
. "{ROOT}/tools/parse_options.sh"
below=1
printf '%s|' "$stage" "$data_folder" "$verbose" "$suffix" ${{{{set[@]+"${{{{set[@]}}}}"}}}} "$@"
"""


@pytest.fixture
def toy(tmp_path):
    def run(*arguments: str, keep: bool = False) -> subprocess.CompletedProcess:
        script = tmp_path / "toy.sh"
        script.write_text(TOY.format(positional="OPTIONS_POSITIONAL=keep" if keep else ""))
        return subprocess.run(["bash", str(script), *arguments], capture_output=True, text=True, timeout=20)

    return run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "0|data|false||"),
        (["--stage", "3", "--data-folder", "my data"], "3|my data|false||"),
        (["--data-folder=a=b", "--verbose=true", "--suffix", "x"], "0|a=b|true|x|"),
        (["--stage", "-1", "--suffix", ""], "-1|data|false||"),
        (["--stage", "1", "--stage", "2"], "2|data|false||"),
        (["--data-folder", "$(touch oops); `id`"], "0|$(touch oops); `id`|false||"),
        (["--data_folder", "x"], "0|x|false||"),
        (["--set", "a b=$c  'd\"", "--stage", "1", "--set=e=*", "--set", ""], "1|data|false||a b=$c  'd\"|e=*||"),
        (["--set", "$(touch oops)", "--set=`id`"], "0|data|false||$(touch oops)|`id`|"),
    ],
)
def test_options_become_variables(toy, arguments, expected):
    result = toy(*arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stages", "1"], "unknown option --stages; the nearest known one is --stage"),
        (["--data-floder", "1"], "the nearest known one is --data-folder"),
        (["--verbos=true"], "the nearest known one is --verbose"),
        (["--below", "2"], "unknown option --below"),
        (["--PRIVATE", "2"], "unknown option --PRIVATE"),
        (["--stage"], "--stage: expected a value, found nothing"),
        (["--data-folder", "--stage", "1"], "--data-folder: expected a value, found --stage"),
        (["--verbose", "yes"], "--verbose: expected true or false, found 'yes'"),
        (["--stage", "two"], "--stage: expected an integer, found 'two'"),
        (["--stage", "1-2"], "--stage: expected an integer, found '1-2'"),
        (["--stage="], "--stage: expected an integer, found ''"),
        (["--set"], "--set: expected a value, found nothing"),
        (["--sett", "x"], "the nearest known one is --set"),
        (["-v"], "unknown option -v"),
        (["extra"], "expected options only, found 'extra'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(toy, arguments, message):
    result = toy(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_prints_the_header_and_the_options_with_defaults(toy):
    result = toy("--help")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[:3] == ["Toy script.", "", "Usage: toy.sh [options]"]
    assert [line.split() for line in lines[-5:]] == [
        ["--stage", "0", "first", "stage", "to", "run"],
        ["--data-folder", "data", "where", "the", "recordings", "are"],
        ["--verbose", "false", "tell", "more"],
        ["--suffix", '""', "nothing", "by", "default"],
        ["--set", "TEXT", "...", "settings;", "give", "it", "again", "for", "more"],
    ]
    assert "shellcheck" not in result.stdout


def test_positional_arguments_stay_where_the_script_wants_them(toy):
    result = toy("one", "--stage", "2", "a b", "--", "--stage", keep=True)
    assert (result.returncode, result.stdout) == (0, "2|data|false||one|a b|--stage|")


RECORD = """#!/bin/sh
# Stands in for a program: notes where it is started, its name and its arguments.
{ printf '%s\\n' "$PWD" "${0##*/}" "$@"; echo; } >>"$RECORD"
"""


@pytest.fixture
def started(tmp_path):
    """Runs a script of a copy of the checkout from another folder; (folder, program, arguments) of what it starts."""
    root, here = tmp_path / "a checkout", tmp_path / "here"
    for source in [ROOT / "run.sh", *ROOT.glob("recipes/*/*.sh"), *ROOT.glob("tools/*.sh")]:
        (root / source.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / source.relative_to(ROOT))
    (root / "tools" / "setup.sh").write_text("#!/bin/sh\n")
    here.mkdir()
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    for name in ("wheeltapper", "python", "srun", "scontrol"):
        program = tmp_path / "venv" / "bin" / name
        program.write_text(RECORD)
        program.chmod(0o755)

    def run(script: str, *arguments: str, **environment: str) -> list[tuple[str, ...]]:
        known = {"WHEELTAPPER_VENV": str(tmp_path / "venv"), "RECORD": str(tmp_path / "record")}
        command = [str(root / script), *arguments]
        done = subprocess.run(command, cwd=here, env=os.environ | known | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        calls = [tuple(call.split("\n")) for call in (tmp_path / "record").read_text().split("\n\n")[:-1]]
        assert {call[0] for call in calls} == {str(here)}
        return [tuple(text.replace(str(root), "ROOT") for text in call[1:]) for call in calls]

    return run


def test_paths_are_those_of_whoever_starts_it_and_settings_stay_whole(started):
    settings = ["package.title=My own title", "seed=3 data.rate=8000", 'package.abstract=it\'s "so"  $HOME']
    options = [text for setting in settings for text in ("--set", setting)]
    calls = started("run.sh", "--data", "recordings", "--conf", "my own.yaml", "--exp", "out", *options)
    assert calls == [
        (
            *("wheeltapper", "run", "--exp", "out", "--conf", "my own.yaml", "--data", "recordings"),
            *(f"--set={setting}" for setting in settings),
            *("--stage", "0", "--stop-stage", "9"),
        )
    ]


def test_what_is_not_said_is_the_checkouts_or_the_last_runs_and_lands_here(started, tmp_path):
    conf = ("--conf", "ROOT/recipes/dcase2026/conf/default.yaml")
    stages = ("--stage", "0", "--stop-stage", "9")
    assert started("run.sh") == [("wheeltapper", "run", "--exp", "exp/default", *conf, *stages)]
    (tmp_path / "record").unlink()
    (tmp_path / "here/exp/default").mkdir(parents=True)
    (tmp_path / "here/exp/default/config.yaml").touch()
    assert started("run.sh") == [("wheeltapper", "run", "--exp", "exp/default", *stages)]


@pytest.mark.parametrize(
    ("script", "options", "conf"),
    [
        ("dcase2024_simam_eat/run.sh", ["--stop-stage", "0"], None),
        ("dcase2026/run.sh", ["--stop-stage", "0"], "dcase2026/beats_audiomae"),
        (
            "dcase2026/noise_study.sh",
            ["--recordings", "t.csv", "--noise", "n", "--stage", "2", "--stop-stage", "2"],
            None,
        ),
        ("mimii_ast_cnn/run.sh", ["--data", "d.csv", "--stop-stage", "1"], None),
        ("pretrain/run.sh", ["--stage", "4", "--stop-stage", "4"], None),
        ("pretrain/slurm.sh", [], None),
        ("dcase2026/slurm.sh", ["--stop-stage", "0"], "dcase2026/beats_audiomae"),
        ("propeller/run.sh", ["--recordings", "r", "--noise", "n", "--stage", "2", "--stop-stage", "2"], None),
        ("every_machine/run.sh", ["--stage", "2", "--stop-stage", "2"], None),
    ],
)
def test_every_recipe_hands_on_all_settings_from_any_folder(started, tmp_path, script, options, conf):
    if script == "dcase2024_simam_eat/run.sh":  # copies what the program would have written
        (tmp_path / "here/exp/dcase2024_simam_eat/seed0/system").mkdir(parents=True)
        (tmp_path / "here/exp/dcase2024_simam_eat/seed0/system/metrics.json").touch()
    slurm = {"WHEELTAPPER_ROOT": str(tmp_path / "a checkout"), "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a"}
    slurm |= {"SLURM_CPUS_PER_TASK": "1", "SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "1"}
    calls = started(f"recipes/{script}", *options, "--set", "package.title=My own title", "--set", "threads=1", **slurm)
    calls = [call for call in calls if "--conf" in call]
    assert calls
    for call in calls:
        assert "--set=package.title=My own title" in call
        assert "--set=threads=1" in call
        found = call[call.index("--conf") + 1]
        assert found.startswith(conf or "ROOT/recipes/")
        assert not call[call.index("--exp") + 1].startswith("/")


SLURM = {"SLURM_JOB_ID": "20007", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2"}
HOST = "#!/bin/sh\nif [ \"$1\" = show ]; then printf 'n1\\nn2\\n'; fi\n"


@pytest.fixture
def submitted(started, tmp_path):
    """Runs a script as a job of two machines; what srun starts, as (options of srun, command)."""

    def run(script: str, *arguments: str, **environment: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        (tmp_path / "venv" / "bin" / "scontrol").write_text(HOST)
        known = SLURM | {"WHEELTAPPER_ROOT": str(tmp_path / "a checkout")}
        calls = [call for call in started(script, *arguments, **known | environment) if call[0] == "srun"]
        places = [call.index("wheeltapper") for call in calls]
        return [(call[1:place], call[place:]) for call, place in zip(calls, places, strict=True)]

    return run


@pytest.mark.parametrize(
    ("environment", "options", "processes", "device"),
    [
        ({"SLURM_GPUS_ON_NODE": "4"}, [], "4", "cuda"),
        ({"SLURM_GPUS_ON_NODE": "4"}, ["--processes", "2"], "2", "cuda"),
        ({"SLURM_GPUS_ON_NODE": "0"}, [], "1", "cpu"),
        ({}, ["--processes", "2"], "2", "cpu"),
    ],
)
def test_pretraining_on_a_cluster(submitted, environment, options, processes, device):
    given = ["--exp", "out", "--source", "my shards=2", "--source=b.csv", *options]
    ((srun, command),) = submitted("recipes/pretrain/slurm.sh", *given, **environment, SLURM_RESTART_COUNT="3")
    assert srun == ("--kill-on-bad-exit=1", "--ntasks-per-node=1")
    conf = "ROOT/recipes/pretrain/conf/fisher.yaml"
    assert command == (
        *("wheeltapper", "launch", "--machines", "2", "--processes", processes, "--meet", "n1:20007"),
        *("--run-id", "20007.3", "pretrain", "--exp", "out", "--conf", conf, "--set", f"device={device}"),
        *("--source=my shards=2", "--source=b.csv"),
    )


def test_embedding_by_a_job_array(submitted):
    given = ["--audio", "my recordings", "--store", "out", "--", "--pool", "mean", "--batch-size", "8"]
    ((srun, command),) = submitted("recipes/embed/slurm.sh", *given, SLURM_GPUS_ON_NODE="1", SLURM_CPUS_PER_TASK="8")
    assert srun == ("--cpus-per-task=8",)
    assert command == (
        *("wheeltapper", "embed", "--audio", "my recordings", "--store", "out", "--share", "slurm"),
        *("--encoder", "default", "--device", "cuda", "--pool", "mean", "--batch-size", "8"),
    )


def test_the_main_recipe_on_a_cluster(submitted):
    given = ["--data", "d", "--exp", "e", "--candidates", "a.yaml b.yaml", "--stop-stage", "2"]
    found = submitted("recipes/dcase2026/slurm.sh", *given)
    launch = (
        "wheeltapper",
        "launch",
        "--machines",
        "2",
        "--processes",
        "1",
        "--meet",
        "n1:20007",
        "--run-id",
        "20007.0",
    )
    assert [command[: len(launch) + 3] for _, command in found] == [
        (*launch, "run", "--exp", f"e/{name}") for name in ("development/a", "development/b", "final")
    ]
    assert all("--set=device=cpu" in command for _, command in found)


def test_processes_of_the_front_doors(started, tmp_path):
    ((*call,),) = started("run.sh", "--processes", "4", "--exp", "e", "--conf", "c")
    assert call[:7] == ["wheeltapper", "launch", "--processes", "4", "--", "run", "--exp"]
    (tmp_path / "record").unlink()
    calls = started("recipes/dcase2026/run.sh", "--processes", "2", "--stop-stage", "0")
    assert [call[:6] for call in calls] == [("wheeltapper", "launch", "--processes", "2", "--", "run")] * 2


@pytest.mark.parametrize("script", ["pretrain", "dcase2026", "embed"])
def test_a_job_whose_time_is_up_is_queued_again(tmp_path, script):
    """srun works until it is ended; SLURM's warning reaches the script alone."""
    (tmp_path / "bin").mkdir()
    programs = {"srun": "touch started; exec sleep 60", "scontrol": 'echo "$@" >>said; echo n1', "wheeltapper": ""}
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    known = {"WHEELTAPPER_ROOT": str(tmp_path / "root"), "WHEELTAPPER_VENV": str(tmp_path), **SLURM}
    shutil.copytree(ROOT / "tools", tmp_path / "root" / "tools", ignore=shutil.ignore_patterns("*.py"))
    shutil.copytree(ROOT / "recipes" / script, tmp_path / "root" / "recipes" / script)
    (tmp_path / "root" / "tools" / "setup.sh").write_text("#!/bin/sh\n")
    options = ["--audio", "x"] if script == "embed" else []
    job = subprocess.Popen(
        [str(ROOT / "recipes" / script / "slurm.sh"), *options],
        cwd=tmp_path,
        env=os.environ | known,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 30
        while not (tmp_path / "started").exists() and time.monotonic() < until:
            time.sleep(0.01)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(30) != 0
        assert (tmp_path / "said").read_text().splitlines()[-1] == "requeue 20007"
    finally:
        os.killpg(job.pid, signal.SIGKILL)


def test_every_requirement_is_pinned():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["dependencies"] + project["optional-dependencies"]["dev"]
    pins = re.findall(r"^([\w.-]+)==\S+$", (ROOT / "tools" / "constraints.txt").read_text(), re.M)
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", text)[0]).lower() for text in required}
    assert names <= normal
    assert len(normal) == len(pins)


def test_no_file_names_a_folder_of_somebodys_machine():
    private = re.compile(r"(?<![\w.$}-])/(" + "|".join(("work", "root", "tmp/wt")) + r")/")
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:  # an unpacked archive
        kept = [path for path in ROOT.iterdir() if path.name not in (".venv", "exp", "data")]
        paths = [file for path in kept for file in ([path] if path.is_file() else path.rglob("*"))]
    found = []
    for path in paths:
        if not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content[:8000] and private.search(content.decode("utf-8", "replace")):
            found.append(str(path.relative_to(ROOT)))
    assert found == []
