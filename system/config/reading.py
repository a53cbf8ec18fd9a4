"""YAML from a file that anybody wrote: plain values alone, each key once, nothing that hangs or outgrows memory."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 1 << 18  # a recipe has some kB; PyYAML needs seconds for a hostile file of this size
MAX_VALUES = 100_000  # with every reference written out


class Scalar(str):
    """A value other than text, as it was written: where text is wanted, 007, 1.10 and no stand for themselves.

    Attributes:
        value: what YAML makes of it.
    """

    value: Any


@dataclass(frozen=True)
class Null:
    """A null, as it was written: null, ~ or nothing."""

    text: str = ""


class _Loader(yaml.SafeLoader):
    """Keeps how values were written; keys of mappings are text."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag == "tag:yaml.org,2002:set":
            raise ValueError(f"a set in line {node.start_mark.line + 1}")
        value = super().construct_object(node, deep)
        if isinstance(value, str) or not isinstance(node, yaml.ScalarNode):
            return value
        if value is None:
            return Null(node.value)
        found = Scalar(node.value)
        found.value = value
        return found

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        found = super().construct_mapping(node, deep)
        named = {key.text if isinstance(key, Null) else str(key): value for key, value in found.items()}
        if len(named) < len(found) or not all(isinstance(key, str | Null) for key in found):
            raise ValueError(f"keys other than texts, each once, in line {node.start_mark.line + 1}")
        return named


def none_if_null(value: Any) -> Any:
    """A value, or None for a null."""
    return None if isinstance(value, Null) else value


def plain(value: Any) -> Any:
    """A value as YAML means it, without how it was written; dates and the like stay text."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Scalar):
        return value.value if isinstance(value.value, bool | int | float) else str(value)
    return none_if_null(value)


# PyYAML takes 1e-3 for text: its numbers need a point.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(data: bytes) -> Any:
    """The value of a YAML text in UTF-8: mappings, lists, texts, ``Scalar`` and ``Null``; None where it holds none.

    Raises ValueError, which says in one line what was found, for anything else: damage, more than ``MAX_BYTES``, tags
    of Python's, a key that stands twice in a mapping, a reference to itself, and references (&name, *name) that stand
    for more than ``MAX_VALUES`` values.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, more than {MAX_BYTES}")
    try:
        loader = _Loader(data.decode("utf-8-sig"))
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("lists or mappings nested hundreds of levels deep") from None
    except ValueError as error:  # of tags that do not fit: a date of no calendar, !!int on a word
        raise ValueError(one_line(error)) from error
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        # SafeLoader's constructors let these out for tags like !!timestamp on a word.
        hint = ', a text with ": " in it needs quotes' if "mapping values are not allowed" in str(error) else ""
        raise ValueError(f"damage ({_told(error)}){hint}") from error


def _told(error: Exception) -> str:
    """What PyYAML says, without its drawing of the place."""
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem_mark:
        return one_line(error)
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {one_line(error.problem or error.context or 'damage')}"


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values of a node, references written out; ``known``: of earlier nodes, 0 of unfinished ones."""
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError(f"a reference to itself in line {node.start_mark.line + 1}")
        return known[id(node)]
    known[id(node)] = 0
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_count(item, known) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ValueError(f"{key.value} twice, again in line {key.start_mark.line + 1}, expected once")
                seen.add(key.value)
            total += _count(key, known) + _count(value, known)
    if total > MAX_VALUES:
        raise ValueError(f"references (&name, *name) that stand for more than {MAX_VALUES} values")
    known[id(node)] = total
    return total


def one_line(text: object, limit: int = 300) -> str:
    """A text as it may stand in a message."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[:limit] + "..."
