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
}
