"""Opening a package, zip or folder, without trusting it: nothing is unpacked under a name of its own choosing."""

import contextlib
import errno
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from submission.findings import Collector, listing, shorten
from system.corpora.unzip import extract, unsafe

TASK = "task2"
JUNK_FOLDERS = ("__MACOSX",)
JUNK_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")
MAX_ENTRIES = 10_000
MAX_FILE = 64 << 20
MAX_TOTAL = 256 << 20
# Deflate shrinks text of real packages about tenfold; its limit, reached by bombs, is about 1000.
MAX_RATIO = 200
RATIO_FLOOR = 1 << 20
SEARCH_DEPTH = 4


@dataclass
class Tree:
    """The files below task2/.

    ``files`` maps a path relative to task2/ (with "/") to a readable file; ``folders`` holds every folder's relative
    path; ``base`` is where task2/ really lies in the package, for messages.
    """

    files: dict[str, Path] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    base: str = TASK

    def where(self, relative: str = "") -> str:
        """A path as the package's owner knows it."""
        return f"{self.base}/{relative}".strip("/") or "."


@contextlib.contextmanager
def open_package(path: str | os.PathLike, collector: Collector) -> Iterator[Tree | None]:
    """Opens a zip or folder for checking; None where there is nothing to go on with.

    All that is wrong with the container itself goes to the collector: unreadable or encrypted entries, absolute and
    ``..`` paths, links, duplicates, sizes out of bounds, left-overs of operating systems, and a misplaced task2/.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="wheeltapper-") as scratch:
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            reason = "nothing" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", None) or error
            collector.error(str(path), f"expected a zip or folder, found {reason}")
            yield None
            return
        if stat.S_ISDIR(mode):
            yield _folder_tree(path, collector)
        elif stat.S_ISREG(mode):
            found = _unpack(path, Path(scratch), collector)
            yield None if found is None else _locate(*found, path.name, collector)
        else:
            collector.error(str(path), "expected a zip or folder, found something that is neither file nor folder")
            yield None


def _folder_tree(path: Path, collector: Collector) -> Tree | None:
    """A folder that holds task2/, or task2/ itself; what lies beside task2/ is not part of a package."""
    if path.resolve().name == TASK and not (path / TASK).is_dir():
        files, folders = _walk(path, TASK, collector)
        return Tree(files, folders)
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        collector.error(str(path), f"expected a readable folder, found {error.strerror}")
        return None
    beside = [name for name in names if name != TASK and not (path / name).is_dir()]
    if TASK not in names:
        # A first look without findings: the folder may be anything, a home directory too.
        tree = _locate(*_walk(path, "", Collector(), depth=SEARCH_DEPTH), str(path), collector)
        return tree and Tree(*_walk(path / tree.base, tree.base, collector), tree.base)
    if beside:
        collector.warning(
            str(path), f"expected only {TASK}/ in a package, found beside it {listing(beside)}; keep it out of the zip"
        )
    for name in names:
        if name != TASK and name not in beside:
            _report_extra_root(name, True, collector)
    files, folders = _walk(path / TASK, TASK, collector)
    return Tree(files, folders)


def _walk(root: Path, shown: str, collector: Collector, depth: int = 1000) -> tuple[dict[str, Path], set[str]]:
    """Regular files and folders below a folder; links are reported, never followed."""
    files: dict[str, Path] = {}
    folders: set[str] = set()
    waiting = [("", root)]
    while waiting:
        relative, folder = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            collector.error(f"{shown}/{relative}".strip("/"), f"expected a readable folder, found {error.strerror}")
            continue
        for entry in entries:
            name = f"{relative}/{entry.name}".lstrip("/")
            where = f"{shown}/{name}".lstrip("/")
            if _is_junk(name):
                collector.error(where, "expected only files of the package, found a left-over of an operating system")
            elif entry.is_symlink():
                collector.error(where, "expected a file or folder, found a symbolic link")
            elif entry.is_dir():
                folders.add(name)
                if name.count("/") + 1 < depth:
                    waiting.append((name, Path(entry.path)))
            elif entry.is_file():
                files[name] = Path(entry.path)
            else:
                collector.error(where, "expected a file or folder, found a device, pipe or socket")
            if len(files) + len(folders) > MAX_ENTRIES:
                collector.error(shown or str(root), f"expected at most {MAX_ENTRIES} files and folders, found more")
                return files, folders
    return files, folders


def _unpack(path: Path, scratch: Path, collector: Collector) -> tuple[dict[str, Path], set[str]] | None:
    """Unpacks what is safe into numbered files; None where the file is no zip."""
    files: dict[str, Path] = {}
    folders: set[str] = set()
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES:
                collector.error(path.name, f"expected at most {MAX_ENTRIES} entries, found {len(entries)}")
                return None
            total = 0
            for number, entry in enumerate(entries):
                name = _safe_name(entry, files, collector)
                if name is None:
                    continue
                parents = [str(parent) for parent in PurePosixPath(name).parents if str(parent) != "."]
                folders.update(parents if not entry.is_dir() else [*parents, name])
                if not entry.is_dir():
                    total += entry.file_size
                    if total > MAX_TOTAL:
                        limit = f"at most {MAX_TOTAL >> 20} MiB when unpacked"
                        collector.error(path.name, f"expected {limit}, found more (a zip bomb?)")
                        break
                    target = scratch / str(number)
                    try:
                        extract(archive, entry, target)
                        files[name] = target
                    # zlib, lzma, bz2, CRC, methods unknown here: all mean that the entry is damaged.
                    except Exception as error:
                        _refuse_full_disk(error)
                        said = str(error) or type(error).__name__
                        collector.error(name, f"expected an entry that unpacks, found damage ({said})")
    # A hostile file reaches every corner of zipfile: whatever it raises, the answer is "not a zip one can read".
    except Exception as error:
        _refuse_full_disk(error)
        reason = "an empty file" if _is_empty(path) else f"a file that is not one ({error})"
        collector.error(path.name, f"expected a zip file, found {reason}")
        return None
    for name in sorted(set(files) & folders):
        collector.error(name, "expected a file or a folder, found both under this name")
        del files[name]
    return files, folders


def _safe_name(entry: zipfile.ZipInfo, files: dict[str, Path], collector: Collector) -> str | None:
    """The path of an entry, or None after reporting why it is not unpacked."""
    name = entry.filename.rstrip("/")
    problem = unsafe(entry) or _unwanted(entry, name, files)
    if problem:
        collector.error(name or shorten(entry.orig_filename), problem)
        return None
    return name


def _unwanted(entry: zipfile.ZipInfo, name: str, files: dict[str, Path]) -> str:
    """What a package must not hold beside what is unsafe."""
    if not name or name != re.sub("/+", "/", name):
        return f"expected a file name, found {shorten(entry.orig_filename)}"
    if "." in name.split("/"):
        return "expected a path inside the package, found one with '.'"
    if _is_junk(name):
        return "expected only files of the package, found a left-over of an operating system"
    if entry.flag_bits & 0x1:
        return "expected a file in the clear, found an encrypted one"
    if name in files:
        return "expected once, found a second entry of the same name"
    if entry.file_size > MAX_FILE:
        return f"expected at most {MAX_FILE >> 20} MiB, found {entry.file_size >> 20} MiB"
    if entry.file_size > RATIO_FLOOR and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        return (
            f"expected a compression of at most {MAX_RATIO}:1, found {entry.compress_size} bytes that unpack to "
            f"{entry.file_size} (a zip bomb?)"
        )
    return ""


def _locate(files: dict[str, Path], folders: set[str], shown: str, collector: Collector) -> Tree | None:
    """Finds task2/ in the entries and reports where it should be; None where there is none."""
    roots = sorted({name.split("/")[0] for name in [*files, *folders]})
    if not files:
        collector.error(shown, f"expected the folder {TASK}/ with systems in it, found no files")
        return None
    if TASK in roots:
        for name in roots:
            if name != TASK:
                _report_extra_root(name, name in folders, collector)
        return _below(TASK, files, folders)
    for folder in sorted(folders, key=lambda name: (name.count("/"), name)):
        if folder.split("/")[-1].lower().replace("_", "").replace(" ", "") != TASK:
            continue
        if "/" in folder:
            above = folder.rsplit("/", 1)[0]
            collector.error(
                folder,
                f"expected {TASK}/ at the top, found it inside {above}/: one folder too deep; zip the folder {TASK} "
                f"itself, not {above}",
            )
        if folder.split("/")[-1] != TASK:
            collector.error(folder, f"expected a folder with the name {TASK}, found {folder.split('/')[-1]}")
        for name in roots:
            if name != folder.split("/")[0]:
                _report_extra_root(name, name in folders, collector)
        return _below(folder, files, folders)
    if any(re.search(r"\.meta\.ya?ml$", name) and name.count("/") == 1 for name in files):
        collector.error(
            shown, f"expected {TASK}/ at the top with the systems in it, found the systems at the top: {listing(roots)}"
        )
        return Tree(files, folders, base="")
    collector.error(shown, f"expected the folder {TASK}/, found {listing(roots)}")
    return None


def _below(folder: str, files: dict[str, Path], folders: set[str]) -> Tree:
    start = folder + "/"
    return Tree(
        {name[len(start) :]: path for name, path in files.items() if name.startswith(start)},
        {name[len(start) :] for name in folders if name.startswith(start)},
        base=folder,
    )


def _report_extra_root(name: str, is_folder: bool, collector: Collector) -> None:
    collector.error(name, f"expected nothing beside {TASK}/, found the {'folder' if is_folder else 'file'} {name}")


def _is_junk(name: str) -> bool:
    parts = name.split("/")
    return any(part in JUNK_FOLDERS for part in parts) or parts[-1] in JUNK_FILES or parts[-1].startswith("._")


def _refuse_full_disk(error: Exception) -> None:
    """A full disk is no fault of the package."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise error


def _is_empty(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size == 0
    return False
