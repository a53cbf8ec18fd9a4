"""YAML from a file that anybody wrote: plain values alone, each key once, nothing that hangs or outgrows memory."""

from typing import Any

import yaml

MAX_BYTES = 1 << 18  # a recipe has some kB; PyYAML needs seconds for a hostile file of this size
MAX_VALUES = 100_000  # with every reference written out


def parse(data: bytes) -> Any:
    """The value of a YAML text in UTF-8; None where it holds none.

    Raises ValueError, which says in one line what was found, for anything else: damage, more than ``MAX_BYTES``, tags
    of Python's, a key that stands twice in a mapping, a reference to itself, and references (&name, *name) that stand
    for more than ``MAX_VALUES`` values.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, more than {MAX_BYTES}")
    try:
        loader = yaml.SafeLoader(data.decode("utf-8-sig"))
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
        raise ValueError(f"damage ({one_line(error)})") from error


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
        seen: set[tuple[str, str]] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise ValueError(f"{key.value} twice, again in line {key.start_mark.line + 1}, expected once")
                seen.add((key.tag, key.value))
            total += _count(key, known) + _count(value, known)
    if total > MAX_VALUES:
        raise ValueError(f"references (&name, *name) that stand for more than {MAX_VALUES} values")
    known[id(node)] = total
    return total


def one_line(text: object, limit: int = 300) -> str:
    """A text as it may stand in a message."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[:limit] + "..."
