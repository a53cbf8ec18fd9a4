"""Names of protocols and features, for the command line: this module imports nothing slow.

A benchmark runs as its published code does (for comparison with published tables), or without the defects of that code.
Features without an encoder are statistics of the spectrum.
"""

from system.errors import WheeltapperError

CLEAN, AS_CODED = "clean", "as-coded"
MODES = (CLEAN, AS_CODED)
STATISTICS = ("log-mel-mean", "log-mel-mean-std", "log-spectrum-mean", "log-spectrum-mean-std")


def check_mode(mode: str) -> bool:
    """Whether the mode is ``as-coded``; WheeltapperError for an unknown mode."""
    if mode not in MODES:
        raise WheeltapperError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
    return mode == AS_CODED
