"""Unpacks a zip from the network: nothing outside its folder, nothing out of proportion, nothing half."""

import errno
import os
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
                with archive.open(entry) as source, open(place, "wb") as file:
                    shutil.copyfileobj(source, file, CHUNK)
                if (size := place.stat().st_size) != entry.file_size:  # more than it says is never unpacked
                    raise zipfile.BadZipFile(f"{name}: {size} bytes in the place of {entry.file_size}")
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
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not path.parts:
            continue
        if "\0" in entry.orig_filename:  # zipfile cuts the name there
            raise WheeltapperError(f"{zip_path}: refused, expected a file name, found {entry.orig_filename!r}")
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in path.parts[0]:
            raise WheeltapperError(f"{zip_path}: refused, {entry.filename!r} leads outside the folder")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise WheeltapperError(f"{zip_path}: refused, {entry.filename!r} is a link or a device, expected files")
        if entry.is_dir() or (machine and (path.parts[0] != machine or len(path.parts) < 2)):
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
