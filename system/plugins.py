"""Plug-ins: the user's own modules with encoders and scorers (docs/extend.md)."""

import importlib
import os
import traceback

from system.errors import WheeltapperError

PLUGINS = "WHEELTAPPER_PLUGINS"  # environment variable with their names, separated by spaces


def names() -> list[str]:
    """Names of the modules to import."""
    return os.environ.get(PLUGINS, "").split()


def load() -> None:
    """Imports the modules, which register their classes; raises WheeltapperError with all that fail."""
    problems = [problem for name in names() if (problem := failure(name))]
    if problems:
        raise WheeltapperError("\n".join(problems))


def failure(name: str) -> str:
    """Imports a module; returns one line about what is wrong, or an empty text."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        found = f"expected a module on PYTHONPATH, found {error}"
    except WheeltapperError as error:
        found = str(error)
    except Exception as error:
        place = error if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}, line {place.lineno}"
        found = f"expected a module that can be imported, found {type(error).__name__}: {error} ({where})"
    else:
        return ""
    return f"{PLUGINS}: {name}: {' '.join(found.split())}"
