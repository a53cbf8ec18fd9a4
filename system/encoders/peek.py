"""Identifies the encoder family of a checkpoint file by its tensor names, without loading torch or the weights."""

import json
import os
import pickletools
import zipfile
import zlib
from types import SimpleNamespace
from typing import Any, BinaryIO

from system.encoders import cards, layout
from system.errors import WheeltapperError

LONGEST = 64 << 20  # bytes of names to read at most; published checkpoints have some hundred kB
ALIKE = ["eat", "fisher"]  # families that tensor names do not distinguish


def check_family(path: str | os.PathLike, family: str) -> None:
    """Checks that a checkpoint belongs to a family, as far as its tensor names tell.

    Args:
        path: checkpoint.
        family: key of ``FAMILIES``.

    Raises:
        WheeltapperError: the file cannot be read, is no checkpoint, is truncated, or is of another family.
    """
    found = families(path)
    if found and family in cards.KNOWN and family not in found:
        raise WheeltapperError(
            f"{path}: expected a checkpoint of the family {family}, found one that looks like {' or '.join(found)}"
        )


def families(path: str | os.PathLike) -> list[str]:
    """Families that a checkpoint may belong to.

    Returns:
        Keys of ``FAMILIES``; empty if the tensor names do not tell.

    Raises:
        WheeltapperError: the file cannot be read or is no checkpoint.
    """
    path = layout.main_file(path)
    path = layout.adapter_base(path) or path
    if path.name.endswith(layout.INDEX):
        return _possible(cards.recognise(layout.shards(path)))
    layout.check_whole(path)
    try:
        with open(path, "rb") as file:
            start = file.read(512)
            if start[8:9] == b"{" or path.suffix == ".safetensors":
                loaded = _safetensors(file, path.stat().st_size)
                return _possible(cards.identify(loaded), "family" in loaded["metadata"])
            if start[:2] == b"PK":
                return _possible(cards.recognise(_pickled_names(file)))
    except (OSError, *DAMAGE) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160] or type(error).__name__
        raise WheeltapperError(f"{path}: expected a checkpoint, found damage ({reason})") from error
    if start[:1] != b"\x80" and start[257:262] != b"ustar":  # formats of old torch versions
        raise WheeltapperError(f"{path}: expected a checkpoint, found {path.stat().st_size} bytes of something else")
    return []


def _possible(family: str | None, told: bool = False) -> list[str]:
    if family in ALIKE and not told:
        return ALIKE
    return [family] if family else []


# Exceptions of zipfile, pickletools and json for damaged files.
DAMAGE = (ValueError, KeyError, TypeError, EOFError, RuntimeError, RecursionError, zipfile.BadZipFile, zlib.error)


def _safetensors(file: BinaryIO, size: int) -> dict[str, Any]:
    """Like ``checkpoints.load_file``, from the header only: each tensor has only its shape."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, LONGEST):
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    tensors = {name: SimpleNamespace(shape=tuple(about["shape"])) for name, about in header.items()}
    end = 8 + length + max((int(about["data_offsets"][1]) for about in header.values()), default=0)
    if end != size:
        raise ValueError(f"{size} bytes instead of {end}")
    return {"model": tensors, "metadata": metadata}


def _pickled_names(file: BinaryIO) -> list[str]:
    """All strings in the pickle of a torch zip file, without unpickling."""
    with zipfile.ZipFile(file) as archive:
        inside = next((entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")), None)
        if inside is None:
            raise ValueError("a zip without data.pkl")
        if inside.file_size > LONGEST:
            return []
        content = archive.read(inside)
    return [argument for _, argument, _ in pickletools.genops(content) if isinstance(argument, str)]
