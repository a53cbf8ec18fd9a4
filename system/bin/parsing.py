"""The options of the command line, with mistakes in one line that names the nearest of what is known."""

import argparse
import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from system.errors import WheeltapperError
from system.files import denial


class Parser(argparse.ArgumentParser):
    """argparse's parser; wrong usage ends with status 2 and a single line on standard error."""

    given: Sequence[str] = ()  # what is parsed

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter} | settings)

    def error(self, message: str) -> NoReturn:
        unknown = [text.partition("=")[0] for text in self.given if text.startswith("--") and text != "--"]
        wrong = [text for text in unknown if not any(known.startswith(text) for known in self._option_string_actions)]
        if wrong and message.startswith(("the following arguments are required", "one of the arguments")):
            message += f"; found {wrong[0]}{nearest(wrong[0], self._option_string_actions)}"
        print(f"{self.prog}: {' '.join(message.split())} ({self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but refuses what it does not know, where the options are known that may be meant."""
        self.given = list(sys.argv[1:] if args is None else args)
        self._check_texts()
        found, unknown = super().parse_known_args(self.given, namespace)
        if unknown:
            wrong = [text.partition("=")[0] for text in unknown if text.startswith("-") and text != "--"]
            near = nearest(wrong[0], self._option_string_actions) if wrong else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        for group in self._action_groups:
            self._check_group(group, found)
        return found, unknown

    def _check_texts(self) -> None:
        """Refuses empty texts, which would be taken for the folder at hand or for nothing said."""
        for before, text in zip(["", *self.given], self.given, strict=False):
            if not text or (text.startswith("--") and text.partition("=")[1:] == ("=", "")):
                name = text.rstrip("=") or (before if before.startswith("-") else "")
                place = f"{name}: " if name else ""
                self.error(f"{place}expected a text, found an empty one: a variable of the shell that is not set?")

    def _check_group(self, group: argparse._ArgumentGroup, found: argparse.Namespace) -> None:
        """Refuses options that mean something only beside another one (``only_with``), where that is missing."""
        needed, text = getattr(group, "needed", ("", ""))
        if not needed or getattr(found, needed):
            return
        for action in group._group_actions:
            default = action.default
            if action.dest != needed and getattr(found, action.dest, default) != default:
                name = action.option_strings[0] if action.option_strings else action.dest
                self.error(f"{name}: expected {text} with it, found none")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """A command that there is none of; argparse itself lists all there are."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            kind = str(action.metavar or "command").lower()
            self.error(f"unknown {kind} {value!r}{nearest(value, action.choices)}")
        super()._check_value(action, value)


def only_with(group: argparse._ActionsContainer, needed: str, text: str) -> None:
    """Marks the options of a group as meaningless without another one.

    Args:
        group: of options.
        needed: name under which the value of the other option is kept.
        text: what that is, for the message.
    """
    group.needed = needed, text  # type: ignore[attr-defined]


def nearest(wrong: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` with the known name nearest to a wrong one, or nothing where none is near."""
    by_lower = {name.lower().replace("_", "-"): name for name in known if name != "--help"}
    near = difflib.get_close_matches(wrong.lower().replace("_", "-"), by_lower, 1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def check_outputs(args: argparse.Namespace) -> None:
    """Refuses result files that cannot be written, before anything is computed.

    Raises:
        WheeltapperError: --json or --csv names a folder, or both name one file; one of them or --out is to lie where
            nothing can be written.
    """
    given = {name: getattr(args, name, None) for name in ("json", "csv")}
    paths = {name: Path(path) for name, path in given.items() if isinstance(path, str | Path)}
    for name, path in paths.items():
        if path.is_dir():
            raise WheeltapperError(f"--{name}: expected a file to write, found the folder {path}")
    for name in ("json", "csv", "out"):
        target = getattr(args, name, None)
        if isinstance(target, str | Path) and str(target):
            _check_place(name, Path(target))
    if len(paths) > len(set(paths.values())):
        raise WheeltapperError(f"--json, --csv: expected two files, found {paths['json']} twice")


def _check_place(name: str, path: Path) -> None:
    there = next(place for place in path.absolute().parents if os.path.lexists(place))
    if not there.is_dir():
        raise WheeltapperError(f"--{name} {path}: expected a place in a folder, found the file {there}")
    if reason := denial(there):
        raise WheeltapperError(f"--{name} {path}: expected a folder to write to, found {there}: {reason}")
