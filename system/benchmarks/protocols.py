"""Names that the benchmarks' command line needs before anything slow is imported.

A benchmark runs as its published code does, so that tables compare, or without that code's defects. A recording can be
described without an encoder, by statistics of its spectrum.
"""

from system.errors import WheeltapperError

CLEAN, AS_CODED = "clean", "as-coded"
MODES = (CLEAN, AS_CODED)
STATISTICS = ("log-mel-mean", "log-mel-mean-std", "log-spectrum-mean", "log-spectrum-mean-std")


def check_mode(mode: str) -> bool:
    """Whether the mode is ``as-coded``; WheeltapperError for one that there is not."""
    if mode not in MODES:
        raise WheeltapperError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
    return mode == AS_CODED
