"""The exception for errors that users can correct."""

from collections.abc import Iterable, Sequence


class WheeltapperError(Exception):
    """An error outside the code: in a file, a name or a setting.

    The message is one line with the file or key, what was expected and what was found, or one line for each of several
    errors found together. The command line prints it without a traceback and exits with status 1.

    Args:
        message: the message.
        problems: the errors, one line each, if there are several.
    """

    def __init__(self, message: object = "", problems: Iterable[str] = ()):
        super().__init__(message)
        self.problems = list(problems) or [str(message)]


def several(where: str, problems: Sequence[str]) -> WheeltapperError:
    """Exception for one or more problems; ``where`` is the headline if there are several."""
    if len(problems) == 1:
        return WheeltapperError(problems[0])
    return WheeltapperError("\n".join([f"{where}: {len(problems)} problems:", *problems]), problems)
