"""All rules on packages that a program can check, and defects that show that they are checked.

``RULES`` groups the defects of ``package_defects`` by rule. Beside it stand: zips that are hostile (paths that lead
outside, links, bombs, encryption, damage, duplicates: test_validate_hostile), claims against the run (results,
parameters, models, frozen configuration, training files, test clips in training: test_facts), the clips of the
recordings (TestAudio in test_validate), and rules on the run itself (``wheeltapper comply``: tests/system/compliance).
"""

import re

import pytest
import yaml
from package_builder import EVAL, clip_names, csv_path, errors, good_package, meta_path, write_zip
from package_defects import DEFECTS, E

from submission.validate import validate

RULES = {
    "one to four systems, each index once, of one team": [
        "system missing altogether", "five systems", "index twice", "two teams", "index zero",
        "gap in the numbers",
    ],
    "label: surname, institute, task2, 1 to 4, by underscores": [
        "another task", "underscore in surname", "accent in label", "other surname",
        "label of a demonstration",
    ],
    "task2/ alone at the top, systems right below it": [
        "task2 one too deep", "task2 missing", "task2 in capitals", "another top folder", "file at the top",
        "systems one too deep", "csv one too deep",
    ],
    "no left-overs and no other files": [
        "mac left-over", "DS_Store", "Thumbs.db", "extra file in a system", "extra file beside the systems",
        "empty folder in a system", "two meta files",
    ],
    "scores and decisions of every machine and section, under their names": [
        "no CSVs in a system", "scores missing", "decisions missing", "no decisions at all", "name of 2021",
        "name of 2020", "name unknown", "both kinds of names",
    ],
    "the year's evaluation machines, spelt exactly, in their sections": [
        "machine in lower case", "machine misspelt", "machine misspelt in one", "machine missing",
        "machine of another year", "development machine added", "section 01", "only development machines",
        "machines of nobody",
    ],
    "two columns, comma, no header, no blank line, plain UTF-8": [
        "header", "tab", "three columns", "blank line", "trailing blank line", "byte-order mark", "not text",
        "empty csv",
    ],
    "finite scores, decisions 0 or 1": [
        "nan", "infinity", "text for a score", "decision 2", "decision 0.9", "decision 1.0",
        "score '1_0'", "score '１２'", "score '٣'", "score '1e400'", "score '0x1p3'", "decision of full width",
    ],
    "bare names with .wav, exactly the clips, each once": [
        "clip missing", "clip unknown", "clip twice", "no extension", "folder in column 1", "clips of another section",
        "too few clips",
    ],
    "scores and decisions that say something": [
        "constant scores", "many ties", "decisions all equal", "decisions turned round",
        "systems that are the same", "systems that rank alike", "a CSV of the other system", "a CSV of another machine",
    ],
    "one meta file, named and labelled as its folder": ["meta missing", "meta.yml", "another label"],
    "YAML in UTF-8 without tabs, a mapping, each key once": [
        "tab in yaml", "broken yaml", "not utf-8", "empty meta", "meta is a list", "key twice", "anchors",
    ],
    "submission: label, name, abbreviation of ten characters": [
        "no label", "no name", "no abbreviation", "abbreviation a number", "abbreviation long", "abbreviation shared",
    ],
    "authors, one of them corresponding, with mail and affiliation": [
        "no authors", "no mail", "odd mail", "no corresponding author", "two corresponding authors",
        "corresponding is a word", "affiliation a text", "institute",
        "example mail", "nobody's name", "rehearsal", "demonstration institute", "nowhere",
    ],
    "description: all keys of the year, texts or null": [
        "description key missing", "attribute_usage missing", "description key unknown", "description key misspelt",
        "description a list", "method null", "subsystems a word",
    ],
    "complexity: whole numbers": [
        "parameters missing", "parameters as text", "parameters zero", "parameters a fraction", "MACS as text",
        "parameters with underscores", "parameters in hexadecimal", "parameters in octal", "parameters in minutes",
        "parameters in full width",
    ],
    "external data is declared": [
        "datasets a text", "dataset without a name", "dataset without address", "usage undeclared",
        "source_code missing", "source_code of an example",
    ],
    "results: all development machines, percent": [
        "results missing", "results a list", "result a fraction", "result 1.0", "result above 100", "result negative",
        "result nan", "result a text", "result missing", "result key of 2021", "results of a machine missing",
        "results of an evaluation machine", "result with underscore", "pauc impossible",
        "pauc too good for the AUCs", "AUCs too good for the pauc",
    ],
    "a technical report in PDF, for all systems or one each": [
        "no report", "report misnamed", "report empty", "report of Word", "report cut off", "report encrypted",
        "report of one system only",
    ],
}  # fmt: skip
# Rules on what stands in a file, whose findings name a line, and the defects among them that no one line shows.
OF_LINES = list(RULES)[list(RULES).index("two columns, comma, no header, no blank line, plain UTF-8") : -1]
WHOLE = (
    "clip missing", "too few clips", "constant scores", "many ties", "decisions all equal", "meta missing", "meta.yml",
    "empty meta", "abbreviation shared", "systems that are the same", "systems that rank alike",
    "a CSV of the other system", "a CSV of another machine",
)  # fmt: skip
# Keys that a meta file of 2026 must have, as the template lists them.
REQUIRED = [
    "submission",
    "system",
    "results",
    "submission.label",
    "submission.name",
    "submission.abbreviation",
    "submission.authors",
    "submission.authors[0].firstname",
    "submission.authors[0].lastname",
    "submission.authors[0].email",
    "submission.authors[1].affiliation",
    "submission.authors[1].affiliation.institution",
    "system.description",
    "system.complexity",
    "system.external_datasets",
    "system.source_code",
    "system.description.input_sampling_rate",
    "system.description.data_augmentation",
    "system.description.front_end",
    "system.description.acoustic_features",
    "system.description.embeddings",
    "system.description.machine_learning_method",
    "system.description.aggregation_method",
    "system.description.domain_adaptation_method",
    "system.description.domain_generalization_method",
    "system.description.ensemble_method_subsystem_count",
    "system.description.decision_making",
    "system.description.attribute_usage",
    "system.description.external_data_usage",
    "system.description.development_data_usage",
    "system.complexity.total_parameters",
    "system.external_datasets[0].name",
    "system.external_datasets[0].url",
    "results.development_dataset",
]


