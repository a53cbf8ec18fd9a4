"""Parser of DCASE Task 2 file names, 2020 to 2026, and of the attributes at their end.

=========  ==========================================================================================
layout     forms (without extension)
=========  ==========================================================================================
id         ``normal_id_00_00000000``, ``anomaly_id_00_00000000``; anonymous ``id_00_00000000`` (2020)
domain     ``section_00_source_train_normal_0000_<attributes>``, ``section_00_target_test_anomaly_0000``;
           anonymous ``section_03_source_test_0000`` (2021)
section    ``section_00_source_train_normal_0000_<attributes>`` (``noAttribute`` if they are hidden);
           anonymous ``section_00_0000``, also written ``section_00_test_0000``; supplemental
           ``section_00_machine_0001_`` and ``section_00_noise_0001_`` (2022 on)
=========  ==========================================================================================

The labelled names of the 2024 RoboticArm lack ``test``: ``section_00_source_normal_0035_...``.
"""

import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from system.audio import EXTENSIONS
from system.errors import WheeltapperError
from system.files import is_text, printable
from system.manifest import Clip

log = logging.getLogger(__name__)

SHOWN = 3  # names of ignored recordings in a warning

Layout = Literal["id", "domain", "section"]

_HEAD = r"section_(?P<section>[0-9]{2})_"
_INDEX = r"(?P<index>[0-9]+)"
_TAIL = r"(?:_(?P<attributes>.*))?"
_DOMAIN = r"(?P<domain>source|target)_"
_LABELLED = re.compile(rf"{_HEAD}{_DOMAIN}(?:(?P<split>train|test)_)?(?P<label>normal|anomaly)_{_INDEX}{_TAIL}")
FORMS: dict[str, tuple[re.Pattern, ...]] = {
    "id": (re.compile(rf"(?:(?P<label>normal|anomaly)_)?id_(?P<section>[0-9]{{2}})_{_INDEX}"),),
    "domain": (_LABELLED, re.compile(rf"{_HEAD}{_DOMAIN}(?P<split>test)_{_INDEX}")),
    "section": (
        _LABELLED,
        re.compile(rf"{_HEAD}(?:(?P<split>test)_)?{_INDEX}"),
        re.compile(rf"{_HEAD}(?P<content>machine|noise)_{_INDEX}{_TAIL}"),
    ),
}
NO_ATTRIBUTE = "noAttribute"
# Keys of two words. Otherwise keys and values alternate, one word each.
COMPOUND_KEYS = ("mic_pos",)
_GLUED = re.compile(r"([A-Za-z][a-z]{2,})([A-Z]|[0-9]+)")


@dataclass(frozen=True)
class NameFields:
    """Fields of a file name. Fields that it does not contain are empty.

    Args:
        section: section, or machine id in 2020.
        domain: ``source`` or ``target``.
        split: ``train`` or ``test``.
        label: ``normal`` or ``anomaly``.
        index: number with its leading zeros.
        attributes: end of the name as written, empty for ``noAttribute``.
        content: ``machine`` or ``noise`` for supplemental clips.
    """

    section: str
    domain: str = ""
    split: str = ""
    label: str = ""
    index: str = ""
    attributes: str = ""
    content: str = ""


def parse_name(file_name: str, layout: Layout | None = None) -> NameFields:
    """Parses a file name.

    Args:
        file_name: name without folder, with an extension of ``audio.EXTENSIONS``.
        layout: form of the name; None to try all forms, which are unambiguous.

    Returns:
        The fields of the name.

    Raises:
        WheeltapperError: not a DCASE file name.

    Example:
        >>> parse_name("section_00_source_train_normal_0000_spd_1.wav").attributes
        'spd_1'
    """
    stem, extension = split_extension(file_name)
    # Control characters and undecodable bytes cannot be stored in the csv files with the name.
    if extension.lower() in EXTENSIONS and stem.isprintable():
        for name in FORMS if layout is None else (layout,):
            for form in FORMS[name]:
                match = form.fullmatch(stem)
                if match and "/" not in stem and "\\" not in stem:
                    fields = {key: value or "" for key, value in match.groupdict().items()}
                    fields["attributes"] = strip_no_attribute(fields.get("attributes", ""))
                    return NameFields(**fields)
    example = "normal_id_00_00000000.wav" if layout == "id" else "section_00_source_train_normal_0000_<attributes>.wav"
    raise WheeltapperError(f"{file_name!r}: expected a DCASE file name such as {example}")


