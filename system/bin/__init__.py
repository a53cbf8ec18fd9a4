"""The command line: ``wheeltapper COMMAND ...``, one command a module of this package.

Such a module holds ``add_arguments(parser)`` and ``main(args) -> int | None`` and imports nothing heavy at its top, so
that help and the check whether there is anything to do answer at once.
"""

import argparse
import errno
import faulthandler
import importlib
import io
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from system import __version__, machine, plugins
from system.bin.parsing import Parser, check_outputs
from system.dependencies import import_failure
from system.errors import WheeltapperError
from system.memory_errors import is_out_of_memory

LONGEST = 1000  # characters of a line of a message, which may quote what it found
COMMANDS = {
    "run": "run the stages of a recipe, from recordings to the submission package and the report",
    "download": "download a year of DCASE Task 2, or a data set of the benchmarks",
    "download-checkpoint": "download the published weights of an encoder",
    "convert": "convert a checkpoint to a safetensors file, or tables of samples to sound files",
    "synthesize": "simulate recordings: machines in the challenge's layout, or a corpus for pre-training",
    "emulate": "mix machine recordings and noise recordings to a two-channel data set in the challenge's layout",
    "prepare": "check recordings and list them in a manifest.csv (stage 0)",
    "deduplicate": "remove near-identical stationary recordings from a manifest",
    "shard": "pack training recordings into a few large files for pre-training",
    "pretrain": "pre-train an encoder on unlabelled recordings (stage 1)",
    "launch": "start pretrain, adapt, embed, run or benchmark in several processes, as torchrun does",
    "adapt": "fine-tune each branch on the normal recordings of the machines (stage 2)",
    "embed": "compute embeddings of recordings, of a run (stage 3) or any others",
    "score": "compute anomaly scores of a run (stage 4), or judge new recordings by a finished run",
    "fuse": "combine the scores of the branches to systems and set decision thresholds (stage 5)",
    "evaluate": "compute the official metrics of anomaly scores (stage 6)",
    "tune": "choose scorers and fusion weights on development runs, cross-validated over machines",
    "select": "choose the best of several development runs and freeze its configuration",
    "package": "write the submission package of a run (stage 7)",
    "comply": "check a run against the rules of the challenge",
    "validate": "check a submission package for errors",
    "benchmark": "measure an encoder by RMIS or SIREN, or by fault diagnosis on the recordings of a run (stage 8)",
    "probe": "measure frozen encoders by nearest neighbours on labelled recordings",
    "leaderboard": "compare results with the published ones of RMIS, SIREN, DCASE or MIMII, as a page and tables",
    "report": "write the HTML report of a run (stage 9)",
    "results": "add the official scores of finished runs to a csv file of results",
    "study": "compare supervised and unsupervised detection: AST, a CNN and an autoencoder",
    "explain": "show which parts of recordings an encoder attends to, as an HTML page",
    "reference": "score the test recordings with simple reference systems",
    "doctor": "print versions, devices, threads and disk space, and what does not work",
}

FULL = " (free some space and start again: finished work is kept)"
ADVICE = {  # by the number of an error of the system
    errno.ENOSPC: FULL,
    getattr(errno, "EDQUOT", errno.ENOSPC): FULL,
    errno.EROFS: " (write elsewhere, or work on a copy)",
}
PLUGINS = plugins.PLUGINS
SEVERAL_STAGES = ("run", "study")  # commands whose errors say in which stage they arose
OWN_PLUGINS = ("run", "doctor")  # commands that load the plug-ins themselves, to say more than what fails there


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 well, 1 a mistake of the user's or a package that does not work, 2
    wrong usage (as SystemExit where the options are wrong), 130 interrupted."""
    # Threads that wait for one another by spinning slow a busy machine down ten times and more.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text, nor fit the terminal
    if argv is None and sys.stderr is not None:
        faulthandler.enable()  # the end by a damaged library is not silent
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    command = argv[0] if argv and argv[0] in COMMANDS else ""
    try:
        if command != "launch":  # whose processes share the machine
            machine.limit_library_threads()
        machine.prepare_metal()
        args, module = read_options(argv, command)
        if module is None:
            return 2
        check_outputs(args)
        if command not in OWN_PLUGINS:
            plugins.load()
        return module.main(args) or 0
    except KeyboardInterrupt:
        print(f"wheeltapper {command}: interrupted; start again to go on", file=sys.stderr)
        return 130
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        stage = "".join(f"{note}: " for note in getattr(error, "__notes__", ()) if command in SEVERAL_STAGES)
        _say(f"wheeltapper {command}: {stage}{message}")
        return 1


def read_options(argv: list[str], command: str) -> tuple[argparse.Namespace, ModuleType | None]:
    """The options, and the module of the command; without one, help is printed."""
    parser = Parser(
        prog="wheeltapper",
        description="Anomalous sound detection for machines: from recordings to a validated DCASE Task 2 package.",
    )
    parser.add_argument("--version", action="version", version=f"wheeltapper {__version__}")
    commands = parser.add_subparsers(dest="chosen", metavar="COMMAND")
    module = None
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == command:
            module = importlib.import_module(f"system.bin.{name.replace('-', '_')}")
            module.add_arguments(sub)
    if argv and argv[0].startswith("-") and not any(name.startswith(argv[0]) for name in ("-h", "--help", "--version")):
        parser.error(f"expected a command first, found {argv[0]}")
    args = parser.parse_args(argv)
    if module is None:
        parser.print_help()
    return args, module


def _message(error: Exception) -> str | None:
    """What to say of an error in the place of a traceback; None for a mistake of the program's."""
    if isinstance(error, WheeltapperError):
        return str(error)
    if isinstance(error, OSError) and (error.errno is not None or error.strerror):
        advice = ADVICE.get(error.errno or 0, "")
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}{advice}"
    if is_out_of_memory(error):
        return f"not enough memory ({str(error) or 'for the next step'}); smaller batches or shorter crops take less"
    failure = import_failure(error)
    return str(failure) if failure else None


def _say(message: str) -> None:
    """Prints a message to standard error: names that are not text as escapes, lines of any length cut."""
    for line in message.encode("utf-8", "backslashreplace").decode().splitlines():
        print(line if len(line) <= LONGEST else f"{line[:LONGEST]}...", file=sys.stderr)
