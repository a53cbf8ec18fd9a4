"""Bad inputs of every kind through the command line, as a user meets them: ``python tools/bad_input_matrix.py`` counts.

Each ends with status 1 and one line that names the file or key, what was expected and what was found; there is no
traceback, and nothing is left behind but the locks of folders.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bad_input_cases import CASES, GOOD
from bad_input_files import Case, recordings, scored

from system.bin import main

# An empty file in a folder that a command holds: the one thing, with a folder for it, that may be left.
LOCK = ".lock"
REFUSES = Path("/sys/kernel")
# One of each kind of reader in a process of its own, where a traceback or a warning of an import would show.
WHOLE_PROCESS = (
    "names: undecodable name",
    "configurations: references that multiply",
    "checkpoints: code",
    "archives: bomb",
)


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content, every folder and link with None."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        held = path.is_dir() and not path.is_symlink() and os.listdir(path) == [LOCK]
        if path.name != LOCK and not held:
            found[os.fsencode(path)] = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    return found


def check(case: Case, status: int, output: str) -> None:
    """The status and the one line of a refused command."""
    assert status == 1, output
    assert "Traceback" not in output
    said = [line for line in output.splitlines() if line.startswith(("wheeltapper ", "error: "))]
    assert len(said) == 1, output
    rest = output[output.index(said[0]) + len(said[0]) :].strip()
    assert not rest or said[0].startswith("error: "), f"more than one line: {output}"
    for part in (case.named, case.expected, case.found):
        assert part in said[0], said[0]
    assert len(said[0]) < 1500, f"{len(said[0])} characters"


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_in_one_line(name, tmp_path, capsys):
    case = CASES[name]
    arguments = case.prepare(tmp_path)
    before = listing(tmp_path)
    status = main(arguments)
    captured = capsys.readouterr()
    check(case, status, captured.err + "\n".join(line for line in captured.out.splitlines() if "error: " in line))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", WHOLE_PROCESS)
def test_bad_input_in_a_process_of_its_own(name, tmp_path):
    case = CASES[name]
    arguments = case.prepare(tmp_path)
    before = listing(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "system.bin", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    check(case, done.returncode, done.stderr)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", GOOD)
def test_odd_but_good_input_is_taken(name, tmp_path):
    assert main(GOOD[name](tmp_path)) == 0


@pytest.mark.skipif(not REFUSES.is_dir(), reason="needs a place that takes no files, even of root")
@pytest.mark.parametrize("kind", ["prepare", "evaluate"])
def test_a_folder_that_takes_no_files(kind, tmp_path, capsys):
    arguments = {"prepare": recordings, "evaluate": scored}[kind](lambda _: None)(tmp_path)
    place = REFUSES / "wheeltapper.out"
    arguments[arguments.index({"prepare": "--out", "evaluate": "--json"}[kind]) + 1] = str(place)
    before = listing(tmp_path)
    status = main(arguments)
    check(Case(scored, str(place), "", "denied"), status, capsys.readouterr().err)
    assert listing(tmp_path) == before


def test_the_matrix_is_large_enough_and_says_everything():
    assert len(CASES) >= 60
    for name, case in CASES.items():
        assert case.named, name
        assert case.found, name
