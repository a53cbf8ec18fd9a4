"""The command line: ``wheeltapper VERB ...``, one verb a module of this package.

A verb module holds ``add_arguments(parser)`` and ``main(args) -> int | None`` and imports nothing heavy at its top, so
that help and the check whether there is anything to do answer at once.
"""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from system import __version__
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
    "leaderboard": "our results of RMIS, SIREN, DCASE or MIMII beside the published ones, as a page and a csv",
    "report": "write the report of a run",
    "study": "supervised and unsupervised detection side by side, with AST, a CNN and an autoencoder",
    "explain": "show where an encoder looks in recordings, or the figures of a study, as a page",
    "reference": "score the test clips with simple reference systems",
}


PLUGINS = "WHEELTAPPER_PLUGINS"  # environment variable: modules that bring encoders and scorers of their own


def _load_plugins() -> None:
    """Imports the modules that PLUGINS names, which register what they bring (docs/extend.md)."""
    for name in os.environ.get(PLUGINS, "").split():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise WheeltapperError(f"{PLUGINS}: {name}: expected a module on PYTHONPATH, found {error}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status (0 well, 1 a mistake of the user's, 2 wrong usage, 130 interrupted)."""
    # Threads that wait for one another by spinning slow a busy machine down ten times and more.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    argv = list(sys.argv[1:] if argv is None else argv)
    verb = argv[0] if argv and argv[0] in VERBS else None
    parser = argparse.ArgumentParser(
        prog="wheeltapper",
        description="Anomalous sound detection for machines: from recordings to a validated DCASE Task 2 package.",
    )
    parser.add_argument("--version", action="version", version=f"wheeltapper {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, text in VERBS.items():
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == verb:
            module = importlib.import_module(f"system.bin.{name.replace('-', '_')}")
            module.add_arguments(sub)
    args = parser.parse_args(argv)
    try:
        _load_plugins()
        return module.main(args) or 0
    except WheeltapperError as error:
        _say(f"wheeltapper {args.verb}: {error}")
        return 1
    except OSError as error:
        if error.errno is None and not error.strerror:
            raise
        advice = " (free some space and start again: finished work is kept)" if error.errno == errno.ENOSPC else ""
        where = f"{error.filename}: " if error.filename else ""
        _say(f"wheeltapper {args.verb}: {where}{error.strerror or error}{advice}")
        return 1
    except KeyboardInterrupt:
        print(f"wheeltapper {args.verb}: interrupted; start again to go on", file=sys.stderr)
        return 130


def _say(message: str) -> None:
    """Prints a message to standard error: names that are not text as escapes, lines of any length cut."""
    for line in message.encode("utf-8", "backslashreplace").decode().splitlines():
        print(line if len(line) <= LONGEST else f"{line[:LONGEST]}...", file=sys.stderr)
