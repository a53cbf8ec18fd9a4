"""Former names of settings and of their values, which files and options may still say."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

# Pattern of a whole key to the name that its last part has now.
KEYS = {"branches.*.of": "shares", "tune.scorers.given": "precomputed"}
# Pattern of a whole key to former values and what they are called now; items of lists count from 0.
VALUES = {
    "branches.*.scorer.name": {"given": "precomputed"},
    "systems.*.view": {"left_duplicated": "near_only"},
    "tune.views.*": {"left_duplicated": "near_only"},
}


def key(name: str) -> str:
    """A whole key as it is called now."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        for pattern, new in KEYS.items():
            if _matches(parts[:end], pattern):
                parts[end - 1] = new
    return ".".join(parts)


def rename_keys(tree: dict[str, Any], above: str = "") -> None:
    """Renames former keys of a file's settings; one that stands beside its new name stays and is refused."""
    for name in list(tree):
        place = f"{above}.{name}" if above else name
        if isinstance(tree[name], dict):
            rename_keys(tree[name], place)
        new = key(place).rpartition(".")[2]
        if new != name and new not in tree:
            tree[new] = tree.pop(name)


def rename_values(tree: dict[str, Any]) -> None:
    """Renames former values of settings."""
    for holder, name, place in _leaves(tree, ""):
        for pattern, values in VALUES.items():
            if isinstance(holder[name], str) and holder[name] in values and _matches(place.split("."), pattern):
                holder[name] = values[holder[name]]


def _leaves(value: Any, above: str) -> Iterator[tuple[Any, Any, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in list(items):
        place = f"{above}.{name}" if above else str(name)
        yield value, name, place
        yield from _leaves(item, place)


def _matches(parts: list[str], pattern: str) -> bool:
    wanted = pattern.split(".")
    return len(parts) == len(wanted) and all(fnmatchcase(*pair) for pair in zip(parts, wanted, strict=True))
