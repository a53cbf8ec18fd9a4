"""The command line: ``wheeltapper COMMAND ...``, one command a module of this package.

Such a module holds ``add_arguments(parser)`` and ``main(args) -> int | None`` and imports nothing heavy at its top, so
that help and the check whether there is anything to do answer at once.
"""

import argparse
import errno
import faulthandler
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from system import __version__, machine, plugins
from system.bin.parsing import Parser
from system.dependencies import import_failure
from system.errors import WheeltapperError

LONGEST = 1000  # characters of a line of a message, which may quote what it found
VERBS = {
    "run": "run the stages of a recipe, as run.sh does",
    "download": "fetch a year of DCASE Task 2 or a data set of the benchmarks, hash-checked, resumable",
    "download-checkpoint": "fetch the published weights of an encoder, hash-checked where a hash is known",
    "convert": "rewrite a checkpoint as safetensors with its configuration inside",
    "synthesize": "write the simulated machines",
    "emulate": "mix anybody's machine recordings and noise into a two-channel set",
    "prepare": "turn a folder in DCASE layout into a checked manifest.csv",
    "deduplicate": "leave out near-identical stationary recordings",
    "shard": "pack training recordings into a few large files",
    "pretrain": "pre-train the sub-band encoder on the training recordings",
    "launch": "start pretrain or benchmark in several processes, as torchrun does",
    "adapt": "adapt a branch: LoRA, gated fusion, ArcFace heads",
    "embed": "turn recordings into embeddings",
    "score": "distance of every clip to its normal references; with files: decisions on new recordings",
    "fuse": "calibrate, weight and threshold the branches into systems",
    "evaluate": "official metrics of challenge CSVs",
    "tune": "choose scorers and weights on development runs, cross-validated over machines",
    "select": "choose among development runs and freeze the winner's configuration",
    "package": "write the submission package",
    "comply": "check a run against the rules of the challenge",
    "validate": "check a submission package, zip or folder",
    "benchmark": "RMIS and SIREN, with an encoder or over embeddings in a file; or a recipe's small fault diagnosis",
    "probe": "nearest neighbours in frozen embeddings of labelled recordings",
    "leaderboard": "our results of RMIS, SIREN, DCASE or MIMII beside the published ones, as a page, csv and Markdown",
    "report": "write the report of a run",
    "results": "add the scores of finished runs to a csv file of results, with command, commit and seeds",
    "study": "supervised and unsupervised detection side by side, with AST, a CNN and an autoencoder",
    "explain": "show where an encoder looks in recordings, or the figures of a study, as a page",
    "reference": "score the test clips with simple reference systems",
    "doctor": "say what runs here and what does not: versions, device, threads, disk; for a report of a bug",
}

PLUGINS = plugins.PLUGINS
SEVERAL_STAGES = ("run", "study")  # commands whose errors say in which stage they arose
OWN_PLUGINS = ("run", "doctor")  # commands that load the plug-ins themselves, to say more than what fails there


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 well, 1 a mistake of the user's or a package that does not work, 2
    wrong usage (as SystemExit where the options are wrong), 130 interrupted."""
    # Threads that wait for one another by spinning slow a busy machine down ten times and more.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if argv is None and sys.stderr is not None:
        faulthandler.enable()  # the end by a damaged library is not silent
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    command = argv[0] if argv and argv[0] in VERBS else ""
    try:
        if command != "launch":  # whose processes share the machine
            machine.limit_library_threads()
        args, module = _read(argv, command)
        if module is None:
            return 2
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


def _read(argv: list[str], command: str) -> tuple[argparse.Namespace, ModuleType | None]:
    """The options, and the module of the command; without one, help is printed."""
    parser = Parser(
        prog="wheeltapper",
        description="Anomalous sound detection for machines: from recordings to a validated DCASE Task 2 package.",
    )
    parser.add_argument("--version", action="version", version=f"wheeltapper {__version__}")
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND")
    module = None
    for name, text in VERBS.items():
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
        advice = " (free some space and start again: finished work is kept)" if error.errno == errno.ENOSPC else ""
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}{advice}"
    if isinstance(error, MemoryError):
        return f"not enough memory ({str(error) or 'for the next step'}); smaller batches or shorter crops take less"
    failure = import_failure(error)
    return str(failure) if failure else None


def _say(message: str) -> None:
    """Prints a message to standard error: names that are not text as escapes, lines of any length cut."""
    for line in message.encode("utf-8", "backslashreplace").decode().splitlines():
        print(line if len(line) <= LONGEST else f"{line[:LONGEST]}...", file=sys.stderr)
