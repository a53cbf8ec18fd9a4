"""Unpacks zips that nobody vouches for: nothing outside a folder, nothing out of proportion, nothing half.

``unsafe`` and ``extract`` are for a single entry, ``unpack`` for the zips of a data set.
"""

import errno
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from system.errors import WheeltapperError
from system.files import read_json, write_json

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAX_EXPANSION = 40  # times the size of the zip; recordings shrink to half at best
CHUNK = 1 << 20
# What zipfile raises over damaged, encrypted and exotic archives.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def unsafe(entry: zipfile.ZipInfo) -> str:
    """Why an entry must not be unpacked under its name, as "expected ..., found ..."; empty where it may be."""
    shown, name = entry.orig_filename, entry.filename.rstrip("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if "\0" in shown:  # zipfile cuts the name there
        return f"expected a file name, found {shown[:80]!r}"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "expected a relative path, found an absolute one"
    if "\\" in name:
        return "expected / between folders, found a backslash (written by a broken zip program)"
    if ".." in name.split("/"):
        return "expected a path inside the folder, found one with '..'"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"expected a file or folder, found {'a symbolic link' if stat.S_ISLNK(kind) else 'a special file'}"
    return ""


def extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """Writes an entry to a file, not a byte more than it declares; BadZipFile where it has more or fewer."""
    with archive.open(entry) as source, open(target, "wb") as sink:
        left = entry.file_size
        while chunk := source.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile(f"{entry.filename}: more than the {entry.file_size} bytes that it declares")
            sink.write(chunk)
    if left:
        raise zipfile.BadZipFile(f"{entry.filename}: {left} bytes missing")


def marker_of(zip_path: Path) -> Path:
    """The file that says that a zip was unpacked to its end."""
    return zip_path.with_name(zip_path.name + ".unpacked")


def is_unpacked(zip_path: Path, target: Path) -> bool:
    """Whether an earlier run finished and all its files are still there with their sizes; the zip may be gone."""
    marker = marker_of(zip_path)
    if not marker.is_file():
        return False
    try:
        files = read_json(marker)["files"].items()
    except (WheeltapperError, KeyError, TypeError, AttributeError):
        return False
    return all((target / name).is_file() and (target / name).stat().st_size == size for name, size in files)


def unpack(zip_path: Path, target: Path, machine: str = "") -> int:
    """Unpacks the folder ``machine`` of a zip into ``target`` (empty: all of it) and leaves a marker beside the zip.

    Files go to a temporary folder first and are moved one by one, the marker is written last. Entries beside the
    machine's folder (a licence, a Mac's litter) are left out.

    Returns the number of files. Raises WheeltapperError for a damaged zip, an absolute path or one with ``..``, a link,
    more than ``MAX_EXPANSION`` times the size of the zip, or too little free space.
    """
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    marker_of(zip_path).unlink(missing_ok=True)
    temporary = target / f".{zip_path.stem}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with zipfile.ZipFile(zip_path) as archive:
            entries = _select(zip_path, archive.infolist(), machine)
            _check_size(zip_path, sum(entry.file_size for entry in entries.values()), target)
            for name, entry in entries.items():
                place = temporary / name
                place.parent.mkdir(parents=True, exist_ok=True)
                extract(archive, entry, place)
        for name in entries:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary / name, target / name)
    except (*DAMAGE, OSError) as error:
        # A damaged offset shows as an invalid seek; any other such error is the disk's.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise WheeltapperError(
            f"{zip_path}: expected a whole zip, found damage ({error}); delete it and start again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_new and not any(target.iterdir()):
            target.rmdir()
    write_json(marker_of(zip_path), {"files": {name: entry.file_size for name, entry in entries.items()}})
    return len(entries)


def _select(zip_path: Path, entries: list[zipfile.ZipInfo], machine: str) -> dict[str, zipfile.ZipInfo]:
    """The machine's files (all where it is empty) by name, after every entry of the zip was found to be safe."""
    chosen: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        path = PurePosixPath(entry.filename)
        if problem := unsafe(entry):
            raise WheeltapperError(f"{zip_path}: {entry.filename!r}: refused, {problem}")
        if not path.parts or entry.is_dir() or (machine and (path.parts[0] != machine or len(path.parts) < 2)):
            continue
        if str(path) in chosen:
            raise WheeltapperError(f"{zip_path}: refused, {entry.filename!r} stands twice")
        if entry.compress_type not in METHODS:
            raise WheeltapperError(
                f"{zip_path}: refused, expected files stored or deflated, found {entry.filename!r} packed by method "
                f"{entry.compress_type}"
            )
        chosen[str(path)] = entry
    for name in chosen:
        if any(str(parent) in chosen for parent in PurePosixPath(name).parents):
            raise WheeltapperError(f"{zip_path}: refused, expected a file or a folder, found {name!r} below a file")
    if not chosen:
        tops = sorted({entry.filename.split("/")[0] for entry in entries})
        expected = f"a folder {machine}/" if machine else "files"
        raise WheeltapperError(f"{zip_path}: expected {expected}, found {', '.join(tops[:5]) or 'nothing'}")
    return chosen


def _check_size(zip_path: Path, total: int, target: Path) -> None:
    size = zip_path.stat().st_size
    if total > MAX_EXPANSION * size:
        raise WheeltapperError(
            f"{zip_path}: refused, expected at most {MAX_EXPANSION} times its {size} bytes, found {total} bytes inside"
        )
    free = shutil.disk_usage(target).free
    if total > free:
        raise WheeltapperError(f"{target}: expected {total} bytes of free space for {zip_path.name}, found {free}")
