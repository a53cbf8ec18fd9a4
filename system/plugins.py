"""Modules of the user's own, which bring encoders and scorers (docs/extend.md)."""

import importlib
import os
import traceback

from system.errors import WheeltapperError

PLUGINS = "WHEELTAPPER_PLUGINS"  # environment variable that names them, with spaces between


def names() -> list[str]:
    """The modules that are asked for."""
    return os.environ.get(PLUGINS, "").split()


def load() -> None:
    """Imports the modules, which register what they bring; WheeltapperError that names every one that fails."""
    problems = [problem for name in names() if (problem := failure(name))]
    if problems:
        raise WheeltapperError("\n".join(problems))


def failure(name: str) -> str:
    """Imports a module; what is wrong with it in one line, or nothing."""
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
