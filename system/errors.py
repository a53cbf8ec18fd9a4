"""The one exception a user is meant to see."""

from collections.abc import Iterable, Sequence


class WheeltapperError(Exception):
    """A mistake outside the code: a file, a name, a setting.

    The message is one line that names the file or key, what was expected and what was found; of several mistakes found
    together a line each. The command line prints it without a traceback and exits with status 1.

    Args:
        problems: the mistakes, one line each, where there are several.
    """

    def __init__(self, message: object = "", problems: Iterable[str] = ()):
        super().__init__(message)
        self.problems = list(problems) or [str(message)]


def several(where: str, problems: Sequence[str]) -> WheeltapperError:
    """The error of one mistake or more; ``where`` heads a list of them."""
    if len(problems) == 1:
        return WheeltapperError(problems[0])
    return WheeltapperError("\n".join([f"{where}: {len(problems)} problems:", *problems]), problems)
