"""Repeats a toy run in different environments and counts results: ``python tools/determinism_matrix.py [PYTEST
OPTIONS]``.

Threads, workers, processes, order of folders, hash seed, language, time zone, working directory, location: the package
must be the same, byte for byte. It contains no times: the entries of the zip are dated 1980, its PDF 2000.
"""

import sys

import matrix

if __name__ == "__main__":
    sys.exit(matrix.run("determinism", ["tests/matrices/test_determinism_matrix.py"], more=tuple(sys.argv[1:])))
