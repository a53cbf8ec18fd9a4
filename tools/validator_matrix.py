"""Runs the validator on seeded defects and on valid packages, and counts results: ``python
tools/validator_matrix.py``.
"""

import sys

import matrix

# Tests by a part of their names, and what they try.
GROUPS = {
    "a_defect_is_found_in_its_file_and_line": "seeded defects, found in file and line",
    "each_required_key_is_missed": "required keys left out",
    "test_validate_hostile": "hostile zips and meta files",
    "false_claims": "claims that the run contradicts",
    "good_package_of_each_year": "good packages of 2023 to 2026",
    "valid_variants": "valid variants, CRLF among them",
    "one_to_four_systems": "one to four systems",
    "baseline_names": "names of the official baseline",
}
TESTS = ("test_validator_rules.py", "test_validate.py", "test_validate_hostile.py", "test_facts.py")


def group(nodeid: str) -> str:
    """What a test tries; empty for the others of these files."""
    return next((text for part, text in GROUPS.items() if part in nodeid), "")


if __name__ == "__main__":
    sys.exit(matrix.run("validator", [f"tests/submission/{name}" for name in TESTS], group))
