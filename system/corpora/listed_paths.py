"""Paths of recordings as tables give them."""

import os
import re
import unicodedata
from pathlib import Path

from system.errors import WheeltapperError
from system.naming import shown

FOREIGN = {  # beginnings of what people give for a path
    r"[a-z][a-z0-9+.-]+://": "an address (URL); list files of this computer",
    r"[a-z]:[\\/]|\\\\": "a path of Windows; give names below one folder, and that folder by --root",
    r"~|\$|%\w+%": "a short form of a shell, which is not replaced; write the path in full",
}


def locate(root: Path, cell: str) -> Path:
    """The recording that a cell means: also with the separators of Windows, and with accents written otherwise.

    Args:
        root: folder that paths are relative to.
        cell: the text.

    Returns:
        The first of these spellings that is a file, else the one with /.
    """
    spellings = [cell, cell.replace("\\", "/")]
    spellings += [unicodedata.normalize(form, spellings[-1]) for form in ("NFC", "NFD")]
    paths = [root / spelling for spelling in dict.fromkeys(spellings)]
    try:
        return next((path for path in paths if path.is_file()), paths[min(1, len(paths) - 1)])
    except (OSError, ValueError):  # too long, or with characters that no file has
        return paths[0]


def check(where: str, cell: str, path: Path) -> None:
    """Refuses what cannot be a path here, and is none.

    Args:
        where: file and line, for the message.
        cell: the text.
        path: what ``locate`` found for it.

    Raises:
        WheeltapperError: an address, a path of Windows, or a short form of a shell.
    """
    for beginning, found in FOREIGN.items():
        if re.match(beginning, cell, re.IGNORECASE) and not os.path.isfile(path):
            raise WheeltapperError(f"{where}: expected the path of a recording, found {shown(cell)}, {found}")


def single_root(path: str) -> str:
    """An absolute path without a second / before it, which POSIX keeps."""
    return "/" + path.lstrip("/") if path.startswith("//") else path
