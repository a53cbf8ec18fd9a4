"""Trees of plain values to dataclasses: every key known, every value of its type, all that is wrong found at once."""

import difflib
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

from system.config import branches
from system.config.reading import Plain, one_line
from system.config.schema import BRANCHES, Branch

# Other programs replace these, by what the environment holds too; here they would be published as they stand.
REFERENCE = re.compile(r"\$\{[^}]*\}")
FILES = ("checkpoint", "folder", "frozen", "manifest", "path", "report_pdf")  # texts that name a file: ~ is the home
WORDS = {"true": True, "yes": True, "on": True, "y": True, "1": True}
WORDS |= {"false": False, "no": False, "off": False, "n": False, "0": False}


class _Reference(Exception):
    """A text that refers to something else."""


Problems = dict[str, str]  # key to what is wrong with it, one sentence that names the key


@lru_cache
def hints(kind: type) -> dict[str, Any]:
    """Types of a dataclass's fields, by name."""
    return typing.get_type_hints(kind)


def essence(hint: Any, value: Any = None) -> Any:
    """A type without its ``| None``; of a branch the class for its settings ``value``."""
    if hint is Branch:
        return branches.class_of(value)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def blank(hint: Any) -> Any:
    """The value that an item or an entry of a type has before anything is said of it."""
    kind = typing.get_origin(essence(hint)) or essence(hint)
    return None if kind is Any else kind()


def build(hint: Any, value: Any, default: Any, key: str, problems: Problems) -> Any:
    """A value of the type ``hint``.

    Args:
        value: of ``reading.parse``, or plain values.
        default: taken where the value does not fit; of dataclasses, what stands where ``value`` says nothing.
        key: where the value stands. problems: takes what is wrong.
    """
    kind = essence(hint, value)
    if hint is Branch:
        default = kind()
    elif kind is not hint:
        if _bare(value) is None:
            return None
        default = default if default is not None else kind()
    if is_dataclass(kind):
        return _settings(kind, value, default, key, problems)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        if not isinstance(value, list):
            shape = f"a list, as [{_shown(value)}]" if not isinstance(value, dict) else "a list"
            return _refuse(key, shape, value, default, problems)
        item = arguments[0]
        return [build(item, each, blank(item), f"{key}.{number}", problems) for number, each in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            return _refuse(key, "names with values", value, default, problems)
        return {name: _entry(arguments[1], each, f"{key}.{name}", problems) for name, each in value.items()}
    return _scalar(kind, value, default, key, problems)


def _settings(kind: type, value: Any, default: Any, key: str, problems: Problems) -> Any:
    if not isinstance(value, dict):
        return _refuse(key, "settings", value, default, problems)
    known, found = hints(kind), {field.name: getattr(default, field.name) for field in fields(kind)}
    for name, item in value.items():
        place = f"{key}.{name}" if key else name
        if kind in BRANCHES.values() and name == "kind":
            if item not in BRANCHES:
                _refuse(place, f"one of {', '.join(BRANCHES)}", item, default, problems)
            continue
        if kind in BRANCHES.values() and name not in known and branches.is_of_another(name):
            has = ", ".join(sorted(known))
            problems[place] = f"{place}: {branches.article(default.kind)} has no such setting; it has {has}"
            continue
        if name not in known:
            _unknown(place, name, known, value, problems)
            continue
        found[name] = build(known[name], item, found[name], place, problems)
        if name in FILES and isinstance(found[name], str):
            found[name] = os.path.expanduser(found[name])
    return kind(**found)


def _unknown(key: str, name: str, known: Iterable[str], beside: Iterable[str], problems: Problems) -> None:
    """Notes an unknown key, and without words the one that was meant, of which the default is not to be judged."""
    problems[key] = f"unknown key {key}: {advice(name, known)}"
    for meant in nearest(name, known):
        if meant not in beside:
            problems.setdefault(key.removesuffix(name) + meant, "")


def _entry(hint: Any, value: Any, key: str, problems: Problems) -> Any:
    if hint is str and isinstance(value, Plain) and value.value is None:
        return value.text  # null is a word that such names may have
    return build(hint, value, blank(hint), key, problems)


def _scalar(kind: Any, value: Any, default: Any, key: str, problems: Problems) -> Any:
    wanted, convert = _CONVERTERS[kind]
    try:
        return convert(value)
    except _Reference as found:
        problems[key] = (
            f"{key}: expected {wanted}, found the reference {found}: a configuration reads neither other settings nor "
            "the environment"
        )
        return default
    except (ValueError, OverflowError):
        return _refuse(key, wanted, value, default, problems)


def _refuse(key: str, wanted: str, value: Any, default: Any, problems: Problems) -> Any:
    found = _found(value)
    if _bare(value) is None:
        found = _shown(value) if isinstance(value, Plain) and value.text else "nothing"
        if isinstance(default, str):
            found += ' ("" is an empty text; a word like null needs quotes)'
    problems[key] = f"{key or 'configuration'}: expected {wanted}, found {found}"
    return default


def advice(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name."""
    near = nearest(name, known)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known name that is most like an unknown one, if there is any."""
    return difflib.get_close_matches(name[:100], sorted(known), n=1)


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Plain) else value


def _shown(value: Any) -> str:
    return one_line(value.text if isinstance(value, Plain) else value, 60)


def _found(value: Any) -> str:
    if isinstance(value, dict):
        return "keys with values"
    if isinstance(value, list | tuple | set):
        return "a list"
    return repr(_shown(value)) if isinstance(value, str) else _shown(value)


def _text(value: Any) -> str:
    if _bare(value) is None or not isinstance(value, str | int | float | Plain):
        raise ValueError
    text = value.text if isinstance(value, Plain) else str(value)
    if found := REFERENCE.search(text):
        raise _Reference(one_line(found[0], 60))
    text.encode()  # UnicodeEncodeError, a ValueError, where it holds half a character
    return text


def _float(value: Any) -> float:
    value = _bare(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    _text(value)
    return float(value)


def _int(value: Any) -> int:
    bare = _bare(value)
    if isinstance(bare, int) and not isinstance(bare, bool):
        return bare
    if isinstance(bare, str) and re.fullmatch(r"\s*[-+]?[0-9_]+\s*", bare):
        return int(bare)
    number = _float(bare)
    if not math.isfinite(number) or number != int(number):
        raise ValueError
    return int(number)


def _bool(value: Any) -> bool:
    bare = _bare(value)
    if isinstance(bare, bool):
        return bare
    if isinstance(bare, int | str) and _text(bare).strip().lower() in WORDS:
        return WORDS[str(bare).strip().lower()]
    raise ValueError


def _any(value: Any) -> Any:
    """Plain values as yaml has them; a date and the like as it was written."""
    if isinstance(value, dict):
        return {_text(key): _any(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_any(item) for item in value]
    bare = _bare(value)
    return bare if bare is None or isinstance(bare, bool | int | float) else _text(value)


_CONVERTERS: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    str: ("a text", _text),
    int: ("a whole number", _int),
    float: ("a number", _float),
    bool: ("true or false", _bool),
    Any: ("a value", _any),
}
