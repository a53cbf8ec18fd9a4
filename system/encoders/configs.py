"""Configurations of encoders, as stored in checkpoints: dataclasses from plain values."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from system.errors import WheeltapperError

HEAD_DIM = 64  # channels of an attention head in every published transformer
MAX_SIZE = 16384
MAX_DEPTH = 256


def saved_settings(metadata: Mapping[str, str], family: str, path: str | os.PathLike) -> dict[str, Any]:
    """Settings in the metadata of a file that ``Encoder.save`` wrote.

    Raises:
        WheeltapperError: they are damaged, or of another family.
    """
    try:
        found, settings = metadata.get("family", family), json.loads(metadata["config"])
    except (ValueError, RecursionError):
        found, settings = family, None
    if found != family or not isinstance(settings, dict):
        found = found if isinstance(settings, dict) else "none"
        raise WheeltapperError(f"{path}: expected a {family} config in its metadata, found {found}")
    return settings


def config_of(kind: type, settings: Mapping[str, Any], path: str | os.PathLike) -> Any:
    """Builds a configuration from plain values.

    Args:
        kind: dataclass of the configuration.
        settings: field name to value, which is converted to the field's type. Other keys are ignored, and so is None
            for a field that does not accept it: other programs write it for the default.
        path: checkpoint, for messages.

    Raises:
        WheeltapperError: a field without a value, or a value of another type.
    """
    hints = get_type_hints(kind)
    values = {
        name: settings[name]
        for name, hint in hints.items()
        if name in settings and (settings[name] is not None or type(None) in get_args(hint))
    }
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        expected = hints[name].__name__ if isinstance(hints[name], type) else hints[name]
        found = "nothing" if first["type"] == "missing" else repr(first["input"])
        raise WheeltapperError(f"{path}: cfg.{name}: expected {expected}, found {found:.80}") from error


def has_possible_sizes(config: Any, known: Iterable[Any]) -> bool:
    """Whether a network with the sizes of a configuration can be built; values of known configurations always can."""
    others = [asdict(each) for each in known]
    odd = {
        name: value
        for name, value in asdict(config).items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and all(value != other[name] for other in others)
    }
    return (
        all(0 < value <= MAX_SIZE for value in odd.values())
        and odd.get("depth", 1) <= MAX_DEPTH
        and odd.get("embed_dim", 4) % 4 == 0
        and getattr(config, "embed_dim", 0) % getattr(config, "num_heads", 1) == 0
    )


def heads_of(dim: int) -> int:
    """Number of attention heads if the checkpoint does not store it: 64 channels each, and at least two heads."""
    return max(2, dim // HEAD_DIM)
