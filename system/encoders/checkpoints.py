"""Loading and saving of weights, without running code from a file."""

import argparse
import errno
import hashlib
import io
import json
import os
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from system.encoders import layout
from system.errors import WheeltapperError
from system.files import open_atomic

# Plain types that published checkpoints contain besides tensors: training settings, and NumPy scalars (with the module
# names before and since NumPy 2). Creating them runs no code from the file.
_SCALAR: Any = np.float64(0).__reduce__()[0]  # a function; NumPy's stubs say that it may be text
HARMLESS: list[Callable | tuple[Callable, str]] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
# Parts of torch's messages for a pickle that asks for other code.
REFUSALS = ("Unsupported global", "unsupported GLOBAL", "Can only create new object", "Can only build Tensor")


class Inert:
    """Stands for an object of a class that a file names and nobody imports: takes anything, does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def load_file(path: str | os.PathLike, inert: bool = False) -> dict[str, Any]:
    """Reads a checkpoint as nested dicts of tensors and plain values.

    Args:
        path: safetensors file (recognised by suffix or content), or a torch file, read with ``weights_only=True``.
        inert: whether objects of other classes, such as settings of a training, become ``Inert`` ones; otherwise their
            file is refused.

    Returns:
        ``{"model": tensors, "metadata": dict of str}`` for safetensors, otherwise the dict in the file.

    Raises:
        WheeltapperError: the file is missing, damaged, or needs code to be unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected a checkpoint, found {'a folder' if path.is_dir() else 'nothing'}")
    if path.suffix == ".safetensors" or _begins_like_safetensors(path):
        try:
            return _load_safetensors(path)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise WheeltapperError(f"{path}: damaged, expected a safetensors file ({error})") from error
    try:
        others = [(Inert, name) for name in _unknown_classes(path)] if inert else []
        with torch.serialization.safe_globals([*HARMLESS, *others]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unusual pickles are either loaded or refused below
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:  # torch allocates a damaged length before reading
        raise WheeltapperError(
            f"{path}: expected a checkpoint that fits into memory, found {path.stat().st_size} bytes that ask for more"
        ) from error
    except Exception as error:  # torch checks little: a damaged byte may raise anything
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a truncated file
            raise
        if isinstance(error, pickle.UnpicklingError) and any(text in str(error) for text in REFUSALS):
            raise WheeltapperError(
                f"{path}: refused, its pickle asks for more than tensors and plain values; if you trust the file, "
                "export its state dict as safetensors"
            ) from error
        # Torch's own message for a broken pickle recommends unsafe loading.
        reason = "broken pickle" if isinstance(error, pickle.UnpicklingError) else _first_line(error)
        raise WheeltapperError(f"{path}: damaged, expected a torch checkpoint ({reason})") from error
    if not isinstance(loaded, dict):
        raise WheeltapperError(f"{path}: expected a dict of tensors, found {type(loaded).__name__}")
    return loaded


def _unknown_classes(path: Path) -> list[str]:
    """Full names of classes and functions that a torch file asks for; read from its pickle, which is not run."""
    with torch.serialization.safe_globals(HARMLESS):
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)


def _load_safetensors(path: Path) -> dict[str, Any]:
    name = str(path)
    if not name.isascii() and os.fsencode(path) != name.encode(
        "utf-8", "replace"
    ):  # the library opens UTF-8 names alone
        content = path.read_bytes()
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return {"model": tensors, "metadata": dict(header.get("__metadata__") or {})}
    with safetensors.safe_open(name, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return {"model": tensors, "metadata": dict(file.metadata() or {})}


def _begins_like_safetensors(path: Path) -> bool:
    """Whether a file starts like safetensors: the length of a JSON header, then the header. Hubs use any file name."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def read_config_beside(path: str | os.PathLike, name: str = "config.json") -> dict[str, Any]:
    """Reads the settings file that model hubs keep beside the weights.

    Args:
        path: checkpoint.
        name: name of the settings file.

    Returns:
        The settings; empty if there is no file.

    Raises:
        WheeltapperError: the file is not a JSON object.
    """
    beside = Path(path).with_name(name)
    return layout.read_json_object(beside) if beside.is_file() else {}


def load_strict(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: str | os.PathLike) -> None:
    """Copies tensors into a module; names and shapes must match exactly.

    Args:
        module: the module, possibly on the meta device.
        tensors: name to tensor.
        path: checkpoint, for messages.

    Raises:
        WheeltapperError: lists missing, unexpected, misshapen and non-finite tensors.
    """
    own = module.state_dict()
    problems = [f"missing {name}" for name in own if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in own]
    for name, tensor in tensors.items():
        if name not in own:
            continue
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_complex() or tensor.is_meta:
            problems.append(f"{name} is not an ordinary tensor of real numbers")
        elif own[name].is_floating_point() and not tensor.is_floating_point():
            problems.append(f"{name} holds integers (a quantised network?)")
        elif tensor.shape != own[name].shape:
            problems.append(f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}")
        elif tensor.is_floating_point() and tensor.element_size() < 2:
            problems.append(f"{name} holds numbers of 8 bits (a quantised network?)")
        elif tensor.is_floating_point() and not torch.isfinite(tensor).all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise WheeltapperError(f"{path}: does not fit {type(module).__name__}: {'; '.join(problems[:8])}{more}")
    if any(tensor.is_meta for tensor in own.values()):  # meta tensors have no memory to copy to: replace them
        tensors = {name: tensor.to(own[name].dtype, copy=True).contiguous() for name, tensor in tensors.items()}
        module.load_state_dict(tensors, assign=True)
    else:
        module.load_state_dict(dict(tensors))


def save(path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes a safetensors file atomically.

    Equal input gives equal bytes; safetensors itself would shuffle the metadata.

    Args:
        path: file to write.
        tensors: name to tensor.
        metadata: name to value; values other than str are stored as JSON.
    """
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = memoryview(safetensors.torch.save(packed, metadata=text))
    size = int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8 : 8 + size])) | {"__metadata__": dict(sorted(text.items()))}
    line = json.dumps(header, separators=(",", ":")).encode()
    line += b" " * (-len(line) % 8)  # the data must begin at a multiple of 8
    with open_atomic(path, "wb") as file:
        file.write(len(line).to_bytes(8, "little") + line)
        file.write(content[8 + size :])


def save_torch(path: str | os.PathLike, state: Mapping[str, Any]) -> None:
    """Writes ``torch.save`` atomically; a full disk raises OSError instead of torch's RuntimeError."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    with open_atomic(path, "wb") as file:
        file.write(buffer.getbuffer())


def weights_hash(module: torch.nn.Module) -> str:
    """Hash of a network's tensors, independent of the file they were read from."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
