"""Two ways to run a benchmark: as its published code does, so that tables compare, or without that code's defects."""

from system.errors import WheeltapperError

CLEAN, AS_CODED = "clean", "as-coded"
MODES = (CLEAN, AS_CODED)


def check_mode(mode: str) -> bool:
    """Whether the mode is ``as-coded``; WheeltapperError for one that there is not."""
    if mode not in MODES:
        raise WheeltapperError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
    return mode == AS_CODED
