"""Runs all bad inputs of the tests through the command line and counts results: ``python
tools/bad_input_matrix.py``.
"""

import sys

import matrix

# Tests beside the table of bad inputs, by a part of their names.
OTHERS = {
    "process_of_its_own": "in a process of its own",
    "odd_but_good": "odd but good, taken",
    "takes_no_files": "nowhere to write",
}


def group(nodeid: str) -> str:
    """The kind of a bad input; empty for a test of the table itself."""
    _, bracket, name = nodeid.rstrip("]").partition("[")
    found = next((text for part, text in OTHERS.items() if part in nodeid), name.partition(": ")[0])
    return found if bracket else ""


if __name__ == "__main__":
    sys.exit(matrix.run("bad inputs", ["tests/matrices/test_bad_input_matrix.py"], group))
