"""Declarations of a team in a configuration: conversion to meta files, and checks."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from submission import meta, pdf_check
from submission.findings import ERROR
from submission.meta_check import DESCRIPTION, LABEL, NO_TEAM, SUBSYSTEMS, check, label_form
from system.config.package import AuthorConfig, PackageConfig
from system.corpora.year_files import known_years
from system.errors import WheeltapperError

NULL = ("null", "!!null")
NAME = re.compile("[A-Za-z0-9-]{1,60}")  # of surname and affiliation, which are parts of file names
# Transliterations (as in passports) of letters that cannot just lose their diacritics.
SPELLED = "ä=ae ö=oe ü=ue ß=ss å=aa æ=ae ø=oe œ=oe ł=l đ=d ð=d þ=th ı=i "
SPELLED += "Ä=Ae Ö=Oe Ü=Ue ẞ=SS Å=Aa Æ=Ae Ø=Oe Œ=Oe Ł=L Đ=D Ð=D Þ=Th"
# Fields of a meta file to the keys of the configuration that set them.
KEYS = (
    (r"submission\.authors\[(\d+)\]\.firstname", r"package.authors.\1.first"),
    (r"submission\.authors\[(\d+)\]\.lastname", r"package.authors.\1.last"),
    (r"submission\.authors\[(\d+)\]\.affiliation\.", r"package.authors.\1."),
    (r"submission\.authors\[(\d+)\]", r"package.authors.\1"),
    (r"submission\.authors", "package.authors"),
    (r"system\.description", "package.description"),
    (r"system\.external_datasets\[(\d+)\]", r"package.external_datasets.\1"),
    (r"system\.source_code", "package.source_code"),
)


def label(config: PackageConfig, index: int) -> str:
    """Label of a system.

    Args:
        config: surname and affiliation.
        index: 1 to 4.

    Raises:
        WheeltapperError: surname or affiliation has other characters than letters, digits and hyphens.
    """
    text = f"{config.surname}_{config.affiliation}_task2_{index}"
    if not LABEL.fullmatch(text):
        raise WheeltapperError(f"package.surname, package.affiliation: expected {label_form()}, found {text!r}")
    return text


def build_meta(
    config: PackageConfig,
    label: str,
    texts: tuple[str, str],
    description: Mapping[str, str | int | None],
    parameters: int,
    macs: int | None,
    results: Mapping[str, Mapping[str, float]],
) -> meta.Meta:
    """Builds the meta file of a system.

    Args:
        config: authors and declarations; ``config.description`` overrides ``description``.
        label: label of the system.
        texts: name and abbreviation.
        description: fields of ``system.description``.
        parameters: see ``meta.Meta``.
        macs: see ``meta.Meta``.
        results: see ``meta.Meta``.
    """
    fields = {key: description.get(key) for key in DESCRIPTION}
    for key, value in config.description.items():
        if value in NULL or not value:
            fields[key] = None
        else:
            fields[key] = int(value) if key == SUBSYSTEMS and value.isdecimal() else value
    return meta.Meta(
        label=label,
        name=texts[0],
        abbreviation=texts[1],
        authors=tuple(_author(author) for author in config.authors),
        description=fields,
        total_parameters=parameters,
        macs=macs,
        external_datasets=tuple(
            meta.ExternalDataset(entry.name or None, entry.url or None) for entry in config.external_datasets
        ),
        source_code=config.source_code or None,
        results=results,
    )


def _author(author: AuthorConfig) -> meta.Author:
    affiliation = meta.Affiliation(author.institution, author.department or None, author.location or None)
    return meta.Author(author.first, author.last, author.email, affiliation, author.corresponding)


def problems(config: PackageConfig, systems: Sequence[tuple[str, str]] = ()) -> Iterator[str]:
    """Checks the declarations of a configuration.

    Args:
        config: the declarations.
        systems: name and abbreviation of each system; empty ones are replaced later and not checked.

    Yields:
        One sentence for each problem, beginning with the key.
    """
    for key in ("surname", "affiliation"):
        yield from _name_problems(f"package.{key}", getattr(config, key))
    if config.authors and f"{config.surname}_{config.affiliation}" == NO_TEAM:
        yield (
            "package.surname, package.affiliation: expected those of the corresponding author in package.authors, "
            f"found the demonstration's {config.surname}, {config.affiliation}"
        )
    yield from _description_problems(config)
    if config.year and config.year not in known_years():
        known = ", ".join(map(str, known_years()))
        yield f"package.year: expected 0, to infer it from the machines, or one of {known}, found {config.year}"
    yield from _report_problems(config)
    sample = build_meta(config, "A_B_task2_1", ("System", "System"), dict.fromkeys(DESCRIPTION, "text"), 1, 1, {})
    subsystems = config.description.get(SUBSYSTEMS) and sample.description[SUBSYSTEMS]
    sample = replace(sample, description={**sample.description, SUBSYSTEMS: subsystems})
    for found in check(sample.document(), {}, "", rehearsal=not config.authors):
        if found.level == ERROR:
            yield from _of_configuration(found.message)
    for number, texts in enumerate(systems):
        for key, text in zip(("name", "abbreviation"), texts, strict=True):
            if text and not text.strip():
                yield f"systems.{number}.{key}: expected text, found only blanks"


def _of_configuration(message: str) -> Iterator[str]:
    for pattern, key in KEYS:
        text, count = re.subn(rf"^{pattern}", key, message)
        if count:
            yield text
            return


def _name_problems(key: str, name: str) -> Iterator[str]:
    if NAME.fullmatch(name):
        return
    spelled = str.maketrans(dict(pair.split("=") for pair in SPELLED.split()))
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", name).translate(spelled))
    words = "".join(letter for letter in plain if not unicodedata.combining(letter))
    proposed = re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")[:60]
    advice = f": write {proposed}" if NAME.fullmatch(proposed) else ""
    yield f"{key}: expected 1 to 60 of the letters A to Z and a to z, digits and hyphens, found {name[:80]!r}{advice}"


def _description_problems(config: PackageConfig) -> Iterator[str]:
    """Checks that all fields of ``package.description`` exist in meta files."""
    for key in config.description:
        if key not in DESCRIPTION:
            near = get_close_matches(key, DESCRIPTION, n=1)
            advice = f": did you mean {near[0]}?" if near else ""
            yield f"package.description.{key}: expected one of {', '.join(DESCRIPTION)}, found {key}{advice}"


def _report_problems(config: PackageConfig) -> Iterator[str]:
    """Checks the technical report that ``package.report_pdf`` names."""
    path = Path(config.report_pdf)
    if config.report_pdf and not path.is_file():
        yield f"package.report_pdf: expected a PDF, found {'a folder' if path.is_dir() else 'nothing'} at {path}"
    elif config.report_pdf and (found := pdf_check.fault(path)):
        yield f"package.report_pdf: {path}: {found[1]}"
