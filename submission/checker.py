"""Checks of single fields of a meta file; findings are located by key paths."""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from submission.findings import Collector, shorten


class Checker:
    """Collector of findings that are located by key paths."""

    def __init__(self, lines: Mapping[str, int], where: str, year: int):
        self.collector = Collector()
        self.lines, self.where, self.year = lines, where, year

    def error(self, path: str, message: str) -> None:
        self._add(self.collector.error, path, message)

    def warning(self, path: str, message: str) -> None:
        self._add(self.collector.warning, path, message)

    def _add(self, add: Callable, path: str, message: str) -> None:
        place = path
        while place and place not in self.lines:
            place = re.sub(r"(\.?[^.\[]*|\[\d+\])$", "", place)
        add(self.where, f"{path}: {message}" if path else message, self.lines.get(place, 0))

    def mapping(self, value: Any, path: str, required: Iterable[str], optional: Iterable[str] = ()) -> dict | None:
        """Returns ``value`` if it is a mapping; missing keys are errors and unknown keys are warnings."""
        required, optional = tuple(required), tuple(optional)
        if not isinstance(value, dict):
            self.error(path, f"expected a mapping with {', '.join(required)}; found {shorten(value)}")
            return None
        unknown = [str(key) for key in value if key not in required and key not in optional]
        for key in required:
            if key not in value:
                near = get_close_matches(key, unknown, n=1, cutoff=0.75)
                hint = f" (found {near[0]}: a typing error?)" if near else ""
                self.error(join(path, key), f"expected this key, found none{hint}")
        for key in unknown:
            near = get_close_matches(key, [*required, *optional], n=1, cutoff=0.75)
            hint = f" (did you mean {near[0]}?)" if near else ""
            self.warning(join(path, key), f"expected no such key{hint}")
        return value

    def text(self, mapping: dict, path: str, key: str, may_be_null: bool = False, missing: str = "error") -> str | None:
        """Returns the text of a key; empty text or null is an error, a warning or allowed."""
        if key not in mapping:
            return None
        value, place = mapping[key], join(path, key)
        if isinstance(value, str) and value.strip():
            return value
        if value is None and may_be_null:
            return None
        if value is None or value == "":
            (self.error if missing == "error" else self.warning)(place, "expected text, found nothing")
        elif isinstance(value, list):
            self.error(place, "expected one text with commas, found a list")
        elif isinstance(value, str):
            self.error(place, "expected text, found only blanks")
        else:
            self.error(place, f"expected text, found {shorten(value)} (put it in quotes)")
        return None


def join(path: str, key: Any) -> str:
    """Path of a key below another."""
    return f"{path}.{key}" if path else str(key)
