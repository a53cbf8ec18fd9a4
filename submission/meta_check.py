"""Checks of a meta file: safe parsing, then every field; each finding names its key path."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from submission import placeholders
from submission.checker import Checker, join
from submission.findings import Finding, shorten
from submission.results_check import check_results

LABEL = re.compile(r"[A-Za-z0-9-]+_[A-Za-z0-9-]+_task2_[1-4]")
# A real file has about 5 kB; PyYAML already needs seconds for a malicious one of this size.
MAX_BYTES = 1 << 16
ABBREVIATION_LETTERS = 10
NO_AUTHORS = (
    "submission.authors: expected a list of at least one author, found none: a DEMONSTRATION, not a submission "
    "(package.authors of a configuration names them)"
)
# The team of a configuration that names none.
NO_TEAM = "Wheeltapper_Demo"
# Numbers that YAML 1.1 and 1.2 read alike: no underscores, other bases, or minutes and seconds.
_NUMBER = re.compile(
    r"[-+]?(?:0|[1-9][0-9]*|[0-9]*\.[0-9]+|[0-9]+\.)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|nan)", re.IGNORECASE
)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# An address alone, whose domain ends in letters.
_EMAIL = re.compile(r"[^@\s<>:;,()]+@(?:[^@\s<>:;,().]+\.)+(?:[^\W\d_]{2,}|xn--[a-z0-9-]+)", re.IGNORECASE)
# Field of system.description -> (may be null, first year that requires it).
DESCRIPTION: dict[str, tuple[bool, int]] = {
    "input_sampling_rate": (False, 2020),
    "data_augmentation": (True, 2020),
    "front_end": (True, 2020),
    "acoustic_features": (False, 2020),
    "embeddings": (True, 2020),
    "machine_learning_method": (False, 2020),
    "aggregation_method": (True, 2020),
    "domain_adaptation_method": (True, 2021),
    "domain_generalization_method": (True, 2022),
    "ensemble_method_subsystem_count": (True, 2020),
    "decision_making": (True, 2020),
    "attribute_usage": (True, 2025),
    "external_data_usage": (True, 2020),
    "development_data_usage": (False, 2020),
}
SUBSYSTEMS = "ensemble_method_subsystem_count"


def parse(data: bytes) -> tuple[Any, dict[str, int], list[tuple[int, str]]]:
    """Parses a meta file. Never raises, whatever the content.

    Args:
        data: content of the file.

    Returns:
        The document (None if it cannot be parsed), key path to line, and problems as (line, message).
    """
    if len(data) > MAX_BYTES:
        return None, {}, [(0, f"expected a meta file of at most {MAX_BYTES} bytes, found {len(data)}")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, {}, [(line, f"expected UTF-8 text, found the byte 0x{data[error.start]:02x}")]
    problems = [
        (number, "expected spaces only, found a tab (YAML forbids tabs as indentation)")
        for number, line in enumerate(text.split("\n"), 1)
        if "\t" in line
    ]
    lines: dict[str, int] = {}
    try:
        # Tabs are reported above and read as spaces, so that other problems are found too.
        loader = yaml.SafeLoader(text.replace("\t", "  "))
        node = loader.get_single_node()
        if node is not None:
            found = _walk(node, lines)
            problems += found or _odd_numbers(node)
            if not found:
                return loader.construct_document(node), lines, problems
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if not problems:
            problems.append(((mark.line + 1) if mark else 0, f"expected YAML: {error.problem or error.context}"))
    except yaml.YAMLError as error:
        problems.append((0, f"expected YAML: {str(error).splitlines()[0]}"))
    except RecursionError:
        problems.append((0, "expected a meta file, found collections nested hundreds of levels deep"))
    except Exception as error:  # PyYAML raises errors of any kind for tags such as "!!int" on a text.
        problems.append((0, f"expected YAML values, found one that cannot be read ({type(error).__name__}: {error})"))
    return None, lines, problems


def _walk(root: yaml.Node, lines: dict[str, int]) -> list[tuple[int, str]]:
    """Records the line of each key path; reports repeated keys and aliases, by which a small file can fill memory."""
    problems: list[tuple[int, str]] = []
    seen: set[int] = set()
    waiting: list[tuple[yaml.Node, str]] = [(root, "")]
    while waiting:
        node, path = waiting.pop()
        line = node.start_mark.line + 1
        if id(node) in seen:
            problems.append((line, "expected plain values, found an anchor that is used again (&name, *name)"))
            continue
        seen.add(id(node))
        lines.setdefault(path, line)
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{path}[{index}]") for index, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else "?"
                place = join(path, name)
                if name in keys:
                    problems.append((key.start_mark.line + 1, f"{place}: expected once, found a second time"))
                keys.add(name)
                lines[place] = key.start_mark.line + 1
                waiting.append((value, place))
    return sorted(problems)


def _odd_numbers(root: yaml.Node) -> list[tuple[int, str]]:
    """Numbers in a form that programs read differently; keys may hold themselves."""
    problems: list[tuple[int, str]] = []
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif node.tag in _NUMBERS and not _NUMBER.fullmatch(node.value):
            message = f"expected a number in decimal digits alone (a text in quotes), found {shorten(node.value)}"
            problems.append((node.start_mark.line + 1, message))
    return sorted(problems)


def check(
    document: Any,
    lines: Mapping[str, int],
    where: str,
    label: str | None = None,
    year: int | None = None,
    rehearsal: bool = False,
    official: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Checks the fields of a parsed meta file.

    Args:
        document: the document as returned by ``parse``.
        lines: key path to line, as returned by ``parse``; may be empty.
        where: name of the file in the findings.
        label: label of the system's folder, None to skip the comparison.
        year: year of the challenge, None for the newest.
        rehearsal: whether the package cannot be a submission anyway, so that authors may be missing.
        official: development machines of that year.

    Returns:
        Errors, then warnings.
    """
    checker = Checker(lines, where, year or 9999)
    top = checker.mapping(document, "", ("submission", "system", "results"))
    if top is None:
        return checker.collector.sorted()
    if "submission" in top:
        _check_submission(checker, top["submission"], label, rehearsal)
    if "system" in top:
        _check_system(checker, top["system"])
    if "results" in top:
        check_results(checker, top["results"], official)
    return checker.collector.sorted()


