"""Writes the configuration reference docs/configuration.md from the dataclasses of the configuration.

Usage: config_reference.py [--write docs/configuration.md]        (prints the page without --write)
"""

import argparse
import ast
import inspect
import re
import textwrap
import tokenize
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from system.config import Config
from system.config.schema import BRANCHES
from system.files import open_atomic

HEAD = """# Configuration reference

Made by `python tools/config_reference.py --write docs/configuration.md` from the code (`system/config`,
`system/config/package.py`); do not edit.

A configuration is a yaml file with only what differs from the defaults below. What a run used, all settings with their
values, lies in `EXP/config.yaml`. NAME is a name of your own.

* **`base: other.yaml`** reads another file first. Mappings are merged; a list replaces the other one as a whole. The
  file is looked up beside the file that names it, and the one of `--conf` in the current folder; if it is not there,
  among the recipes: `default.yaml` is the main recipe's, others are `pretrain/small.yaml` and the like.
* **`--set key.key=value`** overrides all files and may be repeated. List items are numbered from 0:
  `systems.0.weights.main=0.7`; the number after the last item adds one: `package.authors.1.last=Li`. New names are
  created: `branches.third.pool=mean`. Lists and mappings are written as in yaml: `tune.views=[two_channel]`.
* **Spaces** may stand in a value: `--set "package.title=My own title"`. One `--set` may hold several settings:
  `--set "seed=3 data.rate=8000"`. So a value that itself contains a space followed by `word=` needs quotes of its own:
  `--set 'package.title="A b=c"'`.
* **Text** is taken as typed: `surname: 007`, `precision: no`, `--set "package.title=Note: this"`, and
  `--set package.title=` for an empty one. In a file, as always in yaml, text with `: ` or ` #` in it needs quotes; the
  word null needs them too.
* **Paths** (`data.folder`, a checkpoint, `package.report_pdf`) are relative to the current folder; `~` is your home.
* **No references**: `${...}` in a value is refused, since a configuration reads neither other settings nor the
  environment, whose secrets could end up in a package. A `$` without braces is plain text.

All mistakes are reported at once, before anything runs, each with its file or `--set` and what was expected: unknown
keys, wrong types, settings that contradict one another, unknown settings of a scorer, and anything under `package` from
which no valid package could be made.
"""


def page() -> str:
    """The whole page as Markdown."""
    places: dict[type, list[str]] = {}
    _find(Config, "", places)
    parts = [HEAD]
    for kind, paths in places.items():
        which = f", kind {kind.kind}" if kind in BRANCHES.values() else ""
        parts += [f"## {_title(paths[0])}{which}\n", f"{_summary(kind)}\n"]
        if len(paths) > 1:
            parts.append(f"The same in {', '.join(f'`{path}`' for path in paths[1:])}.\n")
        parts += ["| key | type | default | what it is |\n|---|---|---|---|"]
        parts += [*_rows(kind, places), ""]
    return "\n".join(parts).rstrip() + "\n"


def _title(path: str) -> str:
    return f"`{path}`" if path else "At the top"


def _find(kind: type, path: str, places: dict[type, list[str]]) -> None:
    """Notes under which keys each dataclass stands, outermost first."""
    places.setdefault(kind, []).append(path)
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        for inner, key in _inner(hints[field.name], field.name):
            _find(inner, f"{path}.{key}" if path else key, places)


def _inner(hint: Any, name: str) -> Iterator[tuple[type, str]]:
    """Dataclasses within a type, each with the key that leads there."""
    if is_dataclass(hint):
        yield hint, name
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    suffix = {list: ".0", dict: ".NAME"}.get(origin, "")
    for argument in arguments:
        yield from _inner(argument, name + suffix)


def _rows(kind: type, places: dict[type, list[str]]) -> Iterator[str]:
    comments, arguments = {}, _arguments(kind)
    for each in kind.__mro__[-2::-1]:
        comments |= _comments(each)
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        inner = next(_inner(hints[field.name], ""), None)
        text = comments[field.name] or arguments.get(field.name, "")
        if inner:
            text = f"{text + ': ' if text else ''}see `{places[inner[0]][0]}`"
        cells = (f"`{field.name}`", _type(hints[field.name]), _default(field), text)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(hint: Any) -> str:
    if is_dataclass(hint):
        return "settings"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"name to {_type(arguments[1])}"
    if origin is typing.Literal:
        return "text"
    if arguments:  # X | None
        return " or ".join(_type(argument) for argument in arguments)
    return {type(None): "none", str: "text", Any: "any"}.get(hint) or hint.__name__


def _default(field: Field) -> str:
    if field.default is not MISSING:
        return f"`{_value(field.default)}`"
    value = field.default_factory()
    if is_dataclass(value):
        return f"`{_value(value)}`" if value != type(value)() else ""
    return f"`{_value(value)}`"


def _value(value: Any) -> str:
    """A value as yaml has it in one line; of settings what differs from their defaults."""
    if is_dataclass(value):
        usual = type(value)()
        value = {
            f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != getattr(usual, f.name)
        }
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return (value or '""') if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _summary(kind: type) -> str:
    """The docstring without its list of arguments."""
    return inspect.getdoc(kind).split("\n\nArgs:")[0]


def _arguments(kind: type) -> dict[str, str]:
    """What a docstring's list of arguments says of each."""
    listed = inspect.getdoc(kind).partition("\n\nArgs:\n")[2]
    found = {}
    for names, text in re.findall(r"^ {4}([\w, ]+): (.+(?:\n {5,}.+)*)", listed, re.MULTILINE):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def _comments(kind: type) -> dict[str, str]:
    """What the comments above and beside each field say."""
    source = textwrap.dedent(inspect.getsource(kind))
    lines = source.splitlines()
    beside, above = {}, {}
    for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__):
        if token.type == tokenize.COMMENT:
            whole_line = lines[token.start[0] - 1].strip() == token.string
            (above if whole_line else beside)[token.start[0]] = token.string.lstrip("# ")
    found = {}
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign):
            first, texts = node.lineno, []
            while first - 1 in above:
                first -= 1
                texts.append(above[first])
            texts = [
                *reversed(texts),
                *(beside[line] for line in range(node.lineno, node.end_lineno + 1) if line in beside),
            ]
            found[node.target.id] = " ".join(texts)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="file to write, instead of printing")
    args = parser.parse_args()
    if args.write is None:
        print(page(), end="")
        return
    with open_atomic(args.write) as file:
        file.write(page())


if __name__ == "__main__":
    main()
