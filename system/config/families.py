"""Families of encoders, by the names that a configuration has for them."""

from typing import Any

# Module of system.encoders and class, so that a configuration can be checked without loading them, or the class itself.
FAMILIES: dict[str, tuple[str, str] | type[Any]] = {
    "fisher": ("fisher", "Fisher"),
    "echo": ("echo", "Echo"),
    "beats": ("beats", "Beats"),
    "eat": ("eat", "Eat"),
    "audiomae": ("audiomae", "AudioMae"),
    "ast": ("ast", "Ast"),
    "cnn": ("cnn", "ResNeXt"),
    "mn": ("mn", "MobileNet"),
}

_WITH_FILTERBANK = ("beats", "eat", "audiomae", "ast")


def has_filterbank(family: str) -> bool:
    """Whether a known family hears through a filter bank that can be chosen; found without loading it."""
    found = FAMILIES[family]
    return bool(getattr(found, "filterbanks", ())) if isinstance(found, type) else family in _WITH_FILTERBANK
