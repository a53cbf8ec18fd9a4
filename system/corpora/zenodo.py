"""Lists the files of a Zenodo record, with sizes and MD5."""

import re
from dataclasses import dataclass
from pathlib import Path

from system.errors import WheeltapperError
from system.fetch import fetch
from system.files import read_json

API = "https://zenodo.org/api"
SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]*")


@dataclass(frozen=True)
class RecordFile:
    """A file of a Zenodo record; ``bytes`` is its size."""

    name: str
    md5: str
    bytes: int


def record_files(record: int, folder: Path, api: str = API, pause: float = 2.0) -> dict[str, RecordFile]:
    """Files of a Zenodo record.

    Args:
        record: number of the record.
        folder: folder in which the answer is kept as ``record_<record>.json``, so that Zenodo is only asked once.
        api: address of Zenodo's API.
        pause: seconds before the second attempt, doubled for each further one.

    Returns:
        Name to file.

    Raises:
        WheeltapperError: Zenodo cannot be reached, or its answer is not a list of files.
    """
    path = folder / f"record_{record}.json"
    if not path.is_file():
        fetch(f"{api}/records/{record}", path, pause=pause)
    try:
        found = [
            RecordFile(entry["key"], _md5(entry["checksum"]), int(entry["size"])) for entry in read_json(path)["files"]
        ]
        if not found or not all(SAFE.fullmatch(item.name) for item in found):
            raise ValueError("no file, or one with a path")
    except (KeyError, TypeError, ValueError) as error:
        raise WheeltapperError(
            f"{path}: expected Zenodo's list of the files of record {record}, found something else ({error}); "
            "delete it and start again"
        ) from error
    return {item.name: item for item in found}


def _md5(checksum: str) -> str:
    found = re.fullmatch("md5:([0-9a-f]{32})", checksum)
    if found is None:
        raise ValueError(f"checksum {checksum}")
    return found[1]