def _check_submission(checker: Checker, value: Any, label: str | None, rehearsal: bool) -> None:
    path = "submission"
    mapping = checker.mapping(value, path, ("label", "name", "abbreviation", "authors"))
    if mapping is None:
        return
    found = checker.text(mapping, path, "label")
    if found is not None:
        if label is not None and found != label:
            checker.error("submission.label", f"expected {label} like the folder, found {shorten(found)}")
        elif not LABEL.fullmatch(found):
            checker.error("submission.label", f"expected {label_form()}, found {shorten(found)}")
    checker.text(mapping, path, "name")
    short = checker.text(mapping, path, "abbreviation")
    if short is not None and len(short) > ABBREVIATION_LETTERS:
        checker.warning(
            "submission.abbreviation", f"expected at most {ABBREVIATION_LETTERS} characters, found {len(short)}"
        )
    if "authors" in mapping:
        _check_authors(checker, mapping["authors"], rehearsal)
        if mapping["authors"] and isinstance(found, str) and found.startswith(f"{NO_TEAM}_"):
            checker.error(f"{path}.label", f"expected the label of your team, found a demonstration's, {found}")


def _check_authors(checker: Checker, authors: Any, rehearsal: bool) -> None:
    path = "submission.authors"
    if authors in (None, []):
        (checker.warning if rehearsal else checker.error)("submission.authors", NO_AUTHORS.partition(": ")[2])
        return
    if not isinstance(authors, list) or not authors:
        checker.error(path, f"expected a list of at least one author, found {shorten(authors or None)}")
        return
    corresponding = 0
    for index, author in enumerate(authors):
        place = f"{path}[{index}]"
        mapping = checker.mapping(author, place, ("firstname", "lastname", "email", "affiliation"), ("corresponding",))
        if mapping is None:
            continue
        first, last = checker.text(mapping, place, "firstname"), checker.text(mapping, place, "lastname")
        if placeholders.is_name(first or "", last or ""):
            checker.error(place, f"expected the author's own name, found the placeholder {shorten(f'{first} {last}')}")
        elif placeholders.is_doubtful_name(first or "", last or ""):
            problem = f"expected the author's own name, found {shorten(last)}, a word of forms: is it right?"
            checker.warning(f"{place}.lastname", problem)
        email = checker.text(mapping, place, "email")
        if email is not None and not _EMAIL.fullmatch(email):
            checker.warning(f"{place}.email", f"expected an address like name@example.org, found {shorten(email)}")
        elif email is not None and placeholders.is_address(email):
            problem = f"expected the author's own address, found the placeholder {shorten(email)}"
            checker.error(f"{place}.email", problem)
        flag = mapping.get("corresponding", False)
        if flag is not None and not isinstance(flag, bool):
            checker.error(f"{place}.corresponding", f"expected true or no such key, found {shorten(flag)}")
        corresponding += flag is True
        if "affiliation" in mapping:
            _check_affiliation(checker, mapping["affiliation"], f"{place}.affiliation")
    if corresponding != 1:
        checker.error(path, f"expected exactly one author with corresponding: true, found {corresponding}")


