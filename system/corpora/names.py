"""The grammar of DCASE Task 2 file names, 2020 to 2026, and of the attributes at their end.

=========  ==========================================================================================
layout     forms (without extension)
=========  ==========================================================================================
id         ``normal_id_00_00000000``, ``anomaly_id_00_00000000``; anonymous ``id_00_00000000`` (2020)
domain     ``section_00_source_train_normal_0000_<attributes>``, ``section_00_target_test_anomaly_0000``;
           anonymous ``section_03_source_test_0000`` (2021)
section    ``section_00_source_train_normal_0000_<attributes>`` (``noAttribute`` where they are hidden);
           anonymous ``section_00_0000``, also written ``section_00_test_0000``; supplemental
           ``section_00_machine_0001_`` and ``section_00_noise_0001_`` (2022 on)
=========  ==========================================================================================

The labelled names of the 2024 RoboticArm lack ``test``: ``section_00_source_normal_0035_...``.
"""

import re
from dataclasses import dataclass
from typing import Literal

from system.audio import EXTENSIONS
from system.errors import WheeltapperError

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
# Keys of two words; every other word at an odd place is a key, the next one its value.
COMPOUND_KEYS = ("mic_pos",)
_GLUED = re.compile(r"([A-Za-z][a-z]{2,})([A-Z]|[0-9]+)")


@dataclass(frozen=True)
class NameFields:
    """What a file name says; empty where it says nothing (the folder may know more).

    ``section`` is the machine id in 2020, ``index`` keeps its leading zeros, ``content`` is ``machine`` or ``noise``
    for supplemental clips. ``attributes`` is the tail as written, empty for ``noAttribute``.
    """

    section: str
    domain: str = ""
    split: str = ""
    label: str = ""
    index: str = ""
    attributes: str = ""
    content: str = ""


def parse_name(file_name: str, layout: Layout | None = None) -> NameFields:
    """Takes a bare file name apart.

    Args:
        file_name: with its extension (.wav, .flac, .ogg).
        layout: family of names; None tries all of them (no name belongs to two readings).

    Raises WheeltapperError for any name outside the grammar.
    """
    stem, extension = split_extension(file_name)
    # Control characters and undecodable bytes would not survive the csv files that carry the name.
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
    """Writes the name that ``parse_name(name, layout)`` reads as ``fields``.

    Raises WheeltapperError where the layout has no name for these fields.
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
        raise WheeltapperError(f"{fields}: expected fields that a {layout} file name can hold")
    return name


def split_extension(file_name: str) -> tuple[str, str]:
    """Stem and extension with its dot (empty where there is none); attributes may hold dots of their own."""
    stem, dot, extension = file_name.rpartition(".")
    return (stem, dot + extension) if dot else (file_name, "")


def strip_no_attribute(attributes: str) -> str:
    """The attributes, empty where they only say that there are none."""
    return "" if attributes.strip("_ ").lower() in ("", NO_ATTRIBUTE.lower()) else attributes


def attribute_class(attributes: str) -> str:
    """The class that an attribute head learns: lower case (2026 writes ``pro_y`` beside ``pro_Y``), empty for none."""
    return strip_no_attribute(attributes.strip()).lower()


def attribute_pairs(attributes: str) -> list[tuple[str, str]]:
    """Keys and values in their order; a key may come twice (``mic_2_mic_1``), a last key may lack its value.

    Reads ``car_A1_spd_1`` and, where every word is a key grown together with its value, ``weight15_BckgF`` (2024).
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
