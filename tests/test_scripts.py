"""The shell layer: options, pins, and no trace of anybody's machine in the repository."""

import re
import subprocess
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
PRIVATE=1
{{positional}}
. "{ROOT}/tools/parse_options.sh"
below=1
printf '%s|' "$stage" "$data_folder" "$verbose" "$suffix" "$@"
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
    assert [line.split() for line in lines[-4:]] == [
        ["--stage", "0", "first", "stage", "to", "run"],
        ["--data-folder", "data", "where", "the", "recordings", "are"],
        ["--verbose", "false", "tell", "more"],
        ["--suffix", '""', "nothing", "by", "default"],
    ]
    assert "shellcheck" not in result.stdout


def test_positional_arguments_stay_where_the_script_wants_them(toy):
    result = toy("one", "--stage", "2", "a b", "--", "--stage", keep=True)
    assert (result.returncode, result.stdout) == (0, "2|data|false||one|a b|--stage|")


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
