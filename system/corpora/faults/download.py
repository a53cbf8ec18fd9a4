"""Downloads a data set from its publisher; checks published hashes, resumes partial downloads, unpacks zips once.

Files in the folder: ``zips/<file>``, the archives; ``zips/<file>.part`` during a download; ``raw/``, the input of
``prepare``, with one folder per unpacked zip, and single files.
"""

import os
from collections.abc import Callable
from pathlib import Path

from system.corpora import zenodo
from system.corpora.faults.base import Download, FaultCorpus
from system.corpora.unzip import is_unpacked, unpack
from system.errors import WheeltapperError
from system.fetch import Progress, digest, fetch
from system.files import lock

ZIPS, RAW = "zips", "raw"
PACKED = (".zip", ".rar", ".7z")


def download(
    corpus: FaultCorpus,
    folder: str | os.PathLike,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
    api: str = zenodo.API,
    pause: float = 2.0,
) -> Path:
    """Downloads a data set. Complete files are skipped.

    Files that were downloaded by hand to ``zips/`` (archives) or ``raw/`` (others) are used after the same checks.

    Args:
        corpus: the data set.
        folder: folder to write to.
        progress: called with (file, bytes so far, total bytes or 0).
        say: called with messages for the user.
        api: address of Zenodo's API.
        pause: seconds before the second attempt, doubled for each further one.

    Returns:
        The folder of the raw files, input for ``prepare``. Archives other than zips must be unpacked by hand first.

    Raises:
        WheeltapperError: data set without known addresses, server not reachable, wrong hash or size, unsafe zip, or too
            little space.
    """
    folder = Path(folder)
    if not corpus.downloads and corpus.zenodo is None:
        raise WheeltapperError(
            f"{corpus.name}: no download address is known; download it by hand from {corpus.source} ({corpus.advice})"
        )
    with lock(folder):
        for item in corpus.downloads or (_listed(corpus.zenodo, folder, api, pause) if corpus.zenodo else ()):
            _fetch(item, folder, progress, say, pause)
    if corpus.advice:
        say(corpus.advice)
    return folder / RAW


def _fetch(item: Download, folder: Path, progress: Progress | None, say: Callable[[str], None], pause: float) -> None:
    packed = item.name.lower().endswith(PACKED)
    path = folder / (ZIPS if packed else RAW) / item.name
    target = folder / RAW / path.stem
    unpacks = item.name.lower().endswith(".zip")
    if unpacks and is_unpacked(path, target):
        return say(f"{item.name}: complete, nothing to do")
    if path.is_file():
        say(f"{item.name}: complete, nothing to do" if not unpacks else f"{item.name}: already downloaded")
    else:
        say(f"{item.name}: fetching {item.url}")
        fetch(item.url, path, item.bytes, progress, pause)
    _check(path, item)
    if unpacks:
        say(f"{item.name}: {unpack(path, target)} files in {target}")
    return None


def _check(path: Path, item: Download) -> None:
    advice = f"delete {path} and start again"
    size = path.stat().st_size
    if item.bytes is not None and size != item.bytes:
        raise WheeltapperError(f"{path}: expected {item.bytes} bytes, found {size}; {advice}")
    if item.md5 is not None:
        found = digest(path, "md5")
        if found != item.md5:
            raise WheeltapperError(f"{path}: expected MD5 {item.md5}, found {found}; {advice}")


def _listed(record: int, folder: Path, api: str, pause: float) -> list[Download]:
    """Files of a Zenodo record, with sizes and MD5."""
    found = zenodo.record_files(record, folder / ZIPS, api, pause).values()
    address = f"{api}/records/{record}/files"
    return [
        Download(f"{address}/{item.name}/content", name=item.name, md5=item.md5, bytes=item.bytes) for item in found
    ]
