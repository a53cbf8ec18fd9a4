"""Settings of scorers: types, bounds and descriptions of their constructors, and of scorers of plug-ins."""

from typing import Annotated

import numpy as np
import pytest
from pydantic import Field

from system import scoring
from system.scoring.settings import settings_of


class Strange:
    """A scorer of a plug-in: annotations of all sorts, and none."""

    def __init__(
        self,
        required,
        plain: int = 1,
        text: "str" = "a",
        sizes: list[int] | None = None,
        array: np.ndarray | None = None,
        unreadable: "NoSuchName" = 3,  # noqa: F821
        **settings,
    ):
        if text == "bad":
            raise ValueError("text: expected another one")


class Readable:
    def __init__(self, plain: int, text: "str" = "a", sizes: list[int] | None = None, array: np.ndarray | None = None):
        pass


@pytest.mark.parametrize("name", scoring.SCORERS)
def test_every_setting_is_described_and_its_default_fits(name):
    for setting in settings_of(scoring.SCORERS[name]).values():
        assert setting.description
        assert not setting.problem(setting.default)


def test_settings_that_a_class_hands_on():
    found = settings_of(scoring.SCORERS["beam"])
    assert list(found)[:3] == ["varmin", "bands", "k"]
    assert (found["k"].default, settings_of(scoring.SCORERS["knn"])["k"].default) == (1, 3)


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("k", 1, ""),
        ("k", True, "expected a whole number, found True"),
        ("k", 1.0, "expected a whole number, found 1.0"),
        ("k", "1", "expected a whole number, found '1'"),
        ("k", 0, "expected at least 1, found 0"),
        ("memmixup", 0, ""),
        ("memmixup", 1, "expected a number from 0 to below 1, found 1"),
        ("memmixup", float("nan"), "expected a number from 0 to below 1, found nan"),
        ("bank", "all", "expected one of domain, global, found 'all'"),
        ("standardize", "mean", ""),
        ("standardize", 1, "expected true, false or mean, found 1"),
    ],
)
def test_values(setting, value, problem):
    assert settings_of(scoring.SCORERS["knn"])[setting].problem(value) == problem


def test_a_scorer_of_a_plug_in(monkeypatch):
    monkeypatch.setitem(scoring.SCORERS, "strange", Strange)
    assert list(settings_of(Strange)) == ["required", "plain", "text", "sizes", "array", "unreadable"]
    assert not list(scoring.problems("strange", {"required": object(), "array": 3, "unreadable": "x"}))
    told = dict(scoring.problems("strange", {"required": 1, "plian": 2}))
    assert told["plian"].startswith("the scorer strange has no such setting: did you mean plain?")
    assert dict(scoring.problems("strange", {"required": 1, "text": "bad"})) == {"text": "expected another one"}
    assert "required" in dict(scoring.problems("strange", {}))[""]


def test_plain_annotations_are_checked():
    found = settings_of(Readable)
    assert found["plain"].problem(1.5) == "expected a whole number, found 1.5"
    assert found["text"].problem(3) == "expected a text, found 3"
    assert (found["sizes"].problem([1]), found["sizes"].problem(None)) == ("", "")
    assert found["sizes"].problem(["a"]) == "expected a list, found ['a']"
    assert found["array"].problem("anything") == ""


def test_a_described_setting():
    class Own:
        def __init__(self, share: Annotated[float, Field(gt=0, description="Share of it")] = 0.5):
            pass

    found = settings_of(Own)["share"]
    assert (found.description, found.default) == ("Share of it", 0.5)
    assert found.problem(0) == "expected a number above 0, found 0"
