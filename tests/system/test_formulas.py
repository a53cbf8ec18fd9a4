"""docs/formulas.md names functions that exist, and none of what can be chosen is missing."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from system.adaptation import heads
from system.benchmarks.tasks import TASKS
from system.config import (
    CHANNELS,
    POOLS,
    SIMAM,
    AutoencoderConfig,
    EncoderBranchConfig,
    EncoderConfig,
    HeadConfig,
    PretrainConfig,
    PseudoConfig,
    SpectrumConfig,
    SubtractionConfig,
    SystemConfig,
)
from system.config.families import FAMILIES
from system.evaluation import metrics
from system.pretraining import objectives
from system.pretraining.distillation import SelfDistillation
from system.scoring import SCORERS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "formulas.md").read_text()
LINKS = re.findall(r"\[`(system\.[\w.]+)`\]\(\.\./([\w/.]+)\)", PAGE)
# Words that can be chosen, by the section that explains them.


def words(settings: type, name: str) -> list[str]:
    """Words that a setting may have."""
    hint = get_type_hints(settings)[name]
    options = get_args(hint) if get_origin(hint) is Literal else get_args(get_args(hint)[0])
    return [word for word in options if isinstance(word, str)]


CHOICES = {
    "Scorers": list(SCORERS),
    "Calibration, fusion, thresholds": [*words(SystemConfig, "fusion"), *words(SystemConfig, "threshold")],
    "Metrics": [*(name for rule in metrics.RULES.values() for name in rule.measures), *TASKS],
    "Losses of the adaptation": [*words(HeadConfig, "kind"), *words(PseudoConfig, "method")],
    "Losses of the pre-training": words(PretrainConfig, "objective"),
    "Autoencoder and study": words(AutoencoderConfig, "score"),
    "Front ends": [
        *(
            *words(SubtractionConfig, "method"),
            *words(SpectrumConfig, "statistic"),
            *words(SpectrumConfig, "order"),
            *words(SpectrumConfig, "filterbank"),
            *words(EncoderConfig, "filterbank"),
            *CHANNELS,
        ),
        *(kind for kind in SIMAM if kind != "auto"),
    ],
    "Front ends of the encoders": list(FAMILIES),
    "Pooling": [*POOLS, *words(EncoderBranchConfig, "readout")],
}


def resolve(dotted: str):
    """The object of a dotted name, and the module that defines it."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found, module
    raise AttributeError(dotted)


def names_of(section: str) -> set[str]:
    """Words in the first column of a section's table."""
    text = re.split(rf"^## {re.escape(section)}$", PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]
    return {word for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for word in re.findall(r"`([^`]+)`", row)}


@pytest.mark.parametrize(("dotted", "file"), LINKS, ids=[dotted for dotted, _ in LINKS])
def test_every_function_exists_in_the_file_of_its_link(dotted, file):
    found, module = resolve(dotted)
    assert callable(found) or isinstance(found, property)
    assert Path(module.__file__).relative_to(ROOT).as_posix() == file
    if inspect.isfunction(found) or inspect.isclass(found):
        assert found.__module__ == module.__name__


def test_rows_have_a_formula_and_a_function():
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.splitlines() if line.startswith("|")]
    rows = [row for row in rows if row[0].strip() not in ("name", "---")]
    assert len(rows) > 60
    for row in rows:
        assert len(row) == 4, row
        assert row[1].strip(), row
        assert "](../system/" in row[2], row


@pytest.mark.parametrize("section", CHOICES)
def test_nothing_that_can_be_chosen_is_missing(section):
    assert set(CHOICES[section]) <= names_of(section)


def test_every_scorer_head_and_objective_is_linked():
    classes = [*SCORERS.values()]
    classes += [kind for _, kind in inspect.getmembers(heads, inspect.isclass) if issubclass(kind, heads.Head)]
    classes += [
        kind
        for _, kind in inspect.getmembers(objectives, inspect.isclass)
        if issubclass(kind, SelfDistillation) and kind is not SelfDistillation
    ]
    linked = " ".join(dotted for dotted, _ in LINKS)
    for kind in classes:
        assert f"{kind.__module__}.{kind.__qualname__}" in linked
