"""Fetches a year of DCASE Task 2 from Zenodo: hash-checked, resumed, unpacked once.

Layout below the folder: ``zips/<zip>`` as published, ``zips/<zip>.part`` while it is fetched, ``zips/<zip>.unpacked``
once it lies in ``raw/<machine>/...`` (years 2020 to 2022, whose development and evaluation share machine names:
``dev/`` and ``eval/``).
"""

import hashlib
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from system.corpora.challenge import PARTS, Archive, Year, load_year
from system.corpora.unpack import is_unpacked, unpack
from system.errors import WheeltapperError
from system.stage import lock

BASE_URL = "https://zenodo.org/records"
ATTEMPTS = 4
TIMEOUT = 60  # seconds without a byte
CHUNK = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

# What a connection raises; other operating system errors, such as a full disk, are not its fault.
BROKEN = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError, ValueError)

Progress = Callable[[str, int, int], None]


def download_dcase(
    year: int | Year,
    folder: str | os.PathLike,
    machines: Sequence[str] | None = None,
    parts: Sequence[str] = PARTS,
    base_url: str = BASE_URL,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
    pause: float = 2.0,
) -> list[Path]:
    """Fetches and unpacks the zips of one year; what is complete is not touched again.

    Zips fetched by hand into ``folder/zips`` are taken as they are, after the same checks. A zip may be deleted once
    it is unpacked.

    Args:
        year: of the challenge.
        folder: where ``zips/`` and the unpacked folders go.
        machines: names, all where None.
        parts: of ``dev``, ``train`` (additional training data of the evaluation machines), ``test``.
        base_url: ``<base_url>/<record>/files/<zip>`` is fetched.
        progress: called with (zip, bytes so far, bytes in all or 0).
        say: told what is done.
        pause: seconds before the second attempt, doubled for each further one.

    Returns:
        the unpacked folders, each fit for ``prepare_dcase``.

    Raises WheeltapperError for an unknown machine, an unreachable server, a wrong hash or size, an unsafe zip, or too
    little space.
    """
    folder = Path(folder)
    year = load_year(year) if isinstance(year, int) else year
    if not base_url.startswith(("http://", "https://")):
        raise WheeltapperError(f"base_url: expected http://... or https://..., found {base_url!r}")
    archives = year.select(None if machines is None else list(machines), tuple(parts))
    with lock(folder):
        for archive in archives:
            zip_path = folder / "zips" / archive.name
            target = folder / archive.folder
            if is_unpacked(zip_path, target):
                say(f"{archive.name}: complete, nothing to do")
                continue
            if not zip_path.is_file():
                url = f"{base_url.rstrip('/')}/{archive.record}/files/{archive.name}"
                say(f"{archive.name}: fetching {url}")
                fetch(url, zip_path, archive.bytes, progress, pause)
            check(zip_path, archive)
            count = unpack(zip_path, target, archive.machine)
            say(f"{archive.name}: {count} files in {target / archive.machine}")
    return list(dict.fromkeys(folder / archive.folder for archive in archives))


def check(zip_path: Path, archive: Archive) -> None:
    """Compares size and MD5 with the published ones where these are known; WheeltapperError where they differ."""
    size = zip_path.stat().st_size
    advice = f"delete {zip_path} and start again"
    if archive.bytes is not None and size != archive.bytes:
        raise WheeltapperError(f"{zip_path}: expected {archive.bytes} bytes, found {size}; {advice}")
    if archive.md5 is not None:
        with open(zip_path, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != archive.md5:
            raise WheeltapperError(f"{zip_path}: expected MD5 {archive.md5}, found {found}; {advice}")


def fetch(url: str, path: Path, size: int | None = None, progress: Progress | None = None, pause: float = 2.0) -> None:
    """Fetches a file whole or not at all, going on from ``<path>.part`` where the server allows it.

    Raises WheeltapperError where the server cannot be reached, has no such file or stops ``ATTEMPTS`` times.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    by_hand = f"fetch it by hand into {path.parent} and start again"
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
    raise WheeltapperError(f"{url}: could not be fetched ({' '.join(reason.split())}); {by_hand}")


def _transfer(url: str, part: Path, size: int | None, progress: Progress | None) -> int | None:
    """One request; returns the size that the whole file should have, None where nobody knows it."""
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have == size:
        return size
    request = urllib.request.Request(url, headers={"User-Agent": "wheeltapper", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
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
