"""The one exception a user is meant to see."""


class WheeltapperError(Exception):
    """A mistake outside the code: a file, a name, a setting.

    The message is one line that names the file or key, what was expected and what was found. The command line prints
    it without a traceback and exits with status 1.
    """
