"""Loading and saving weights without running anything that a file brings along."""

import argparse
import errno
import io
import json
import os
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from system.errors import WheeltapperError
from system.files import open_atomic

# Plain containers of values that published checkpoints hold beside their tensors: the settings of a training run, and
# numbers of NumPy (before version 2 under another name). Making them runs no code of the file's.
_SCALAR: Any = np.float64(0).__reduce__()[0]  # the function that makes one; typed as text too
HARMLESS: list[Callable | tuple[Callable, str]] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
# How torch words that a pickle names code it will not call.
REFUSALS = ("Unsupported global", "unsupported GLOBAL", "Can only create new object", "Can only build Tensor")


def load_file(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a checkpoint as nested dicts of tensors and plain values.

    A safetensors file, by its ending or its content, gives ``{"model": tensors, "metadata": dict of str}``; anything
    else is read by torch with ``weights_only=True``. Raises WheeltapperError where the file is missing, damaged, or
    needs code to be unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise WheeltapperError(f"{path}: expected a checkpoint, found {'a folder' if path.is_dir() else 'nothing'}")
    if path.suffix == ".safetensors" or _begins_like_safetensors(path):
        try:
            with safetensors.safe_open(str(path), "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
                return {"model": tensors, "metadata": dict(file.metadata() or {})}
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise WheeltapperError(f"{path}: damaged, expected a safetensors file ({error})") from error
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles, which are refused below or read
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:  # a damaged length is allocated before anything is read
        raise WheeltapperError(
            f"{path}: expected a checkpoint that fits into memory, found {path.stat().st_size} bytes that ask for more"
        ) from error
    except Exception as error:  # torch checks little: a damaged byte may surface as any exception
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # what a file cut short may raise
            raise
        if isinstance(error, pickle.UnpicklingError) and any(text in str(error) for text in REFUSALS):
            raise WheeltapperError(
                f"{path}: refused, its pickle asks for more than tensors and plain values; export the state dict as "
                "safetensors where you trust the file"
            ) from error
        # Torch's own words on a broken pickle advise to load it unsafely.
        reason = "broken pickle" if isinstance(error, pickle.UnpicklingError) else _first_line(error)
        raise WheeltapperError(f"{path}: damaged, expected a torch checkpoint ({reason})") from error
    if not isinstance(loaded, dict):
        raise WheeltapperError(f"{path}: expected a dict of tensors, found {type(loaded).__name__}")
    return loaded


def _begins_like_safetensors(path: Path) -> bool:
    """Whether a file begins with the length of a JSON header and the header, as weights from a hub do by any name."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def read_config_beside(path: str | os.PathLike, name: str = "config.json") -> dict[str, Any]:
    """The file of settings that model hubs keep beside the weights; empty where there is none.

    Raises WheeltapperError where it is not a dict in JSON.
    """
    beside = Path(path).with_name(name)
    if not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WheeltapperError(f"{beside}: expected JSON, found {error}") from error
    if not isinstance(found, dict):
        raise WheeltapperError(f"{beside}: expected keys and values, found {type(found).__name__}")
    return found


def find_tensors(
    loaded: Mapping[str, Any],
    needs: Sequence[str],
    expected: str,
    path: str | os.PathLike,
    left_out: Sequence[str] = (),
    inner: str = "",
) -> dict[str, Any]:
    """Tensors of a published checkpoint by the names of their layout, without what a wrapper puts before all of them.

    Args:
        loaded: as ``load_file`` gives it; the tensors may lie under ``model``.
        needs: names that tell the layout; what stands before the first of them is taken from the others too.
        expected: what the layout is called, for the error.
        left_out: parts of names, each with the dot before it, that mark what inference has no use for.
        inner: what some names have after the wrapper's part and lose too.

    Raises WheeltapperError that names some of the file's keys where one of ``needs`` is not a tensor in it.
    """
    tensors = loaded.get("model", loaded)
    tensors = tensors if isinstance(tensors, Mapping) else {}
    tensors = {str(name).replace(inner, ""): tensor for name, tensor in tensors.items()}
    anchor = next((name for name in tensors if f".{name}".endswith(f".{needs[0]}")), "")
    prefix = anchor.removesuffix(needs[0])
    found = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if not any(part in f".{name}" for part in left_out)
    }
    if not all(isinstance(found.get(name), Tensor) for name in needs):
        names = ", ".join(list(tensors)[:6] or map(str, list(loaded)[:6])) or "none"
        raise WheeltapperError(f"{path}: expected {expected}, found the keys {names}")
    return found


def load_strict(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: str | os.PathLike) -> None:
    """Copies tensors into a module, on the meta device or not, whose names and shapes must agree exactly.

    Raises WheeltapperError that lists missing, unexpected and misshapen tensors, and names non-finite ones.
    """
    own = module.state_dict()
    problems = [f"missing {name}" for name in own if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in own]
    for name, tensor in tensors.items():
        if name not in own:
            continue
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_complex():
            problems.append(f"{name} is not an ordinary tensor of real numbers")
        elif tensor.shape != own[name].shape:
            problems.append(f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}")
        elif tensor.is_floating_point() and not torch.isfinite(tensor).all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise WheeltapperError(f"{path}: does not fit {type(module).__name__}: {'; '.join(problems[:8])}{more}")
    if any(tensor.is_meta for tensor in own.values()):  # they take the place of what has no numbers, in its type
        tensors = {name: tensor.to(own[name].dtype, copy=True).contiguous() for name, tensor in tensors.items()}
        module.load_state_dict(tensors, assign=True)
    else:
        module.load_state_dict(dict(tensors))


def save(path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes a safetensors file whole or not at all; metadata values other than str are stored as JSON.

    The same tensors and metadata give the same bytes: safetensors itself shuffles the metadata.
    """
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = memoryview(safetensors.torch.save(packed, metadata=text))
    size = int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8 : 8 + size])) | {"__metadata__": dict(sorted(text.items()))}
    line = json.dumps(header, separators=(",", ":")).encode()
    line += b" " * (-len(line) % 8)  # what follows must begin at a multiple of 8
    with open_atomic(path, "wb") as file:
        file.write(len(line).to_bytes(8, "little") + line)
        file.write(content[8 + size :])


def save_torch(path: str | os.PathLike, state: Mapping[str, Any]) -> None:
    """``torch.save`` whole or not at all; a full disk raises OSError, not torch's RuntimeError."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    with open_atomic(path, "wb") as file:
        file.write(buffer.getbuffer())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
