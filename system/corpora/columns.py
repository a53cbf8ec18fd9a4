"""Columns and words of a table of recordings: the names that each column of a manifest may have, and its values.

Upper and lower case, spaces, hyphens and underscores make no difference.
"""

import difflib
import re
from collections.abc import Iterable

NAMES = {
    "file": ("file", "filename", "file_name", "wav"),
    "path": ("path", "filepath", "file_path", "audio_path", "location"),
    "machine": ("machine", "machine_name", "machine_type"),
    "section": ("section", "section_id", "machine_id"),
    "split": ("split", "set", "subset", "partition"),
    "label": ("label", "labels", "state", "status"),
    "anomaly": ("anomaly", "is_anomaly", "anomalous", "is_anomalous"),
    "domain": ("domain",),
    "attributes": ("attributes", "attribute"),
    "group": ("group", "group_id"),
    "corpus": ("corpus", "dataset"),
    "channels": ("channels", "num_channels"),
    "rate": ("rate", "sample_rate", "sampling_rate", "samplerate", "sr", "fs"),
    "samples": ("samples", "num_samples"),
    "digest": ("digest",),
}
ATTRIBUTE = "attr_"  # beginning of the name of a column whose values are an attribute
WORDS = {
    "split": {
        "train": ("train", "training"),
        "test": ("test", "testing", "eval", "evaluation"),
        "supplemental": ("supplemental", "supplementary"),
    },
    "label": {
        "normal": ("normal", "ok", "good", "healthy", "0"),
        "anomaly": ("anomaly", "anomalous", "abnormal", "ng", "nok", "not ok", "bad", "faulty", "fault", "defect", "1"),
        "": ("", "unknown", "none", "na", "n/a", "nan", "?", "-"),
    },
    "anomaly": {
        "normal": ("0", "no", "false", "normal"),
        "anomaly": ("1", "yes", "true", "anomaly", "anomalous", "abnormal"),
        "": ("", "unknown", "none", "na", "n/a", "nan", "?", "-"),
    },
    "domain": {
        "source": ("source", "src"),
        "target": ("target", "tgt"),
        "": ("", "unknown", "none", "na", "n/a", "nan", "?", "-"),
    },
}
MISSING = {"nan", "<na>", "null", "#n/a", "#na", "#ref!", "#value!", "#name?", "#div/0!"}  # and NA, of R
NUMBER = re.compile(r"([0-9]+)(?:[.,]0+)?")  # spreadsheets and pandas write 16000.0, with a decimal comma 16000,0
SECTION = re.compile(r"(?:section|id)?[ _-]?([0-9]{1,2})(?:[.,]0+)?", re.IGNORECASE)

_KNOWN = {re.sub("[ _-]", "", name): column for column, names in NAMES.items() for name in names}
_MEANT = {kind: {word: value for value, words in by.items() for word in words} for kind, by in WORDS.items()}


def column_of(name: str) -> str:
    """The column of a manifest that a table's column is, ``attr_<key>`` for an attribute, or empty."""
    plain = name.strip().casefold()
    if re.sub("[ _-]", "", plain) in _KNOWN:
        return _KNOWN[re.sub("[ _-]", "", plain)]
    key = attribute_key(name)
    return ATTRIBUTE + key if key else ""


def attribute_key(name: str) -> str:
    """Key of the attribute that a column ``attr_<key>`` holds; empty for other columns."""
    plain = name.strip()
    return written(plain[len(ATTRIBUTE) :]) if plain.casefold().startswith(ATTRIBUTE) else ""


def written(text: str) -> str:
    """Key or value of an attribute as file names and manifests have it: without _, which separates them."""
    return re.sub(r"[\s_]+", "-", text.strip()).strip("-")


def value_of(kind: str, word: str) -> str | None:
    """The value that a word of a column ``split``, ``label``, ``anomaly`` or ``domain`` stands for; None if unknown."""
    if re.fullmatch(r"[-+][0-9.,]+", word.strip()):  # -1 and 1 are normal and anomaly in one program, and not in others
        return None
    plain = " ".join(word.casefold().replace("_", " ").replace("-", " ").split()) or word.strip()
    if number := NUMBER.fullmatch(plain):
        plain = number[1]
    return _MEANT[kind].get(plain)


def is_label(name: str) -> bool:
    """Whether a column is called label, in which 1 is an anomaly; a state or status of 1 may be a good one."""
    return name.strip().casefold().startswith("label")


def is_missing(text: str) -> bool:
    """Whether a cell is what programs write for none."""
    return text == "NA" or text.casefold() in MISSING


def expected_words(kind: str) -> str:
    """The words of a column, for messages."""
    parts = (f"{value or '(empty)'} ({', '.join(filter(None, words))})" for value, words in WORDS[kind].items())
    return ", ".join(parts)


def nearest(name: str, names: Iterable[str] = ()) -> str:
    """The known name that resembles a column's, or empty."""
    plain = re.sub("[ _-]", "", name.casefold())
    if "normal" in plain.replace("abnormal", ""):  # resembles anomaly, its opposite
        return ""
    known = [*names, *(name for each in NAMES.values() for name in each)]
    near = difflib.get_close_matches(plain, known, 1, 0.75)
    return near[0] if near else ""
