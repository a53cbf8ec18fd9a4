"""The types of a configuration's keys: found by path, and put into words for messages and documentation."""

import difflib
import types
from collections.abc import Iterable
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from system.config import kinds
from system.config.branches import BranchConfig
from system.config.schema import Config

# What pydantic calls numbers out of bounds.
BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")
WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


@lru_cache
def hints(kind: type) -> dict[str, Any]:
    """Types of a dataclass's keys by name, bounds included."""
    return get_type_hints(kind, include_extras=True)


def essence(hint: Any, value: Any = None) -> Any:
    """A type without bounds and ``| None``; of branches the class for the settings ``value``."""
    if get_origin(hint) is Annotated:
        return essence(get_args(hint)[0], value)
    if hint == BranchConfig:
        return kinds.class_of(value)
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        return essence(next(kind for kind in get_args(hint) if kind is not type(None)), value)
    return hint


def within(hint: Any, value: Any, step: str | int) -> Any:
    """Type of what a key or an item number leads to; ``value``: what the configuration holds there so far."""
    kind = essence(hint, value)
    if isinstance(kind, type) and is_dataclass(kind):
        return hints(kind).get(str(step), Any)
    if get_origin(kind) in (list, dict):
        return get_args(kind)[-1]
    return Any


def at(tree: Any, path: Iterable[str | int]) -> Any:
    """Type of the value at a path of a configuration's tree."""
    hint: Any = Config
    for step in path:
        hint = within(hint, tree, step)
        held = (isinstance(tree, dict) and step in tree) or (isinstance(tree, list) and isinstance(step, int))
        tree = tree[step] if held else None
    return hint


def bounds(hint: Any) -> dict[str, float]:
    """Bounds of a number by their names in pydantic: ge, gt, le, lt."""
    found: dict[str, float] = {}
    for each in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        for bound in each.metadata if isinstance(each, FieldInfo) else ():
            found |= {name: getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)}
    return found


def wanted(hint: Any, number: bool = False) -> str:
    """What may stand for a type, in words.

    Args:
        number: whether a number is there, so that its bounds are what matters.
    """
    kind, limits = essence(hint), bounds(hint)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) in (Union, types.UnionType):
        words = [word for each in get_args(kind) for word in _words(each)]
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if get_origin(kind) is list:
        return "a list"
    if get_origin(kind) is dict:
        return "names with values"
    if is_dataclass(kind):
        return "settings"
    return in_bounds(limits) if number and limits else WORDS.get(kind, "a value")


def _words(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint)]
    return ["true", "false"] if hint is bool else [wanted(hint)]


def in_bounds(limits: dict[str, float]) -> str:
    """Bounds in words: ``a number from 0 to 1``."""
    shown = {name: limit if isinstance(limit, int) else round(limit, 3) for name, limit in limits.items()}
    match shown:
        case {"ge": low, "le": high}:
            return f"a number from {low} to {high}"
        case {"ge": low, "lt": high}:
            return f"a number from {low} to below {high}"
        case {"gt": low, "lt": high}:
            return f"a number between {low} and {high}"
        case {"ge": low}:
            return f"at least {low}"
    words = {"gt": "above", "le": "at most", "lt": "below"}
    return f"a number {', '.join(f'{words[name]} {limit}' for name, limit in shown.items())}"


def advice(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name."""
    near = nearest(name, known)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known name that is most like an unknown one, if there is any."""
    return difflib.get_close_matches(name[:100], sorted(known), n=1)
