"""Repeats a toy run under other circumstances and counts: ``python tools/determinism_matrix.py [OPTIONS of pytest]``.

Threads, workers, processes, order of folders, hash seed, language, time zone, working directory, place: the package is
the same to the byte. It holds no time: the entries of the zip are dated 1980, its PDF 2000.
"""

import sys

import matrix

if __name__ == "__main__":
    sys.exit(matrix.run("determinism", ["tests/matrices/test_determinism_matrix.py"], more=tuple(sys.argv[1:])))
