"""Fetches files from web servers: whole or not at all, resumed, hash-checked."""

import hashlib
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from system.errors import WheeltapperError

ATTEMPTS = 4
TIMEOUT = 60  # seconds without a byte
CHUNK = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

# What a connection raises; other operating system errors, such as a full disk, are not its fault.
BROKEN = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError, ValueError)

Progress = Callable[[str, int, int], None]


class _WebPage(Exception):
    """The server sent a page for people, as sharing sites do in place of the file."""


def digest(path: str | os.PathLike, algorithm: str) -> str:
    """Hash of a file in hexadecimal digits; ``algorithm`` is ``md5`` or ``sha256``."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def fetch(
    url: str,
    path: Path,
    size: int | None = None,
    progress: Progress | None = None,
    pause: float = 2.0,
    advice: str = "",
) -> None:
    """Fetches a file whole or not at all, going on from ``<path>.part`` where the server allows it.

    Args:
        size: in bytes, where it is known beforehand.
        progress: called with (name, bytes so far, bytes in all or 0).
        pause: seconds before the second attempt, doubled for each further one.
        advice: what else can be done, for the error; by default to fetch it by hand.

    Raises WheeltapperError where the server cannot be reached, has no such file, sends a web page instead or stops
    ``ATTEMPTS`` times.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    advice = advice or f"fetch it by hand into {path.parent} and start again"
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            total = _transfer(url, part, size, progress)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 416 and part.exists():
                # Nothing is left to send: the part is whole, or else it belongs to another file.
                match = _CONTENT_RANGE.fullmatch(error.headers.get("Content-Range", ""))
                if match and match[2] == str(part.stat().st_size):
                    os.replace(part, path)
                    return
                part.unlink()
            elif error.code < 500 and error.code != 429:
                break
        except _WebPage:
            reason = "the server sends a web page instead of the file"
            break
        except BROKEN as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
            if not attempt and isinstance(error, (urllib.error.URLError, ValueError)):
                break  # Never connected: trying again would only delay the message.
        else:
            found = part.stat().st_size
            if total is None or found == total:
                os.replace(part, path)
                return
            reason = f"it stopped after {found} of {total} bytes"
            if found > total:
                part.unlink()
    raise WheeltapperError(f"{url}: could not be fetched ({' '.join(reason.split())}); {advice}")


def _transfer(url: str, part: Path, size: int | None, progress: Progress | None) -> int | None:
    """One request; returns the size that the whole file should have, None where nobody knows it."""
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have == size:
        return size
    request = urllib.request.Request(url, headers={"User-Agent": "wheeltapper", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise _WebPage
        begin, total = _extent(answer, have)
        if size is not None and total is not None and total != size:
            raise WheeltapperError(f"{url}: expected {size} bytes, the server has {total}")
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - begin > free:
            raise WheeltapperError(
                f"{part.parent}: expected {total - begin} bytes of free space for {url}, found {free}"
            )
        with open(part, "ab" if begin else "wb") as file:
            done = begin
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(part.stem, done, total or 0)
            file.flush()
            os.fsync(file.fileno())
    return total if total is not None else size


def _extent(answer: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where the answer begins in the file and how long the file is; a server without ranges begins at 0."""
    if answer.status == 206:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if match and match[1] and int(match[1]) == have:
            return have, int(match[2]) if match[2] != "*" else None
        raise http.client.HTTPException("a range that was not asked for")
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None
