"""The meta file of one system (``<label>.meta.yaml``): its model, a writer and a strict reader.

Fields as in the Task 2 templates since 2023. Not applicable is ``!!null``; several values of one field are one
text with commas; results are percentages.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from submission import meta_check, results_check
from submission.findings import ERROR, printable
from system.errors import WheeltapperError
from system.files import open_atomic

SUFFIX = ".meta.yaml"


@dataclass(frozen=True)
class Affiliation:
    """Where an author works; ``location`` is "City, Country"."""

    institution: str
    department: str | None = None
    location: str | None = None


@dataclass(frozen=True)
class Author:
    firstname: str
    lastname: str
    email: str
    affiliation: Affiliation
    corresponding: bool = False


@dataclass(frozen=True)
class ExternalDataset:
    """External data or a pre-trained model; both fields are null in the entry that says "none"."""

    name: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Meta:
    """Content of one meta file.

    Args:
        description: fields of ``system.description`` (meta_check.DESCRIPTION names them all).
        total_parameters: sum over all subsystems, encoders included.
        macs: multiply-accumulate operations per clip, None where not counted.
        results: development machine -> {"auc_source", "auc_target", "pauc"}, each in percent.
    """

    label: str
    name: str
    abbreviation: str
    authors: tuple[Author, ...]
    description: Mapping[str, str | int | None]
    total_parameters: int
    macs: int | None = None
    external_datasets: tuple[ExternalDataset, ...] = ()
    source_code: str | None = None
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The nested mapping that a meta file holds, in its order."""
        return {
            "submission": {
                "label": self.label,
                "name": self.name,
                "abbreviation": self.abbreviation,
                "authors": [_author_document(author) for author in self.authors],
            },
            "system": {
                "description": {key: self.description.get(key) for key in meta_check.DESCRIPTION},
                "complexity": {"total_parameters": self.total_parameters, "MACS": self.macs},
                "external_datasets": [
                    {"name": entry.name, "url": entry.url} for entry in self.external_datasets or (ExternalDataset(),)
                ],
                "source_code": self.source_code,
            },
            "results": {
                "development_dataset": {machine: dict(values) for machine, values in self.results.items()},
            },
        }


def write(path: str | os.PathLike, meta: Meta, year: int | None = None, demonstration: bool = False) -> None:
    """Writes a meta file whole or not at all.

    Args:
        path: file to write.
        meta: content.
        year: year of the challenge, None for the newest.
        demonstration: whether authors may be missing.

    Raises:
        WheeltapperError: names the key of every field that is not valid.
    """
    unknown = sorted(set(meta.description) - set(meta_check.DESCRIPTION))
    if unknown:
        raise WheeltapperError(
            f"{path}: system.description: expected only {', '.join(meta_check.DESCRIPTION)}; found {', '.join(unknown)}"
        )
    _refuse_errors(path, meta_check.check(meta.document(), {}, str(path), year=year, rehearsal=demonstration))
    text = dump(meta.document())
    with open_atomic(path) as file:
        file.write(text)


def read(path: str | os.PathLike, year: int | None = None) -> Meta:
    """Reads a meta file; WheeltapperError naming line and key of everything that is wrong. Unknown keys are dropped."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WheeltapperError(f"{path}: expected a meta file, found {error.strerror or error}") from error
    document, lines, problems = meta_check.parse(data)
    if problems:
        raise WheeltapperError(f"{path}: " + "; ".join(f"line {line}: {message}" for line, message in problems))
    _refuse_errors(path, meta_check.check(document, lines, str(path), year=year))
    return _from_document(document)


def dump(document: Mapping[str, Any]) -> str:
    """YAML text in the order of the document, lists indented; None is ``!!null``, as in the challenge's template."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=math.inf
    )


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer in the style of the template."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def process_scalar(self) -> None:
        if isinstance(self.event, yaml.ScalarEvent) and self.event.tag == "tag:yaml.org,2002:null":
            self.write_indicator("!!null", True)
            self.analysis = self.style = None
        else:
            super().process_scalar()

    def represent_text(self, value: str) -> yaml.ScalarNode:
        """Letters that cannot be printed are escaped; PyYAML loses a next-line letter between single quotes."""
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
            raise WheeltapperError(f"meta: expected Unicode text, found {printable(value)!r}")
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


def _author_document(author: Author) -> dict[str, Any]:
    document: dict[str, Any] = {
        "firstname": author.firstname,
        "lastname": author.lastname,
        "email": author.email,
    }
    if author.corresponding:
        document["corresponding"] = True
    document["affiliation"] = {
        "institution": author.affiliation.institution,
        "department": author.affiliation.department,
        "location": author.affiliation.location,
    }
    return document


def _from_document(document: Mapping[str, Any]) -> Meta:
    submission, system = document["submission"], document["system"]
    authors = []
    for entry in submission["authors"]:
        place = entry["affiliation"]
        affiliation = Affiliation(place["institution"], place.get("department"), place.get("location"))
        authors.append(
            Author(entry["firstname"], entry["lastname"], entry["email"], affiliation, bool(entry.get("corresponding")))
        )
    datasets = tuple(
        ExternalDataset(entry.get("name"), entry.get("url"))
        for entry in system["external_datasets"] or ()
        if entry.get("name") or entry.get("url")
    )
    return Meta(
        label=submission["label"],
        name=submission["name"],
        abbreviation=submission["abbreviation"],
        authors=tuple(authors),
        description={key: system["description"].get(key) for key in meta_check.DESCRIPTION},
        total_parameters=system["complexity"]["total_parameters"],
        macs=system["complexity"].get("MACS"),
        external_datasets=datasets,
        source_code=system["source_code"],
        results={
            machine: {key: float(values[key]) for key in results_check.RESULTS if values.get(key) is not None}
            for machine, values in document["results"]["development_dataset"].items()
        },
    )


def _refuse_errors(path: str | os.PathLike, findings: list) -> None:
    errors = [found for found in findings if found.level == ERROR]
    if errors:
        places = [f"line {found.line}: {found.message}" if found.line else found.message for found in errors]
        raise WheeltapperError(printable(f"{path}: " + "; ".join(places)))
