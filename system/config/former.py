"""Former names of settings and of their values, which files and options may still say."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

# Pattern of a whole key to the name that its last part has now.
KEYS = {"branches.*.of": "shares", "tune.scorers.given": "precomputed"}
# Pattern of a whole key to former values and what they are called now; items of lists count from 0.
VALUES = {
    "branches.*.scorer.name": {"given": "precomputed"},
    "systems.*.view": {"left_duplicated": "near_only"},
    "tune.views.*": {"left_duplicated": "near_only"},
    # Earlier versions saved these with every run, whatever its systems were.
    "package.title": {"Gated near and far channels with normal-reference scoring for anomalous machine sounds": ""},
    "package.abstract": {
        "A pre-trained acoustic encoder is adapted to normal machine sounds with low-rank adapters. A learned gate "
        "joins the near and the far microphone, classes of attributes and domains shape the embedding, and a clip is "
        "scored by its distance to the normal references of its machine. All calibration comes from normal clips.": ""
    },
}

# Earlier versions named an author where the configuration named none, and saved it with every run.
AUTHOR = {
    "first": "Rehearsal",
    "last": "Wheeltapper",
    "email": "rehearsal@example.org",
    "corresponding": True,
    "institution": "Demonstration Institute",
    "department": "",
    "location": "Example City, Nowhere",
}


def key(name: str) -> str:
    """A whole key as it is called now."""
    parts = name.split(".")
    return ".".join(_last(parts[:end]) for end in range(1, len(parts) + 1))


def rename_keys(tree: dict[str, Any], above: tuple[str, ...] = ()) -> None:
    """Renames former keys of settings; one that stands beside its new name stays and is refused."""
    for name in list(tree):
        place = (*above, name)
        if isinstance(tree[name], dict):
            rename_keys(tree[name], place)
        new = _last(place)
        if new != name and new not in tree:
            tree[new] = tree.pop(name)


def _last(place: Sequence[str]) -> str:
    """The last part of a key, as it is called now."""
    return next((new for pattern, new in KEYS.items() if _matches(place, pattern)), place[-1])


def rename_values(tree: dict[str, Any]) -> None:
    """Renames former values of settings."""
    for holder, name, place in _leaves(tree, ""):
        for pattern, values in VALUES.items():
            if isinstance(holder[name], str) and holder[name] in values and _matches(place.split("."), pattern):
                holder[name] = values[holder[name]]
    package = tree.get("package")
    if isinstance(package, dict) and _is_former_author(package.get("authors")):
        package["authors"] = []


def _is_former_author(authors: Any) -> bool:
    if not isinstance(authors, list) or len(authors) != 1 or not isinstance(authors[0], dict):
        return False
    return {key: getattr(value, "value", value) for key, value in authors[0].items()} == AUTHOR


def _leaves(value: Any, above: str) -> Iterator[tuple[Any, Any, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in list(items):
        place = f"{above}.{name}" if above else str(name)
        yield value, name, place
        yield from _leaves(item, place)


def _matches(parts: Sequence[str], pattern: str) -> bool:
    wanted = pattern.split(".")
    return len(parts) == len(wanted) and all(fnmatchcase(*pair) for pair in zip(parts, wanted, strict=True))
