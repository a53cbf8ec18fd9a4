"""Runs a shell script whose ``wheeltapper`` and ``python`` this process carries out, which saves their start-up."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

from system.bin import main

# Read by every bash that the script starts: sends a command, ended by an empty word, and waits for its exit status.
FUNCTIONS = r"""
_to_tests() {
    local status
    { printf '%s\0' "$PWD" "$1" && shift && printf '=%s\0' "$@" && printf '\0'; } >&"$TESTS_ASK"
    read -r status <&"$TESTS_ANSWER"
    return "$status"
}
wheeltapper() { _to_tests wheeltapper "$@"; }
python() { _to_tests python "$@"; }
"""


def run_script(script: Path, *options: object, folder: Path) -> subprocess.CompletedProcess:
    """Runs a script to its end; what it and its commands print.

    Args:
        script: a bash script that calls ``wheeltapper`` and ``python`` by these names, one at a time.
        options: its command line.
        folder: where the functions that stand for both commands are written.
    """
    functions = folder / "functions.sh"
    functions.write_text(FUNCTIONS)
    (ask, ask_end), (answer_end, answer) = os.pipe(), os.pipe()
    environment = os.environ | {"BASH_ENV": str(functions), "TESTS_ASK": str(ask_end)}
    environment |= {"TESTS_ANSWER": str(answer_end), "WHEELTAPPER_VENV": sys.prefix}
    with (
        open(folder / "stdout.txt", "w+") as stdout,
        open(folder / "stderr.txt", "w+") as stderr,
        subprocess.Popen(
            [str(script), *map(str, options)],
            env=environment,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(ask_end, answer_end),
        ) as process,
    ):
        os.close(ask_end)
        os.close(answer_end)
        with os.fdopen(ask, "rb") as asked, os.fdopen(answer, "w", buffering=1) as answers:
            for place, name, *words in _requests(asked):
                status, out, error = _carry_out(place, name, [word[1:] for word in words])
                for file, text in ((stdout, out), (stderr, error)):
                    os.write(file.fileno(), text.encode())
                answers.write(f"{status}\n")
        status = process.wait()
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(process.args, status, stdout.read(), stderr.read())


def _requests(asked: io.BufferedReader):
    words: list[str] = []
    data = b""
    while chunk := os.read(asked.fileno(), 65536):
        *whole, data = (data + chunk).split(b"\0")
        for word in whole:
            if word:
                words.append(word.decode())
            else:
                yield words
                words = []


def _carry_out(place: str, name: str, arguments: list[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    with (
        contextlib.chdir(place),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as error,
    ):
        try:
            status = main(arguments) if name == "wheeltapper" else _python(arguments)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return status, out.getvalue(), error.getvalue()


def _python(arguments: list[str]) -> int:
    with mock.patch.object(sys, "argv", arguments):
        runpy.run_path(arguments[0], run_name="__main__")
    return 0
