"""Runs the tests of external disturbances during a run and counts results: ``python tools/abuse_matrix.py [PYTEST
OPTIONS]``.

Two runs at once, a full disk, a read-only folder, inputs, outputs and settings that change after a stage was complete,
a clock that goes backwards: each must end in one line of error or in the results of an undisturbed run.
"""

import sys

import matrix

if __name__ == "__main__":
    sys.exit(matrix.run("abuse", ["tests/matrices/test_abuse_matrix.py"], more=tuple(sys.argv[1:])))
