"""Cases of tools/real_input_matrix.py: recordings, tables and file systems as they are met outside of a laboratory."""

import importlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from real_inputs.case import Case

MODULES = (
    "lengths",
    "rates",
    "references",
    "sensors",
    "tables",
    "corpora",
    "headers",
    "formats",
    "moves",
    "places",
    "training",
    "checkpoints",
    "packages",
)


def all_cases() -> list["Case"]:
    """The cases of all modules, in the order of their kinds."""
    from real_inputs.case import CASES

    for name in MODULES:
        importlib.import_module(f"real_inputs.{name}")
    return sorted(CASES, key=lambda case: int(re.match(r"\d+", case.kind)[0]))  # type: ignore[index]
