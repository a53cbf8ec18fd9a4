"""Runs all tests of hostile files and counts results: ``python tools/safety_matrix.py [PYTEST OPTIONS]``.

Archives with paths outside or unlimited expansion, checkpoints, arrays, settings and pages with code, downloads with
other contents, ports and connections.
"""

import sys

import matrix

TESTS = (
    "tests/matrices/test_safety_matrix.py",
    "tests/system/corpora/test_dcase_unpack.py",
    "tests/submission/test_validate_hostile.py",
    "tests/system/encoders/test_checkpoints.py",
    "tests/system/corpora/test_dcase_download.py",
    "tests/system/encoders/test_download_checkpoint.py",
)
# Of the files that are not about safety alone, the tests that are, by a part of their names.
PARTS = (
    "test_safety_matrix",
    "test_validate_hostile",
    "unpack",
    "code",
    "refused",
    "hash",
    "published_one",
    "whole_one",
)

if __name__ == "__main__":
    keep = " or ".join(PARTS)
    sys.exit(matrix.run("safety", list(TESTS), more=("-k", keep, *sys.argv[1:])))
