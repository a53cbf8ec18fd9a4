"""Settings of scorers: their types, bounds and descriptions, read from the constructors.

A constructor's parameter annotated with ``Annotated[int, Field(ge=1, description="...")]`` is checked against the type
and bounds, and documented; a scorer of a plug-in may have plain annotations or none.
"""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from system.config.hints import BOUNDS, wanted

BankMode = Annotated[
    Literal["domain", "global"],
    Field(description="Banks of references: one for each domain, of which the nearest counts, or one of all (global)"),
]
Standardize = Annotated[
    bool | Literal["mean"],
    Field(
        description="Whether each bank's distances become z-scores of its leave-one-out distances: true by median and "
        "MAD, mean by mean and standard deviation"
    ),
]
NearestAveraged = Annotated[int, Field(ge=1, description="Number of nearest references whose distances are averaged")]
LofNeighbours = Annotated[int, Field(ge=1, description="Number of neighbours of the local outlier factor")]
Smote = Annotated[
    float,
    Field(ge=0, description="Number of synthetic target rows (SMOTE) as a share of the source references; 0: none"),
]
Memmixup = Annotated[
    float,
    Field(ge=0, lt=1, description="Weight of the source reference in synthetic target rows (MemMixup); 0: none"),
]
MemmixupNeighbours = Annotated[
    int, Field(ge=1, description="Number of source references that each target reference is mixed with (MemMixup)")
]
Varmin = Annotated[
    int,
    Field(ge=0, description="Neighbours for the density of a reference (VarMin rescaling); 0: plain distances"),
]
DensityNeighbours = Annotated[int, Field(ge=1, description="Number of neighbours for the local density of a reference")]
Bands = Annotated[
    bool, Field(description="Whether distances are taken for each band and averaged; false: bands form one vector")
]
Covariance = Annotated[
    Literal["own", "source"],
    Field(
        description="Covariance of each bank: its own, or that of the source references around the bank's mean (bank "
        "domain); a domain of two references then has a bank"
    ),
]
WorstFrames = Annotated[
    float,
    Field(gt=0, le=1, description="Share of a clip's frames, the most distant ones, whose distances are averaged"),
]
FrameDistance = Annotated[
    Literal["euclidean", "cosine"],
    Field(description="Distance of frames, whose numbers are standardised by the bank's mean and deviation"),
]
MostFrames = Annotated[
    int, Field(ge=1, description="Frames of a bank above which every second, third ... of each reference is kept")
]

_PLAIN = (int, float, bool, str, NoneType, Any)


@dataclass(frozen=True)
class Setting:
    """One setting of a scorer: its type, its default (MISSING for none), and what it does."""

    annotation: Any
    default: Any
    description: str

    def problem(self, value: Any) -> str:
        """What is wrong with a value; empty where nothing is, or nothing is known of the type."""
        if not _is_plain(self.annotation):
            return ""
        try:
            TypeAdapter(self.annotation, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            number = error.errors()[0]["type"] in BOUNDS
            return f"expected {wanted(self.annotation, number)}, found {value!r}"
        return ""


@lru_cache
def settings_of(kind: type) -> Mapping[str, Setting]:
    """Settings that a scorer class accepts.

    Args:
        kind: the class.

    Returns:
        Every constructor argument by name, those of base classes included that ``**settings`` passes on.
    """
    found: dict[str, Setting] = {}
    for each in kind.__mro__[:-1]:
        if "__init__" not in vars(each):
            continue
        _, *parameters = inspect.signature(vars(each)["__init__"]).parameters.values()
        hints = _hints(each)
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                annotation = hints.get(parameter.name, parameter.annotation)
                default = MISSING if parameter.default is parameter.empty else parameter.default
                found.setdefault(parameter.name, Setting(annotation, default, _description(annotation)))
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(vars(kind)["__init__"], include_extras=True)
    except (NameError, TypeError, AttributeError):  # annotations of a plug-in that cannot be read
        return {}


def _description(annotation: Any) -> str:
    fields = [each for each in get_args(annotation)[1:] if isinstance(each, FieldInfo)]
    return next((each.description for each in fields if each.description), "")


def _is_plain(hint: Any) -> bool:
    """Whether a type is made of what a configuration can hold."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _is_plain(arguments[0])
    if origin in (Union, UnionType, list, dict):
        return all(map(_is_plain, arguments))
    return origin is Literal or hint in _PLAIN