def test_every_defect_belongs_to_a_rule_and_every_rule_has_defects():
    listed = [name for names in RULES.values() for name in names]
    assert sorted(listed) == sorted(DEFECTS)
    assert len(listed) >= 40
    assert all(
        any(DEFECTS[name][1] == E for name in names) for rule, names in RULES.items() if "say something" not in rule
    )


@pytest.mark.parametrize("path", REQUIRED)
def test_each_required_key_is_missed(path, tmp_path):
    files = good_package(systems=1, machines=EVAL[2026][:1], clips=3)
    document = yaml.safe_load(files[meta_path()])
    *above, last = re.findall(r"[a-z_A-Z]+|(?<=\[)\d+", path)
    place = document
    for key in above:
        place = place[int(key) if key.isdigit() else key]
    del place[last]
    files[meta_path()] = yaml.safe_dump(document, sort_keys=False).encode()
    found = errors(validate(write_zip(tmp_path / "p.zip", files), year=2026))
    assert any(f"{meta_path()}" in text and f" {path}: expected this key, found none" in text for text in found), found


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_in_its_file_and_line(name, tmp_path):
    """The finding names an existing file or folder; its line, if any, shows the defect."""
    defect, level, fragment = DEFECTS[name]
    files = good_package()
    defect(files)
    findings = validate(write_zip(tmp_path / "p.zip", files))
    found = next(found for found in findings if found.level == level and fragment in str(found))
    assert found.where == "p.zip" or any(path.startswith(found.where) for path in files), found
    if not found.line:
        assert name in WHOLE or not any(name in RULES[rule] for rule in OF_LINES), f"expected a line: {found}"
        return
    lines = files[found.where].split(b"\n")
    assert 1 <= found.line <= len(lines), found
    if found.where.endswith(".meta.yaml") and re.match(r"[a-z_.\[\]0-9A-Z]+: ", found.message):
        # The line holds the key, or (where it is missing) one of those above it, or begins the list's item.
        keys = re.findall(r"[A-Za-z_]+", found.message.split(": ")[0])
        text = lines[found.line - 1].decode()
        top = keys[0] in ("submission", "system", "results") and len(keys) == 1
        assert top or any(f"{key}:" in text for key in keys) or text.lstrip().startswith("- "), (text, found)


def test_lines_of_clips_that_do_not_belong(tmp_path):
    files = good_package()
    path = csv_path("Sander")
    rows = files[path].decode().split("\n")
    rows[41] = rows[41].replace("section_00_0041", "section_01_0041")
    files[path] = "\n".join(rows).encode()
    found = [found for found in validate(write_zip(tmp_path / "p.zip", files)) if found.level == E]
    assert [(one.where, one.line) for one in found] == [(path, 42)] * 2
    assert clip_names()[41] in found[0].message
