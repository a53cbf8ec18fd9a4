"""Downloads a year of DCASE Task 2 from Zenodo; checks hashes, resumes partial downloads, unpacks once.

Files in the folder: ``zips/<zip>``; ``zips/<zip>.part`` during the download; ``zips/<zip>.unpacked``, a marker that the
zip is unpacked to ``raw/<machine>/...``. In 2020 to 2022, when development and evaluation data share machine names, the
folders are ``dev/`` and ``eval/`` instead of ``raw/``.
"""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from system.corpora import zenodo
from system.corpora.challenge import PARTS, Archive, Year, load_year
from system.corpora.unzip import is_unpacked, marker_of, unpack
from system.errors import WheeltapperError
from system.fetch import Progress, digest, fetch
from system.files import lock

log = logging.getLogger(__name__)

BASE_URL = "https://zenodo.org/records"
# For estimates of the size: clips per section in each part, since 2021; shortest and usual length of a clip in seconds,
# if the year file has none; size of a zip relative to its content.
CLIPS = {"dev": 1200, "train": 1000, "test": 200}
SECONDS = (6.0, 10.0)
ZIPPED = 0.8


def download_dcase(
    year: int | Year,
    folder: str | os.PathLike,
    machines: Sequence[str] | None = None,
    parts: Sequence[str] = PARTS,
    base_url: str = BASE_URL,
    api: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
    pause: float = 2.0,
) -> list[Path]:
    """Downloads and unpacks the zips of one year. Complete zips are skipped.

    Zips that were downloaded by hand to ``folder/zips`` are used after the same checks. Zips may be deleted after
    unpacking.

    Args:
        year: year of the challenge.
        folder: folder for ``zips/`` and the unpacked folders.
        machines: names of machines; None for all.
        parts: any of ``dev``, ``train`` (additional training data of the evaluation machines) and ``test``.
        base_url: the files are at ``<base_url>/<record>/files/<zip>``.
        api: address of Zenodo's API, used for zips without an MD5 in ``years/``; None for Zenodo's own if ``base_url``
            is Zenodo, otherwise the API is not used.
        progress: called with (zip, bytes so far, total bytes or 0).
        say: called with messages for the user.
        pause: seconds before the second attempt, doubled for each further one.

    Returns:
        The unpacked folders, input for ``prepare_dcase``.

    Raises:
        WheeltapperError: unknown machine, server not reachable, wrong hash or size, unsafe zip, or too little space.
    """
    folder = Path(folder)
    year = load_year(year) if isinstance(year, int) else year
    if not base_url.startswith(("http://", "https://")):
        raise WheeltapperError(f"base_url: expected http://... or https://..., found {base_url!r}")
    api = api or (zenodo.API if base_url == BASE_URL else None)
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
            if archive.md5 is None:
                archive = _ask(archive, zip_path, api, pause)
            check(zip_path, archive)
            if archive.md5 is None:
                say(f"{archive.name}: no published MD5 is known, checked with the zip's own checksums only")
            count = unpack(zip_path, target, archive.machine)
            say(f"{archive.name}: {count} files in {target / archive.machine}")
    return list(dict.fromkeys(folder / archive.folder for archive in archives))


def space(year: Year, folder: str | os.PathLike) -> tuple[float, float]:
    """Estimates the bytes that ``download_dcase`` has still to write.

    Based on clip lengths and zip sizes in the year files, if known, otherwise on the challenge's description.

    Args:
        year: year of the challenge.
        folder: folder of the downloads.

    Returns:
        Lower bound and usual value.
    """
    least = likely = 0.0
    for archive in year.select():
        zip_path = Path(folder) / "zips" / archive.name
        if marker_of(zip_path).is_file():
            continue
        machine = year.machines["dev" if archive.part == "dev" else "eval"][archive.machine]
        second = len(machine.sections) * CLIPS[archive.part] * year.rate * 2 * year.channels  # of all clips, 16 bits
        shortest, usual = (machine.seconds or length for length in SECONDS)
        least, likely = least + shortest * second, likely + usual * second
        if not zip_path.is_file():
            part = zip_path.with_name(zip_path.name + ".part")
            have = part.stat().st_size if part.is_file() else 0
            least += max(0, (archive.bytes or 0) - have)
            likely += max(0, (archive.bytes or ZIPPED * usual * second) - have)
    return least, likely


def _ask(archive: Archive, zip_path: Path, api: str | None, pause: float) -> Archive:
    """Adds MD5 and size from Zenodo's API to an archive, if they can be obtained."""
    try:
        files = zenodo.record_files(archive.record, zip_path.parent, api, pause) if api else {}
    except WheeltapperError as error:
        log.warning("%s", error)  # zips downloaded by hand must also work without a network
        return archive
    listed = files.get(archive.name)
    return archive.model_copy(update={"md5": listed.md5, "bytes": listed.bytes}) if listed else archive


def check(zip_path: Path, archive: Archive) -> None:
    """Compares size and MD5 of a zip with the published ones, if known.

    Raises:
        WheeltapperError: they differ.
    """
    size = zip_path.stat().st_size
    advice = f"delete {zip_path} and start again"
    if archive.bytes is not None and size != archive.bytes:
        raise WheeltapperError(f"{zip_path}: expected {archive.bytes} bytes, found {size}; {advice}")
    if archive.md5 is not None:
        found = digest(zip_path, "md5")
        if found != archive.md5:
            raise WheeltapperError(f"{zip_path}: expected MD5 {archive.md5}, found {found}; {advice}")