def format_name(fields: NameFields, layout: Layout = "section", extension: str = ".wav") -> str:
    """Formats a file name; inverse of ``parse_name``.

    Args:
        fields: fields of the name.
        layout: form of the name.
        extension: extension with its dot.

    Raises:
        WheeltapperError: the layout has no name with these fields.
    """
    if layout == "id":
        words = [fields.label, "id", fields.section, fields.index]
    else:
        words = ["section", fields.section, fields.domain, fields.content, fields.split, fields.label, fields.index]
    stem = "_".join(word for word in words if word)
    if fields.content or fields.attributes:
        stem += f"_{fields.attributes}"
    elif fields.label and layout == "section":
        stem += f"_{NO_ATTRIBUTE}"
    name = stem + extension
    try:
        same = parse_name(name, layout) == fields
    except WheeltapperError:
        same = False
    if not same:
        raise WheeltapperError(f"{fields}: expected fields of a {layout} file name")
    return name


def split_extension(file_name: str) -> tuple[str, str]:
    """Splits a name into stem and extension (with its dot, or empty); attributes may contain dots too."""
    stem, dot, extension = file_name.rpartition(".")
    return (stem, dot + extension) if dot else (file_name, "")


def composed(text: str) -> str:
    """Text in which accents are parts of their letters (NFC); Macs store file names with accents apart."""
    return unicodedata.normalize("NFC", text)


def strip_no_attribute(attributes: str) -> str:
    """Returns the attributes, or an empty text for ``noAttribute``."""
    return "" if attributes.strip("_ ").lower() in ("", NO_ATTRIBUTE.lower()) else attributes


def attribute_class(attributes: str) -> str:
    """Class label for an attribute head, empty for none; lower case, since 2026 has both ``pro_y`` and ``pro_Y``."""
    return strip_no_attribute(attributes.strip()).lower()


def attribute_pairs(attributes: str) -> list[tuple[str, str]]:
    """Splits attributes into (key, value) pairs, in order.

    Keys may repeat (``mic_2_mic_1``), and the last key may lack a value.

    Args:
        attributes: such as ``car_A1_spd_1``, or ``weight15_BckgF`` (2024), where each word is a key and its value.
    """
    words = strip_no_attribute(attributes).split("_")
    if words == [""]:
        return []
    glued = [match for word in words if (match := _GLUED.fullmatch(word))]
    if len(glued) == len(words):
        return [(match[1], match[2]) for match in glued]
    pairs = []
    position = 0
    while position < len(words):
        width = 2 if "_".join(words[position : position + 2]).lower() in COMPOUND_KEYS else 1
        key = "_".join(words[position : position + width])
        value = words[position + width] if position + width < len(words) else ""
        pairs.append((key, value))
        position += width + 1
    return pairs


def is_name(file_name: str) -> bool:
    """Whether a file is named as the challenge names them."""
    try:
        parse_name(file_name)
    except WheeltapperError:
        return False
    return True


def with_text_names(
    paths: Iterable[Path], folder: Path, ours: Callable[[str], bool] = lambda file_name: True
) -> list[Path]:
    """The files whose names are UTF-8; a warning counts and names the others, which no table can list.

    Args:
        paths: files below ``folder``.
        folder: for the warning.
        ours: whether a name, its odd bytes replaced, is one to ignore; others are kept, to be refused.
    """
    kept: list[Path] = []
    others: list[Path] = []
    for path in paths:
        odd = not is_text(str(path.relative_to(folder))) and ours(os.fsencode(path.name).decode("utf-8", "replace"))
        (others if odd else kept).append(path)
    if others:
        log.warning(
            "%s: ignored %d recording%s with a name that is not UTF-8: rename %s",
            folder, len(others), "s" * (len(others) > 1), ", ".join(printable(path.name) for path in others[:SHOWN]),
        )  # fmt: skip
    return kept


def contradictions(clip: Clip) -> list[str]:
    """What the name of a recording says otherwise than its row of a manifest; names of other patterns say nothing."""
    try:
        fields = parse_name(clip.file)
    except WheeltapperError:
        return []
    names = ["split", "label", "domain", *(["section"] if clip.file.startswith("section_") else [])]
    return [
        f"{name}: expected {getattr(fields, name)} as the name says, found {getattr(clip, name) or 'none'}"
        for name in names
        if getattr(fields, name) not in ("", getattr(clip, name))
    ]
