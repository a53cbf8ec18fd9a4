"""Choice of the channels that models take of a recording with several: the near and, if there is one, the far one.

A choice is ``3`` (no far channel), ``1,3`` (near and far, numbered from 1), ``mean`` (the mean of all, no far channel),
or empty for the first two.
"""

import re
from typing import TYPE_CHECKING, Any

from system.errors import WheeltapperError

if TYPE_CHECKING:
    import numpy as np

MEAN = "mean"
FORM = re.compile(rf"|{MEAN}|[1-9][0-9]{{0,4}}(,[1-9][0-9]{{0,4}})?")


def written(value: Any) -> Any:
    """A choice as it is stored; lists and numbers of a configuration become text, anything else stays as it is."""
    parts = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(part, str | int) and not isinstance(part, bool) for part in parts):
        return value
    text = ",".join(map(str, parts)).strip()
    if text[:1] == "[" and text[-1:] == "]":  # a list in --set, where text is taken as typed
        text = text[1:-1].strip()
    return re.sub(r"\s*,\s*|\s+", ",", text)


def problem(choice: str) -> str:
    """What is wrong with a choice; empty if nothing is."""
    if FORM.fullmatch(choice):
        return ""
    return f"expected the number of a channel from 1, two with a comma (near,far), or {MEAN}, found {choice!r}"


def count(choice: str, channels: int) -> int:
    """Number of channels, 1 or 2, that models take of a recording with ``channels``."""
    if not choice:
        return min(2, channels)
    return 1 + choice.count(",")


def used(choice: str, channels: int) -> list[int]:
    """Numbers from 0 of the channels that are used of a recording with ``channels``."""
    if choice == MEAN:
        return list(range(channels))
    return [int(number) - 1 for number in choice.split(",")] if choice else list(range(min(2, channels)))


def highest(choice: str) -> int:
    """Number of channels that a recording must have."""
    return max((int(number) for number in choice.split(",") if number.isdecimal()), default=1)


def select(choice: str, wave: "np.ndarray", path: str) -> "np.ndarray":
    """The chosen channels of a waveform (channels, samples): float32 (1 or 2, samples).

    Raises:
        WheeltapperError: the recording in ``path`` lacks one.
    """
    if highest(choice) > len(wave):
        raise WheeltapperError(f"{path}: {lacking(choice, len(wave))}")
    if choice == MEAN:
        return wave.mean(0, keepdims=True)
    return wave[used(choice, len(wave))] if choice else wave[:2]


def lacking(choice: str, channels: int) -> str:
    """Message that a recording has too few channels."""
    found = f"{channels} channel{'s' * (channels > 1)}"
    return f"expected at least {highest(choice)} channels for data.channels={choice}, found {found}"
