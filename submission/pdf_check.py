"""What is wrong with a finished technical report, as far as it shows without a reader of PDF."""

import os
import re
from collections.abc import Iterator

from submission.findings import ERROR, WARNING, shorten

# Contents of streams are compressed or text; the dictionaries of trailers stand outside of them.
_STREAM = re.compile(rb"(?<!end)stream\r?\n|endstream")
_ENCRYPTED = re.compile(rb"/Encrypt\s*(?:\d+\s+\d+\s+R\b|<<)")


def _outside_streams(data: bytes) -> Iterator[bytes]:
    """What stands outside of streams, in one pass, whatever the file holds."""
    start: int | None = 0
    for mark in _STREAM.finditer(data):
        if mark[0] == b"endstream":
            start = mark.end() if start is None else start
        elif start is not None:
            yield data[start : mark.start()]
            start = None
    if start is not None:
        yield data[start:]


def fault(path: str | os.PathLike) -> tuple[str, str] | None:
    """Level and message of what is wrong with a PDF; None if nothing is.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read()
    if not data:
        return ERROR, "expected a PDF, found an empty file"
    if not data.startswith(b"%PDF"):
        return ERROR, f"expected a PDF that begins with %PDF, found {shorten(repr(data[:12])[2:-1])}"
    if any(_ENCRYPTED.search(part) for part in _outside_streams(data)):
        return ERROR, "expected a PDF without encryption or password, found an encrypted one; save it without"
    if b"%%EOF" not in data[-2048:]:
        return WARNING, "expected a PDF that ends in %%EOF, found no end: is it truncated?"
    return None
