"""YAML files that a pydantic model checks."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from system.errors import WheeltapperError

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """A model that refuses unknown keys and whose values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Loader(yaml.SafeLoader):
    """Plain YAML in which no key may stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.MarkedYAMLError(problem=f"{key.value} twice, again in line {line}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_checked(path: Path, model: type[M], what: str) -> M:
    """Reads a YAML file as a model.

    Args:
        what: the file as messages call it.

    Raises:
        WheeltapperError: a file that is absent, is no YAML or has a key twice; else the first value that is wrong.
    """
    try:
        return model.model_validate(yaml.load(path.read_text(encoding="utf-8"), _Loader))
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected {what}, found nothing") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WheeltapperError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from error
    except ValidationError as error:
        # A key that is misspelt is unknown and missing: the first says more.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        where = ".".join(str(step) for step in first["loc"]) or "file"
        if first["type"] == "value_error":  # a check of the model's own, which says what it found
            raise WheeltapperError(f"{path}: {first['ctx']['error']}") from error
        found = "nothing" if first["type"] == "missing" or first["input"] is None else str(first["input"])[:80]
        raise WheeltapperError(f"{path}: {where}: {first['msg']}, found {found}") from error
