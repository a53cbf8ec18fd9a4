"""What a team says about itself and its entry; every default makes a valid rehearsal package."""

from dataclasses import dataclass, field


@dataclass
class AuthorConfig:
    """One author, in the order of display; exactly one of them is the corresponding author."""

    first: str = "Rehearsal"
    last: str = "Wheeltapper"
    email: str = "rehearsal@example.org"
    corresponding: bool = False
    institution: str = "Demonstration Institute"
    department: str = ""
    location: str = "Example City, Nowhere"


@dataclass
class ExternalResource:
    """A data set or pre-trained model from outside the challenge that the systems use."""

    name: str = ""
    url: str = ""


def _one_author() -> list[AuthorConfig]:
    return [AuthorConfig(corresponding=True)]


@dataclass
class PackageConfig:
    """Team, texts and declarations of a package. An empty text is written as null where the field allows it.

    Args:
        surname: last name of the corresponding author, as the labels carry it: letters, digits and hyphens.
        affiliation: abbreviation of that author's institute, same letters.
        authors: of the technical report and meta files.
        title, abstract: of the technical report; empty: made from what the systems are.
        source_code: address of the published code, empty for none.
        external_datasets: external data and pre-trained models, for every system.
        description: replaces fields of ``system.description`` in every meta file ("null" for not applicable).
        report_pdf: a finished technical report to ship in place of the generated skeleton.
        year: year of the challenge, 0 to infer it from the machines.
    """

    surname: str = "Wheeltapper"
    affiliation: str = "Demo"
    authors: list[AuthorConfig] = field(default_factory=_one_author)
    title: str = ""
    abstract: str = ""
    source_code: str = ""
    external_datasets: list[ExternalResource] = field(default_factory=list)
    description: dict[str, str] = field(default_factory=dict)
    report_pdf: str = ""
    year: int = 0
