"""What a team says about itself and its entry. No default names an author: the package is then a demonstration."""

from dataclasses import dataclass

from system.config.keys import File, Natural, Word, key


@dataclass
class AuthorConfig:
    """One author, in the order of display; exactly one author is the corresponding author."""

    first: str = key("", "First name")
    last: str = key("", "Last name")
    email: str = key("", "E-mail address")
    corresponding: bool = key(False, "Whether this is the corresponding author")
    institution: str = key("", "Institution")
    department: str = key("", "Department; empty: none")
    location: str = key("", "City and country")


@dataclass
class ExternalResource:
    """A data set or pre-trained model from outside the challenge that the systems use."""

    name: str = key("", "Name")
    url: str = key("", "Address")


@dataclass
class PackageConfig:
    """Team, texts and declarations of a package. An empty text is written as null where the field allows it."""

    surname: str = key(
        "Wheeltapper",
        "Last name of the corresponding author as it stands in the labels: 1 to 60 letters A-Z and a-z, digits and "
        "hyphens",
    )
    affiliation: str = key("Demo", "Abbreviation of the corresponding author's institute, of the same letters")
    authors: list[AuthorConfig] = key(
        list,
        "Authors of the technical report and the meta files; without them the package is a demonstration, which the "
        "validator refuses",
    )
    title: str = key("", "Title of the technical report; empty: made from what the systems are")
    abstract: str = key("", "Abstract of the technical report; empty: made from what the systems are")
    source_code: str = key("", "Address of the published code; empty: none")
    external_datasets: list[ExternalResource] = key(
        list, "External data and pre-trained models that the program cannot know of, for all systems"
    )
    description: dict[str, Word] = key(
        dict, "Replaces fields of system.description in every meta file; null: not applicable"
    )
    report_pdf: File = key("", "Finished technical report to ship instead of the generated skeleton; empty: none")
    year: Natural = key(0, "Year of the challenge; 0 infers it from the machines")
