"""The kind of a branch, told by its keys where ``kind`` does not say it."""

from dataclasses import fields
from typing import Any

from system.config.branches import BRANCHES, BranchConfig, ScorerConfig
from system.config.reading import Null

TELLING = {"spectrum": "spectrum", "autoencoder": "autoencoder", "shares": "shared"}  # key to the kind that has it
KEYS = {kind: {field.name for field in fields(each)} for kind, each in BRANCHES.items()}


def stated(settings: dict[str, Any]) -> str:
    """The kind that settings of a branch name or imply; empty where they say nothing of it."""
    if isinstance(settings.get("kind"), str):
        return settings["kind"]
    return next((kind for key, kind in TELLING.items() if not _is_nothing(settings.get(key))), "")


def class_of(settings: Any) -> type[BranchConfig]:
    """The class of a branch by its settings."""
    kind = stated(settings) if isinstance(settings, dict) else ""
    return BRANCHES.get(kind or "encoder", BRANCHES["encoder"])


def make_way(tree: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Readies the branches of a tree for later settings: where these make a branch of another kind, the keys go that
    this kind does not have. In the same way the settings of a scorer go where another scorer is named.

    Configurations that earlier versions saved name the keys of all kinds for each branch, ``spectrum: null`` among
    them; there what does not belong to the kind is dropped from ``given``.

    Returns:
        One sentence for each branch that loses keys.
    """
    notes = []
    for name, settings in _branches(given).items():
        kind, before = stated(settings), _branches(tree).get(name)
        nothing = [TELLING[key] for key in TELLING if key in settings and _is_nothing(settings[key])]
        if before and not kind and stated(before) in nothing:
            kind = "encoder"  # what told the kind is taken away
        if nothing:
            for key in _foreign(settings, kind or "encoder"):
                del settings[key]
        if before:
            _make_way_for_scorer(before, settings)
        former = stated(before or {}) or "encoder"
        if before and kind and kind != former:
            before.pop("kind", None)
            dropped = _foreign(before, kind)
            for key in dropped:
                del before[key]
            if dropped and kind in KEYS:
                notes.append(
                    f"branches.{name} is now {article(kind)}; {', '.join(dropped)} of {article(former)} "
                    f"{'is' if len(dropped) == 1 else 'are'} dropped"
                )
    return notes


def _make_way_for_scorer(before: dict[str, Any], given: dict[str, Any]) -> None:
    old, new = before.get("scorer"), given.get("scorer")
    name = new.get("name") if isinstance(new, dict) else None
    if isinstance(old, dict) and isinstance(name, str) and name != old.get("name", ScorerConfig().name):
        old.pop("settings", None)


def settle(tree: dict[str, Any]) -> None:
    """Writes into each branch of a tree which kind it is."""
    for settings in _branches(tree).values():
        if _is_nothing(settings.get("kind")):
            settings["kind"] = stated(settings) or "encoder"
        for key in [key for key in TELLING if key in settings and _is_nothing(settings[key])]:
            if key not in KEYS[class_of(settings).kind]:
                del settings[key]


def article(kind: str) -> str:
    """``a spectrum branch``, ``an encoder branch``."""
    return f"{'an' if kind[0] in 'ae' else 'a'} {kind} branch"


def is_of_another(key: str) -> bool:
    """Whether some kind has a key."""
    return any(key in keys for keys in KEYS.values())


def _branches(tree: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = tree.get("branches")
    return {name: each for name, each in found.items() if isinstance(each, dict)} if isinstance(found, dict) else {}


def _foreign(settings: dict[str, Any], kind: str) -> list[str]:
    """Keys of other kinds."""
    others = set().union(*KEYS.values()) - KEYS.get(kind, set())
    return [key for key in settings if key in others]


def _is_nothing(value: Any) -> bool:
    return value in (None, "") or isinstance(value, Null)
