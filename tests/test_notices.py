"""Notices, citation and the pages for contributors agree with the code."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from system import __version__
from system.corpora.faults import CORPORA
from system.encoders.cards import CARDS

ROOT = Path(__file__).resolve().parents[1]
NOTICES = (ROOT / "docs" / "third_party.md").read_text()
# Of the Citation File Format, version 1.2.0.
REQUIRED = {"authors", "cff-version", "message", "title"}
ALLOWED = REQUIRED | {
    *("abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url"),
    *("preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url"),
    "version",
}
PERSON = {"family-names", "given-names", "name-particle", "name-suffix", "alias", "affiliation", "email", "orcid"}
TYPES = {"article", "report", "conference-paper", "generic", "software", "data"}


def rows(section: str) -> list[list[str]]:
    text = NOTICES.split(f"\n## {section}\n")[1].split("\n## ")[0]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return table[2:]


def stated(licence: str | None) -> str:
    return licence or "not stated"


def test_every_card_is_in_the_notices():
    found = {name.strip("`"): (family, licence, source) for name, family, licence, source in rows("Weights")}
    assert found.keys() == CARDS.keys()
    for name, card in CARDS.items():
        family, licence, source = found[name]
        assert (family, licence) == (card.family, stated(card.licence)), name
        assert card.source in source, name


def test_every_data_set_is_in_the_notices():
    found = {name.strip("`"): (licence, source) for name, _, licence, source in rows("Data sets")}
    for name, corpus in CORPORA.items():
        assert found.pop(name) == (stated(corpus.licence), corpus.source)
    for path in (ROOT / "system" / "corpora" / "years").glob("*.yaml"):
        year = yaml.safe_load(path.read_text())
        assert found.pop(f"dcase{year['year']}")[0] == year["licence"]
    assert not found


def test_every_recording_that_the_default_weights_learned_from_is_named():
    for name, address in CARDS["default"].learned.items():
        assert address in NOTICES, name


def test_every_dependency_is_in_the_notices():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", text)[0] for text in project["dependencies"]}
    listed = {name.split(" ")[0] for row in rows("Libraries") for name in row[0].split(", ")}
    assert needed == listed


def test_the_citation_file_is_valid():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert REQUIRED <= found.keys() <= ALLOWED
    assert found["cff-version"] == "1.2.0"
    assert str(found["version"]) == __version__
    assert found["type"] == "software"
    assert len(found["references"]) == 5
    for entry in (found, *found["references"]):
        assert entry["title"]
        assert entry["type"] in TYPES
        assert entry["authors"]
        for author in entry["authors"]:
            assert set(author) == {"name"} or set(author) <= PERSON
    for reference in found["references"]:
        assert isinstance(reference["year"], int)
        assert reference.get("url", "").startswith("https://arxiv.org/abs/") or reference["type"] == "report"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_files_and_commands_that_the_pages_name_exist(page):
    text = (ROOT / page).read_text()
    paths = re.findall(r"`((?:\.?/?tools|system|submission|docs|recipes|tests|\.github)/[\w./-]+)`?", text)
    paths += re.findall(r"python ([\w./]+\.py)", text)
    assert len(paths) > 10
    missing = [path for path in paths if not re.search("NAME|YEAR", path) and not (ROOT / path).exists()]
    assert not [path for path in missing if not (ROOT / path.rstrip("/")).exists()]
    from system.bin import COMMANDS

    assert set(re.findall(r"wheeltapper ([a-z-]+)", text)) <= COMMANDS.keys()
