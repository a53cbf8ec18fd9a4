"""Settings from the command line: ``key.key=value``, one or several in a text, over those of the files."""

import re
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from typing import Any, get_args, get_origin

from system.config.hints import essence, within
from system.config.reading import Null, one_line, parse
from system.errors import WheeltapperError

KEY = r"[A-Za-z_][\w\[\]-]*(?:\.[\w\[\]-]+)*="
QUOTED = r'"(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\''
# Where a text holds a further setting. A quote opens where a word could begin, not in the middle of "don't".
PARTS = re.compile(rf"(?<=[=\s\[{{,:])(?:{QUOTED})|(?P<cut>\s+)(?={KEY})")


def split(given: Iterable[str]) -> list[str]:
    """The ``key=value`` in texts: each text is one, or several with space between them.

    A value may hold spaces; where it holds what looks like a further setting (`` word=``), it stands in quotes.
    """
    found = []
    for text in given:
        start = 0
        for part in PARTS.finditer(text):
            if part["cut"]:
                found.append(text[start : part.start()])
                start = part.end()
        found.append(text[start:])
    return [text.strip() for text in found if text.strip()]


def key_and_value(override: str) -> tuple[str, str]:
    """The key, items of lists written with points, and the text of the value."""
    key, equals, value = override.partition("=")
    key = re.sub(r"\[(-?\d+)\]", r".\1", key.strip())
    if not equals or not all(key.split(".")):
        raise WheeltapperError(f"--set {one_line(override, 80)}: expected key=value, found {one_line(override, 80)!r}")
    return key, value.strip()


def start(steps: list[str], value: str) -> dict[str, Any]:
    """What an override says of the kind or the scorer of a branch, as settings in a tree: the first four steps."""
    tree: Any = {} if len(steps) > 4 else _value(Any, value)
    for step in reversed(steps[:4]):
        tree = {step: tree}
    return tree


def assign(hint: Any, tree: Any, default: Any, steps: list[str], value: str, above: str = "") -> Any:
    """A tree with one value replaced, settings that are not there yet made on the way.

    Args:
        hint: type of the tree. default: what holds where the tree says nothing.
        steps: names and numbers of items that lead to the value; the number after the last item's adds one.
        value: as typed. Text where the type is text, quotes around the whole taken off; else as in a yaml file.

    Raises WheeltapperError where a list has no such item, or the value is no yaml.
    """
    kind = essence(hint, tree)
    if not steps:
        return _merged(tree, _value(kind, value))
    step, place = steps[0], f"{above}.{steps[0]}" if above else steps[0]
    if get_origin(kind) is list or (kind is Any and isinstance(tree, list)):
        return _assign_item(kind, tree, default, steps, value, above)
    tree = dict(tree) if isinstance(tree, dict) else {}
    usual = kind() if isinstance(kind, type) and is_dataclass(kind) and not isinstance(default, kind) else default
    inner = within(hint, tree, step)
    tree[step] = assign(inner, tree.get(step), getattr(usual, step, None), steps[1:], value, place)
    return tree


def _assign_item(kind: Any, tree: Any, default: Any, steps: list[str], value: str, above: str) -> list:
    items = list(tree) if isinstance(tree, list) else [_plain_item(each) for each in default or ()]
    item = get_args(kind)[0] if get_args(kind) else Any
    if steps[0] not in map(str, range(len(items) + 1)):
        there = f"0 to {len(items) - 1}, or {len(items)} to add one" if items else "0, to add one"
        raise WheeltapperError(f"{above}: expected an item by its number, {there}, found {steps[0]}")
    number = int(steps[0])
    if number == len(items):
        items.append(None)
    items[number] = assign(item, items[number], None, steps[1:], value, f"{above}.{number}")
    return items


def _plain_item(item: Any) -> Any:
    return asdict(item) if is_dataclass(item) and not isinstance(item, type) else item


def _merged(tree: Any, value: Any) -> Any:
    if not isinstance(tree, dict) or not isinstance(value, dict):
        return value
    return tree | {key: _merged(tree.get(key), item) for key, item in value.items()}


def _value(kind: Any, text: str) -> Any:
    quoted = re.fullmatch(QUOTED, text) is not None
    if kind is str and not quoted:
        return text
    try:
        found = parse(text.encode())
    except (ValueError, RecursionError) as error:
        if kind is str:
            return text
        raise WheeltapperError(f"expected a value, found {one_line(error)}") from error
    return Null() if found is None else found
