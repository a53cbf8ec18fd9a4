"""Wheeltapper: anomalous sound detection for machine condition monitoring.

The library knows no command line, no recipe and no path of its own; see ``system.bin`` for the commands
and ``recipes/`` for the experiments.
"""

__version__ = "0.1.0"
