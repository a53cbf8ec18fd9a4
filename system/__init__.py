"""Wheeltapper: anomalous sound detection for machine condition monitoring.

The library knows no command line, and of the recipes only where their configurations lie; see ``system.bin`` for the
commands and ``recipes/`` for the experiments.
"""

__version__ = "0.1.0"
