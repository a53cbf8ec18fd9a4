"""Does to runs what may befall them from outside and counts: ``python tools/abuse_matrix.py [OPTIONS of pytest]``.

Two runs at once, a full disk, a read-only folder, inputs, outputs and settings that change after a stage was complete,
a clock that goes backwards: each ends in one line or in the results of an undisturbed run.
"""

import sys

import matrix

if __name__ == "__main__":
    sys.exit(matrix.run("abuse", ["tests/matrices/test_abuse_matrix.py"], more=tuple(sys.argv[1:])))