def _check_affiliation(checker: Checker, value: Any, path: str) -> None:
    mapping = checker.mapping(value, path, ("institution",), ("department", "location"))
    if mapping is None:
        return
    checker.text(mapping, path, "institution")
    checker.text(mapping, path, "department", may_be_null=True, missing="warning")
    if checker.text(mapping, path, "location", missing="warning") is None and "location" not in mapping:
        checker.warning(f"{path}.location", 'expected "City, Country", found no such key')
    for key, value in mapping.items():
        if isinstance(value, str) and placeholders.is_place(value):
            checker.error(join(path, key), f"expected the author's own {key}, found the placeholder {shorten(value)}")


def _check_system(checker: Checker, value: Any) -> None:
    path = "system"
    mapping = checker.mapping(value, path, ("description", "complexity", "external_datasets", "source_code"))
    if mapping is None:
        return
    usage = None
    if "description" in mapping:
        usage = _check_description(checker, mapping["description"])
    if "complexity" in mapping:
        _check_complexity(checker, mapping["complexity"])
    if "external_datasets" in mapping:
        count = _check_datasets(checker, mapping["external_datasets"])
        if count and isinstance(mapping.get("description"), dict) and usage is None:
            checker.warning(
                "system.description.external_data_usage", f"expected how the {count} external_datasets are used"
            )
        if usage is not None and usage.strip().lower() not in ("none", "no", "-") and count == 0:
            checker.warning("system.external_datasets", f"expected what external_data_usage ({shorten(usage)}) names")
    url = checker.text(mapping, path, "source_code", may_be_null=True)
    if url is not None and not re.match(r"https?://", url):
        checker.warning("system.source_code", f"expected an address (https://...) or !!null, found {shorten(url)}")
    elif url is not None and placeholders.is_url(url):
        checker.warning(
            "system.source_code", f"expected the address of your code, found the placeholder {shorten(url)}"
        )


def _check_description(checker: Checker, value: Any) -> str | None:
    path = "system.description"
    required = [key for key, (_, since) in DESCRIPTION.items() if since <= checker.year]
    mapping = checker.mapping(value, path, required, DESCRIPTION)
    if mapping is None:
        return None
    for key, (may_be_null, _) in DESCRIPTION.items():
        if key != SUBSYSTEMS:
            checker.text(mapping, path, key, may_be_null=may_be_null, missing="warning")
    count = mapping.get(SUBSYSTEMS)
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        checker.error(f"{path}.{SUBSYSTEMS}", f"expected a positive integer or !!null, found {shorten(count)}")
    usage = mapping.get("external_data_usage")
    return usage if isinstance(usage, str) and usage.strip() else None


def _check_complexity(checker: Checker, value: Any) -> None:
    path = "system.complexity"
    mapping = checker.mapping(value, path, ("total_parameters",), ("MACS",))
    if mapping is None:
        return
    if "total_parameters" in mapping:
        count = mapping["total_parameters"]
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            checker.error(
                f"{path}.total_parameters",
                f"expected a positive integer (digits only, all subsystems together), found {shorten(count)}",
            )
    macs = mapping.get("MACS")
    if macs is not None and (isinstance(macs, bool) or not isinstance(macs, int) or macs < 1):
        checker.error(f"{path}.MACS", f"expected a positive integer or !!null, found {shorten(macs)}")


def _check_datasets(checker: Checker, value: Any) -> int | None:
    """Number of declared datasets, or None if the field cannot be read."""
    path = "system.external_datasets"
    if value is None:
        checker.warning(path, "expected a list with one entry of name: !!null and url: !!null, found nothing")
        return 0
    if not isinstance(value, list):
        checker.error(path, f"expected a list of name and url, found {shorten(value)}")
        return None
    count = 0
    for index, entry in enumerate(value):
        place = f"{path}[{index}]"
        mapping = checker.mapping(entry, place, ("name", "url"))
        if mapping is None:
            continue
        name = checker.text(mapping, place, "name", may_be_null=True)
        url = checker.text(mapping, place, "url", may_be_null=True)
        count += bool(name or url)
        if url and not name:
            checker.error(f"{place}.name", f"expected the name of {shorten(url)}, found nothing")
        if name and not url:
            checker.warning(f"{place}.url", f"expected an address of {shorten(name)}, found nothing")
        elif url and not re.match(r"https?://", url):
            checker.warning(f"{place}.url", f"expected an address (https://...), found {shorten(url)}")
    return count


def label_form() -> str:
    """Description of the form of a label, for messages."""
    return "Surname_Institute_task2_K with K from 1 to 4 (letters, digits and hyphens; no further underscore)"
