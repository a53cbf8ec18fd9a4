"""Trees of plain values to a configuration: pydantic checks them, all mistakes are found at once.

What pydantic reports becomes sentences ``KEY: expected X, found Y``.
"""

import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from system.config import former, hints, kinds
from system.config.branches import BRANCHES
from system.config.reading import Null, Scalar, one_line
from system.config.schema import Config

# Other programs replace these, by what the environment holds too; here they would be published as they stand.
REFERENCE = re.compile(r"\$\{[^}]*\}")

Problems = dict[str, str]  # key to what is wrong with it, one sentence that names the key; empty: not to be judged
Path = tuple[str | int, ...]


@lru_cache
def _adapter() -> TypeAdapter[Config]:
    return TypeAdapter(Config)


def build(tree: dict[str, Any]) -> tuple[Config, Problems]:
    """The configuration of a tree, with defaults in the place of what is wrong, and what is wrong."""
    problems: Problems = {}
    tree = _copy(tree)
    order = {key: number for number, key in enumerate(_keys(tree))}
    for path, text in [*_references(tree, ())]:
        key = ".".join(map(str, path))
        problems[key] = (
            f"{key}: expected {hints.wanted(hints.at(tree, path))}, found the reference {text}: a configuration reads "
            "neither other settings nor the environment"
        )
        _replace(tree, path)
    while True:
        try:
            config = _adapter().validate_python(tree)
            return config, dict(sorted(problems.items(), key=lambda problem: order.get(problem[0], len(order))))
        except ValidationError as error:
            for found in reversed(error.errors(include_url=False, include_context=False)):
                _mend(tree, found["type"], found["loc"], found["input"], problems)


def _mend(tree: dict[str, Any], kind: str, loc: Path, value: Any, problems: Problems) -> None:
    """Notes a mistake and takes it out of the tree. A number as YAML writes it and Python does not is read first."""
    path = (*loc[:2], *loc[3:]) if loc[0] == "branches" else loc  # the third part names the kind of the branch
    key = ".".join(map(str, path))
    hint = hints.at(tree, path)
    number = isinstance(value, Scalar) and type(value.value) in (int, float)
    if number and hints.essence(hint) in (int, float) and kind not in hints.BOUNDS:
        return _replace(tree, path, value.value)
    if kind == "union_tag_invalid":
        problems[f"{key}.kind"] = f"{key}.kind: expected one of {', '.join(BRANCHES)}, found {_found(value['kind'])}"
        return _replace(tree, (*path, "kind"), "encoder")
    if kind == "unexpected_keyword_argument":
        _note_unknown(tree, path, problems)
    else:
        problems[key] = f"{key or 'configuration'}: expected {_wanted(hint, kind, value)}, found {_found(value)}"
        if isinstance(value, Null) and hints.essence(hint) is str:
            problems[key] += ' ("" is an empty text; a word like null needs quotes)'
        if is_dataclass(hints.essence(hint)):  # an entry of its name stays, so that nobody misses it
            return _replace(tree, path, {"kind": "encoder"} if path[0] == "branches" and len(path) == 2 else {})
    return _replace(tree, path)


def _note_unknown(tree: dict[str, Any], path: Path, problems: Problems) -> None:
    """Notes an unknown key, and the one that may be meant, whose default is not to be judged."""
    *above, name = path
    key, beside, name = ".".join(map(str, path)), _get(tree, above), str(name)
    settings = hints.essence(hints.at(tree, above), beside)
    known = hints.hints(settings)
    if settings in BRANCHES.values() and kinds.is_of_another(name):
        problems[key] = f"{key}: {kinds.article(settings.kind)} has no such setting; it has {', '.join(sorted(known))}"
        return
    if (now := former.key(key)) != key:
        new = now.rpartition(".")[2]
        problems[key] = f"{key}: expected {new} alone, found its former name {name} beside it; delete {name}"
        return
    problems[key] = f"unknown key {key}: {hints.advice(name, known)}"
    for meant in hints.nearest(name, known):
        if meant not in beside:
            problems.setdefault(".".join(map(str, [*above, meant])), "")


def _wanted(hint: Any, kind: str, value: Any) -> str:
    whole = kind == "finite_number" and hints.essence(hint) is int
    text = hints.wanted(hint, number=kind in hints.BOUNDS and not whole)
    return f"{text}, as [{_shown(value)}]" if text == "a list" and not isinstance(value, dict) else text


def _copy(value: Any) -> Any:
    """A tree in which nothing is shared, as references in YAML share it."""
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _keys(value: Any, above: str = "") -> Iterator[str]:
    """Whole keys of everything in a tree, in its order."""
    yield above
    for name, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _keys(item, f"{above}.{name}" if above else str(name))


def _get(tree: Any, path: list[str | int]) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def _replace(tree: dict[str, Any], path: Path, *value: Any) -> None:
    """Puts a value into a tree, or takes out what is there."""
    *above, name = path
    holder = _get(tree, above)
    if value:
        holder[name] = value[0]
    else:
        del holder[name]


def _references(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Where texts refer to something else, and how; the last items of lists first."""
    if isinstance(value, dict):
        for name, item in value.items():
            if found := REFERENCE.search(name):
                yield (*path, name), one_line(found[0], 60)
            else:
                yield from _references(item, (*path, name))
    elif isinstance(value, list):
        for number, item in reversed(list(enumerate(value))):
            yield from _references(item, (*path, number))
    elif isinstance(value, str) and (found := REFERENCE.search(value)):
        yield path, one_line(found[0], 60)


def _shown(value: Any) -> str:
    return one_line(value.text or "nothing" if isinstance(value, Null) else value, 60)


def _found(value: Any) -> str:
    if isinstance(value, dict):
        return "keys with values"
    if isinstance(value, list | tuple | set):
        return "a list"
    return repr(_shown(value)) if isinstance(value, str) and not isinstance(value, Scalar) else _shown(value)
