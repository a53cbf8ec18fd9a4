"""The configuration reference in docs/: every key, from the schema that configurations are checked against.

Usage: config_reference.py [--write docs/configuration.md]        (prints the page without --write)
"""

import argparse
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from system import scoring
from system.config import BranchConfig, Config
from system.config.branches import BRANCHES
from system.config.hints import bounds, essence, hints, in_bounds, wanted
from system.files import open_atomic

HEAD = """# Configuration reference

Made by `python tools/config_reference.py --write docs/configuration.md` from the code (`system/config`,
`system/scoring`); do not edit.

A configuration is a yaml file with only what differs from the defaults below. What a run used, all settings with their
values, lies in `EXP/config.yaml`. NAME is a name of your own.

* **`base: other.yaml`** reads another file first. Mappings are merged; a list replaces the other one as a whole. The
  file is looked up beside the file that names it, and the one of `--conf` in the current folder; if it is not there,
  among the recipes: `default.yaml` is the main recipe's, others are `pretrain/small.yaml` and the like.
* **`--set key.key=value`** overrides all files and may be repeated. List items are numbered from 0:
  `systems.0.weights.main=0.7`; the number after the last item adds one: `package.external_datasets.0.name=ESC-50`. New
  names are created: `branches.third.pool=mean`. Lists and mappings are written as in yaml: `tune.views=[two_channel]`.
* **Spaces** may stand in a value: `--set "package.title=My own title"`. One `--set` may hold several settings:
  `--set "seed=3 data.rate=8000"`. So a value that itself contains a space followed by `word=` needs quotes of its own:
  `--set 'package.title="A b=c"'`.
* **Text** is taken as typed: `surname: 007`, `precision: no`, `--set "package.title=Note: this"`, and
  `--set package.title=` for an empty one. In a file, as always in yaml, text with `: ` or ` #` in it needs quotes; the
  word null needs them too.
* **Paths** (`data.folder`, a checkpoint, `package.report_pdf`) are relative to the current folder; `~` is your home.
* **No references**: `${...}` in a value is refused, since a configuration reads neither other settings nor the
  environment, whose secrets could end up in a package. A `$` without braces is plain text.
* **Kinds of branches**: a branch is of the kind that its keys tell, or that `kind` names: `spectrum`, `autoencoder` and
  `shares` make a spectrum, an autoencoder and a shared branch, all others are encoders. If a later file or `--set`
  makes a branch of another kind, keys that only the former kind has are dropped; in one file they are refused.
  The same holds for the settings of a scorer when a later file names another scorer.

All mistakes are reported at once, before anything runs, each with its file or `--set` and what was expected: unknown
keys, wrong types, settings that contradict one another, unknown settings of a scorer, and anything under `package` from
which no valid package could be made.
"""
TABLE = "| key | type | default | description |\n|---|---|---|---|"


def page() -> str:
    """The whole page as Markdown."""
    places: dict[type, list[str]] = {}
    _find(Config, "", places)
    parts = [HEAD]
    for kind, paths in places.items():
        which = f", kind `{kind.kind}`" if kind in BRANCHES.values() else ""
        parts += [f"## {f'`{paths[0]}`' if paths[0] else 'At the top'}{which}\n", f"{_summary(kind)}\n"]
        if others := [f"`{path}`" for path in dict.fromkeys(paths) if path != paths[0]]:
            parts.append(f"The same in {', '.join(others)}.\n")
        parts += [TABLE, *(_row(each, hints(kind)[each.name], places) for each in fields(kind)), ""]
    parts += ["## Scorers\n\nSettings of `branches.NAME.scorer.settings`, for each `name` of a scorer.\n"]
    for name, kind in scoring.SCORERS.items():
        parts += [f"### `{name}`\n", f"{_summary(kind)}\n"]
        rows = [_cells(n, s.annotation, s.default, s.description) for n, s in scoring.settings_of(kind).items()]
        parts += [TABLE, *rows, ""] if rows else ["No settings.\n"]
    return "\n".join(parts).rstrip() + "\n"


def _find(kind: type, path: str, places: dict[type, list[str]]) -> None:
    """Notes under which keys each settings class stands, outermost first."""
    places.setdefault(kind, []).append(path)
    for name, hint in hints(kind).items():
        for inner, key in _inner(hint, name):
            _find(inner, f"{path}.{key}" if path else key, places)


def _inner(hint: Any, name: str) -> Iterator[tuple[type, str]]:
    """Settings classes within a type, each with the key that leads there."""
    kinds = get_args(BranchConfig) if BranchConfig in (hint, *get_args(hint)) else [essence(hint)]
    for kind in kinds:
        if is_dataclass(kind):
            yield kind, name
        elif get_origin(kind) in (list, dict):
            yield from _inner(get_args(kind)[-1], name + (".0" if get_origin(kind) is list else ".NAME"))


def _row(field: Field, hint: Any, places: dict[type, list[str]]) -> str:
    text = field.metadata["description"]
    if inner := next(_inner(hint, ""), None):
        text += f": see `{places[inner[0]][0]}`"
    default = field.default_factory() if field.default is MISSING else field.default
    if is_dataclass(default) and default == type(default)():
        default = MISSING
    return _cells(field.name, hint, default, text)


def _cells(name: str, hint: Any, default: Any, text: str) -> str:
    cells = (f"`{name}`", type_of(hint), "" if default is MISSING else f"`{_value(default)}`", text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def type_of(hint: Any) -> str:
    """A type with its allowed values or bounds, in words."""
    kind = essence(hint)
    if is_dataclass(kind):
        return "settings" if kind is hint or NoneType not in get_args(get_args(hint)[0]) else "settings or null"
    if get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(kind))
    if get_origin(kind) is list:
        return f"list of {type_of(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return f"names with {type_of(get_args(kind)[1])}"
    if get_args(kind):
        return wanted(hint)
    name = {str: "text", int: "int", float: "float", bool: "bool", Any: "any"}.get(kind, str(kind))
    return f"{name}, {in_bounds(bounds(hint)).removeprefix('a number ')}" if bounds(hint) else name


def _value(value: Any) -> str:
    """A value as yaml has it in one line; of settings what differs from their defaults."""
    if is_dataclass(value):
        usual = type(value)()
        names = [field.name for field in fields(value)]
        value = {name: getattr(value, name) for name in names if getattr(value, name) != getattr(usual, name)}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return (value or '""') if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _summary(kind: type) -> str:
    """The first paragraph of the docstring in one line."""
    return " ".join((kind.__doc__ or "").strip().split("\n\n")[0].split())


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
