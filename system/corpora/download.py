"""Fetches a year of DCASE Task 2 from Zenodo: hash-checked, resumed, unpacked once.

Layout below the folder: ``zips/<zip>`` as published, ``zips/<zip>.part`` while it is fetched, ``zips/<zip>.unpacked``
once it lies in ``raw/<machine>/...`` (years 2020 to 2022, whose development and evaluation share machine names:
``dev/`` and ``eval/``).
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
# Clips of a section in each part, from 2021 on; seconds of a clip where the year file has none, the shortest and as a
# rule; size of a zip beside what is in it.
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
    """Fetches and unpacks the zips of one year; what is complete is not touched again.

    Zips fetched by hand into ``folder/zips`` are taken as they are, after the same checks. A zip may be deleted once
    it is unpacked.

    Args:
        year: of the challenge.
        folder: where ``zips/`` and the unpacked folders go.
        machines: names, all where None.
        parts: of ``dev``, ``train`` (additional training data of the evaluation machines), ``test``.
        base_url: ``<base_url>/<record>/files/<zip>`` is fetched.
        api: address of Zenodo's interface, asked for the MD5 of zips that have none in ``years/``; None: Zenodo's own
            where ``base_url`` is, else nobody is asked.
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
                say(f"{archive.name}: no published MD5 is known, compared with its own check sums alone")
            count = unpack(zip_path, target, archive.machine)
            say(f"{archive.name}: {count} files in {target / archive.machine}")
    return list(dict.fromkeys(folder / archive.folder for archive in archives))


def space(year: Year, folder: str | os.PathLike) -> tuple[float, float]:
    """Bytes that ``download_dcase`` will write for what is not there yet: at the least, and as a rule.

    The year files say how long a clip is and of few zips how large; the rest follows from what the challenge describes.
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
    """The archive with what Zenodo says of it; as it is where nobody can be asked, or knows it."""
    try:
        files = zenodo.record_files(archive.record, zip_path.parent, api, pause) if api else {}
    except WheeltapperError as error:
        log.warning("%s", error)  # a zip fetched by hand is taken on a machine without network too
        return archive
    listed = files.get(archive.name)
    return archive.model_copy(update={"md5": listed.md5, "bytes": listed.bytes}) if listed else archive


def check(zip_path: Path, archive: Archive) -> None:
    """Compares size and MD5 with the published ones where these are known; WheeltapperError where they differ."""
    size = zip_path.stat().st_size
    advice = f"delete {zip_path} and start again"
    if archive.bytes is not None and size != archive.bytes:
        raise WheeltapperError(f"{zip_path}: expected {archive.bytes} bytes, found {size}; {advice}")
    if archive.md5 is not None:
        found = digest(zip_path, "md5")
        if found != archive.md5:
            raise WheeltapperError(f"{zip_path}: expected MD5 {archive.md5}, found {found}; {advice}")
