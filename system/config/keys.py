"""How a key of the configuration is declared: its kind of value with bounds, its default and its description."""

import copy
import os
from collections.abc import Callable
from dataclasses import field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from system.config.reading import Null, plain

Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what numpy and scikit-learn accept
File = Annotated[str, AfterValidator(os.path.expanduser)]  # ~ is the home folder
Value = Annotated[Any, BeforeValidator(plain)]  # as YAML reads it
# A text for which the word null stands for itself.
Word = Annotated[str, BeforeValidator(lambda value: value.text if isinstance(value, Null) else value)]


def key(default: Any, description: str) -> Any:
    """Declares a key of a settings class.

    Args:
        default: value, or a class or function without arguments that makes it.
        description: one line: what the key does, its unit, and what special values mean.
    """
    metadata = {"description": description}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list | dict):
        return field(default_factory=_copies(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def _copies(value: Any) -> Callable[[], Any]:
    return lambda: copy.copy(value)
