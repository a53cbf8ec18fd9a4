"""Names that a later stage, a zip or a file system would refuse are told from those that all take."""

import pytest

from system import naming

GOOD = ["fan", "Fan one", "a,b", "%s", "~", "-x", "ü" * 50, "x" * 100, "日本語", "Fan_section_01", "console", "com10"]
BAD = {
    "": "found nothing",
    "  ": "found nothing",
    "../../x": "without /",
    "a\\b": r"without \,",
    "..": "without a dot",
    ".hidden": "without a dot",
    "a.": "without a dot",
    "a\nb": "printable",
    "a\0b": "printable",
    "a\u202eb": "RIGHT-TO-LEFT OVERRIDE",
    " a": "no spaces",
    "a:b": "without :",
    "CON": "reserves",
    "nul.txt": "reserves",
    "lpt1": "reserves",
    "=1+1": "begins a formula",
    "@SUM(A1)": "begins a formula",
    "+x": "begins a formula",
    "COM¹": "reserves",
    "conin$": "reserves",
    "x" * 101: "at most 100 bytes, found 101",
    "ü" * 51: "at most 100 bytes, found 102",
}


@pytest.mark.parametrize("name", GOOD)
def test_machines_that_can_be(name):
    assert naming.machine_problem(name) == ""


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_machines_that_cannot_be(name):
    assert BAD[name] in naming.machine_problem(name)


def test_machines_say_where_they_are_first_listed():
    names = ["Fan", "Fan", "pump", "fan", "a/b", "a/b", "e\u0301", "\u00e9"]
    found = naming.machine_problems(names, [f"line {number}" for number in range(2, 10)])
    assert [text.partition(":")[0] for text in found] == ["line 6", "line 5", "line 9"]
    assert found[1].endswith("expected names that differ in more than case, found 'Fan', 'fan'")


@pytest.mark.parametrize("name", ["a.wav", "id_00/normal/a.wav", "a, b.wav", 'q".wav', "x" * 251 + ".wav", "a:b.wav"])
def test_recordings_that_can_be(name):
    assert naming.file_problem(name) == ""
    assert naming.bare_file_problem(naming.bare_file(name)) == ""


@pytest.mark.parametrize("name", ["", "../a.wav", "/a.wav", "a//b.wav", "a\\b.wav", "a\nb.wav", "x" * 252 + ".wav"])
def test_recordings_that_cannot_be(name):
    assert naming.file_problem(name).startswith("expected ")


def test_what_a_message_shows_is_short_and_printable():
    assert naming.shown("a\nb") == r"'a\nb'"
    assert len(naming.shown("x" * 5000)) < 100
