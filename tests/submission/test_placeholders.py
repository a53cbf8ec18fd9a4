"""Placeholders of forms are told from real names, addresses and places."""

import pytest

from submission import placeholders


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("Rehearsal", "Wheeltapper"), ("Jane", "Doe"), ("JOHN", "doe"), ("J.", "Doe"), ("Max", "Mustermann"),
        ("First name", "Last name"), ("Firstname", "Lastname"), ("Ada", "Surname"), ("Your Name", "Miller"),
        ("", "TODO"), ("Ada", "XXX"), ("Foo", "Bar"), ("Anonymous", "Author"), ("ＪＡＮＥ", "ＤＯＥ"),
        ("Author", "One"), ("Vorname", "Nachname"), ("Prénom", "Nom"), ("名", "姓"), ("Имя", "Фамилия"),
        ("-", "-"), ("[First]", "[Last]"), ("string", "string"), ("To be", "announced"), ("Kenji", "TODO"),
        ("Test", "Foo"), ("Bar", "Foo"), ("N/A", "N/A"),
    ],
)  # fmt: skip
def test_names_of_nobody(first, last):
    assert placeholders.is_name(first, last)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("Ada", "Miller"), ("Zoë", "Łoś"), ("Sheng", "Na"), ("Mary", "Doerr"), ("Peter", "Doe-Smith"), ("Shai", "Bar"),
        ("数学", "王"), ("Tom", "Author-Brown"), ("Bo", "Testa"), ("John", "Nameless"), ("Max", "Muster"), ("", ""),
        ("Mee Har", "Foo"), ("Kenji", "Todo"), ("Ann", "Test"), ("Xuan", "E"), ("Y.", "O"), ("U", "Nu"), ("Nom", "Ng"),
        ("María José", "García-López"), ("Ш.", "Иванов"), ("Na", "Na"),
    ],
)  # fmt: skip
def test_names_of_people(first, last):
    assert not placeholders.is_name(first, last)


def test_last_names_that_forms_use_are_doubtful():
    assert placeholders.is_doubtful_name("Mee Har", "Foo")
    assert placeholders.is_doubtful_name("Ann", "Null")
    assert not placeholders.is_doubtful_name("Foo", "Null")
    assert not placeholders.is_doubtful_name("Ann", "Miller")


@pytest.mark.parametrize(
    "text",
    [
        "ada@example.org", "ada@example.com", "a@lab.example.net", "a@x.invalid", "a@example", "root@localhost",
        "your.name@tum.de", "firstname.lastname@mit.edu", "jane.doe@kth.se", "rehearsal@example.org", "foo@bar.de",
        "someone@university.edu", "me@your-institute.org", "name@institution.edu", "A@EXAMPLE.ORG",
        "youremail@gmail.com", "vorname.nachname@uni.de", "prenom.nom@univ.fr", "a@b.com", "dummy@dummy.com",
        "no-reply@kth.se", "email@address.com", "123@123.com",
    ],
)  # fmt: skip
def test_addresses_of_nobody(text):
    assert placeholders.is_address(text)


@pytest.mark.parametrize(
    "text",
    ["ada@ex-lab.org", "bo@tum.de", "a.miller@testo.com", "first@exampleworks.de", "m@kyoto-u.ac.jp", "n@localhost.ai",
     "surya@iisc.ac.in", "namee@kaist.ac.kr", "fooks@mit.edu", "no at sign",
     "foo@nus.edu.sg", "todo@nagoya-u.ac.jp", "bo@mywit.com", "me@me.com", "s1@my.fsu.edu"],
)  # fmt: skip
def test_addresses_of_people(text):
    assert not placeholders.is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "Demonstration Institute", "Example City, Nowhere", "Example University", "University of Nowhere",
        "Institution", "City, Country", "Your institute", "Name of university", "Department", "My Company", "TBD",
        "xxx", "Anytown, USA", "Nowhere", "<institution>", "N/A", "-", "University of X", "XYZ University",
        "Universität", "Ort, Land", "Ville, Pays", "大学", "某大学", "Dummy University",
        "To be announced", "City, State, Country",
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
        "City University", "Todo Laboratory, Kyoto University", "X Corp", "Université de Lyon", "École 42",
    ],
)  # fmt: skip
def test_places(text):
    assert not placeholders.is_place(text)
