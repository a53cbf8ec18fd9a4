"""A recipe's yaml, read over the defaults and checked, and written back."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from system.config import checks as rules
from system.config import former, hints, kinds, overrides, validation
from system.config.finding import find
from system.config.reading import Null, one_line, parse
from system.config.schema import Config
from system.errors import WheeltapperError, several
from system.files import open_atomic

log = logging.getLogger(__name__)

MANY = 50  # problems that somebody may want to read at once
Check = Callable[[Config], Iterable[str]]  # of a configuration: what is wrong with it, one sentence each, the key first
Origins = dict[str, str]  # key to the file or option that says it, the latest last


def load(path: str | os.PathLike, given: Iterable[str] | None = None, checks: Sequence[Check] = ()) -> Config:
    """Reads a recipe's yaml over the defaults.

    Args:
        path: yaml file, or a name among the recipes (``finding.find``).
        given: texts of --set, each with one or several ``key.key=value``.
        checks: further ones, of the parts of the program that the configuration is for.

    Raises WheeltapperError whose ``problems`` are all that is wrong, each with the file or the option, and the key:
    unknown keys (with the nearest known one), values of the wrong type, settings that contradict one another.
    """
    config, problems = read(path, given, checks)
    if problems:
        raise several(str(find(path, Path())), problems)
    return config


def read(
    path: str | os.PathLike, given: Iterable[str] | None = None, checks: Sequence[Check] = ()
) -> tuple[Config, list[str]]:
    """``load`` without an end at what is wrong.

    Returns:
        the configuration, with defaults in the place of values that cannot be read, and what is wrong with it.

    Raises WheeltapperError where no yaml can be read.
    """
    path = find(path, Path())
    tree: dict[str, Any] = {}
    origins: Origins = {}
    problems = []
    for file, content in _files(path):
        former.rename_keys(content)
        kinds.make_way(tree, content)
        _merge(tree, content, str(file), origins)
    given = list(given or ())
    # A scorer's name first: it takes the settings of the former scorer away, not those given beside it.
    for override in sorted(overrides.split(given), key=lambda text: ".scorer.name=" not in text):
        try:
            tree = _override(tree, override, origins, override not in given)
        except WheeltapperError as error:
            problems += error.problems
    former.rename_values(tree)
    kinds.settle(tree)
    config, found = _build(tree, checks)
    problems += [f"{_origin(key, origins, str(path))}: {text}" for key, text in found[:MANY]]
    if len(found) > MANY:
        problems.append(f"{path}: and {len(found) - MANY} more")
    return config, problems


def save(path: str | os.PathLike, config: Config) -> None:
    """Writes the resolved configuration as yaml, whole or not at all; an equal one stays as it is."""
    text = yaml.safe_dump(asdict(config), sort_keys=False)
    path = Path(path)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with open_atomic(path) as file:
        file.write(text)


def _files(path: Path, above: tuple[Path, ...] = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A yaml file after those that it builds on: ``base: other.yaml``."""
    if path.resolve() in above:
        raise WheeltapperError(f"{path}: base: expected another file, found a circle of files")
    try:
        found = parse(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise WheeltapperError(f"{path}: expected yaml, found {one_line(error)}") from error
    if not isinstance(found, dict) or not found:
        one = f"one value, {found[:40]!r}" if isinstance(found, str) else "none"
        kind = "a list" if isinstance(found, list) else one
        raise WheeltapperError(f"{path}: expected yaml of keys and values, found {kind}")
    base = found.pop("base", None)
    if isinstance(base, str):
        yield from _files(find(base, path.parent, f"{path}: base: "), (*above, path.resolve()))
    elif base is not None and not isinstance(base, Null):
        raise WheeltapperError(f"{path}: base: expected the name of a file, found another value")
    yield path, found


def _merge(tree: dict[str, Any], given: dict[str, Any], where: str, origins: Origins, above: str = "") -> None:
    """Puts a file's settings over others, mappings into one another, all else as a whole; notes where each stands."""
    for name, value in given.items():
        key = f"{above}.{name}" if above else name
        before = tree.get(name)
        if isinstance(value, dict):
            tree[name] = before if isinstance(before, dict) else {}
            _merge(tree[name], value, where, origins, key)
        else:
            if isinstance(before, dict):
                _forget(key, origins)
            tree[name] = value
        if not isinstance(value, dict) or not value:
            origins.pop(key, None)
            origins[key] = where


def _override(tree: dict[str, Any], override: str, origins: Origins, one_of_several: bool) -> dict[str, Any]:
    key, value = overrides.key_and_value(override)
    key = former.key(key)
    said = f"--set {one_line(override, 80)}"
    first, known = key.partition(".")[0], hints.hints(Config)
    if one_of_several and first not in known:
        quotes = "(where it is a part of a value, put that in quotes)"
        raise WheeltapperError(f"{said}: unknown key {key}: {hints.advice(first, known)} {quotes}")
    try:
        start = overrides.start(key.split("."), value)
        former.rename_keys(start)
        for note in kinds.make_way(tree, start):
            _say(f"note: {said}: {note}")
        tree = overrides.assign(Config, tree, Config(), key.split("."), value)
        former.rename_keys(tree)
    except WheeltapperError as error:
        raise WheeltapperError(f"{said}: {error}") from error
    _forget(key, origins)
    origins[key] = said
    return tree


@lru_cache(maxsize=256)
def _say(line: str) -> None:
    """Says a line once: a configuration is read several times in a run."""
    log.warning(line)


def _forget(key: str, origins: Origins) -> None:
    for other in [other for other in origins if other == key or other.startswith(f"{key}.")]:
        del origins[other]


def _origin(key: str, origins: Origins, usual: str) -> str:
    """What says a setting: the last that speaks of the key or of a part of it, or else of what it is a part of."""
    within = [where for other, where in origins.items() if f"{other}.".startswith(f"{key}.")]
    if within:
        return within[-1]
    while key and key not in origins:
        key = key.rpartition(".")[0]
    return origins.get(key, usual)


def _build(tree: dict[str, Any], checks: Sequence[Check]) -> tuple[Config, list[tuple[str, str]]]:
    """The configuration of a tree, and (key, what is wrong)."""
    config, refused = validation.build(tree)
    found = [text for check in (rules.problems, *checks) for text in check(config)]
    more = [(text.partition(":")[0], text) for text in dict.fromkeys(found)]
    wrong = [(key, text) for key, text in refused.items() if text]
    return config, [*wrong, *((key, text) for key, text in more if not _follows(key, refused))]


def _follows(key: str, refused: validation.Problems) -> bool:
    """Whether what is wrong with a key may come of a value that was refused and replaced by its default."""
    return any(f"{key}.".startswith(f"{other}.") or key == other.rpartition(".")[0] for other in refused)
