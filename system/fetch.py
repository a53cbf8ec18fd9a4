"""Downloads of files: complete or not at all, resumed if possible."""

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

# Exceptions of a connection; other operating system errors, such as a full disk, are not included.
BROKEN = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError, ValueError)

Progress = Callable[[str, int, int], None]


class _WebPage(Exception):
    """The server sent an HTML page instead of the file, as sharing sites do."""


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
    """Downloads a file; resumes from ``<path>.part`` if the server supports it.

    Args:
        url: address.
        path: file to write.
        size: size in bytes, if known.
        progress: called with (name, bytes so far, total bytes or 0).
        pause: seconds before the second attempt, doubled for each further one.
        advice: what else the user can do, for the message; by default, to download the file by hand.

    Raises:
        WheeltapperError: the server cannot be reached, does not have the file, sends a web page instead, or stops
            ``ATTEMPTS`` times.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    advice = advice or f"download it by hand to {path.parent} and start again"
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            total = _transfer(url, part, size, progress)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 416 and part.exists():
                # Nothing left to send: the partial file is complete, or belongs to another file.
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
                break  # No connection at all: further attempts would only delay the message.
        else:
            found = part.stat().st_size
            if total is None or found == total:
                os.replace(part, path)
                return
            reason = f"it stopped after {found} of {total} bytes"
            if found > total:
                part.unlink()
    raise WheeltapperError(f"{url}: download failed ({' '.join(reason.split())}); {advice}")


def _transfer(url: str, part: Path, size: int | None, progress: Progress | None) -> int | None:
    """Sends one request and writes the answer; returns the size of the complete file, None if unknown."""
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
    """Start of the answer in the file (0 for servers without ranges), and size of the file, None if unknown."""
    if answer.status == 206:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if match and match[1] and int(match[1]) == have:
            return have, int(match[2]) if match[2] != "*" else None
        raise http.client.HTTPException("the answer is another part of the file than requested")
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None
