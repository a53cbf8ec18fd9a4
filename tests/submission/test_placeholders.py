"""Placeholders of forms are told from real names, addresses and places."""

import pytest

from submission import placeholders


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("Rehearsal", "Wheeltapper"), ("Jane", "Doe"), ("JOHN", "doe"), ("J.", "Doe"), ("Max", "Mustermann"),
        ("First name", "Last name"), ("Firstname", "Lastname"), ("Ada", "Surname"), ("Your Name", "Miller"),
        ("", "TODO"), ("Ada", "XXX"), ("Foo", "Bar"), ("Anonymous", "Author"), ("ＪＡＮＥ", "ＤＯＥ"),
        ("Author", "One"),
    ],
)  # fmt: skip
def test_names_of_nobody(first, last):
    assert placeholders.is_name(first, last)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("Ada", "Miller"), ("Zoë", "Łoś"), ("Sheng", "Na"), ("Mary", "Doerr"), ("Peter", "Doe-Smith"), ("Shai", "Bar"),
        ("数学", "王"), ("Tom", "Author-Brown"), ("Bo", "Testa"), ("John", "Nameless"), ("Max", "Muster"), ("", ""),
    ],
)  # fmt: skip
def test_names_of_people(first, last):
    assert not placeholders.is_name(first, last)


@pytest.mark.parametrize(
    "text",
    [
        "ada@example.org", "ada@example.com", "a@lab.example.net", "a@x.invalid", "a@example", "root@localhost",
        "your.name@tum.de", "firstname.lastname@mit.edu", "jane.doe@kth.se", "rehearsal@example.org", "foo@bar.de",
        "someone@university.edu", "me@your-institute.org", "name@institution.edu", "A@EXAMPLE.ORG",
        "youremail@gmail.com",
    ],
)  # fmt: skip
def test_addresses_of_nobody(text):
    assert placeholders.is_address(text)


@pytest.mark.parametrize(
    "text",
    ["ada@ex-lab.org", "bo@tum.de", "a.miller@testo.com", "first@exampleworks.de", "m@kyoto-u.ac.jp", "n@localhost.ai",
     "surya@iisc.ac.in", "namee@kaist.ac.kr", "fooks@mit.edu", "no at sign"],
)  # fmt: skip
def test_addresses_of_people(text):
    assert not placeholders.is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "Demonstration Institute", "Example City, Nowhere", "Example University", "University of Nowhere",
        "Institution", "City, Country", "Your institute", "Name of university", "Department", "My Company", "TBD",
        "xxx", "Anytown, USA", "Nowhere", "<institution>",
    ],
)  # fmt: skip
def test_places_that_are_none(text):
    assert placeholders.is_place(text)


@pytest.mark.parametrize(
    "text",
    [
        "MIT", "NCSR Demokritos", "University of Oslo", "Kyoto University", "Fraunhofer Demonstration Centre",
        "Oslo, Norway", "Mexico City, Mexico", "Cape Town, South Africa", "Acoustics Laboratory", "", "数学所",
        "北京, China", "Department of Signal Processing", "Institute of Sound", "Test and Measurement Institute",
    ],
)  # fmt: skip
def test_places(text):
    assert not placeholders.is_place(text)
